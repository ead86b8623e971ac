"""One arch with several copies of each of its operations: what sharing costs where all archs are the same.

Zhang et al. (arXiv 2010.08219, ``augmented_space --replicate`` of the released code) let every choice hold copies
of one arch's operation, alike but for their weights, and use a random one in each forward. All combinations of
copies are one architecture, so what accuracy is lost against the arch alone is the price of sharing and sampling.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from wsx.errors import OptionError
from wsx.spaces import Arch, ProductSpace, Space
from wsx.supernets._base import Supernet

MAX_COPIES = 64


@dataclass(frozen=True)
class _Choices:
    """Where a supernet calls its candidate operations.

    Attributes:
        blocks: Fits the names of the modules that are called with the number of an option; the group is the number
            of the decision among those that choose operations.
        position: Which argument of the call the number of the option is.
        prefix: How the names of decisions that choose operations begin.
        common: Name of what a block holds beside its operations; copies share it.
    """

    blocks: str
    position: int = 1
    prefix: str = ""
    common: str = ""

    def places(self, space: Space) -> list[int]:
        """Return the places of the decisions that choose operations."""
        return [i for i, d in enumerate(space.decisions) if d.name.startswith(self.prefix)]


_CHOICES = {
    "nasbench201": _Choices(r"stages\.\d+\.\d+\.edges\.(\d+)"),
    "cell64": _Choices(r"cells\.\d+\.edges\.(\d+)"),
    "nasbenchmacro": _Choices(r"layers\.(\d+)"),
    "nasbench101": _Choices(r"stacks\.\d+\.\d+\.vertices\.(\d+)", 2, "op", "projection"),
}


def replicated_space(base: Space, arch: Arch, n_copies: int) -> ProductSpace:
    """Return the space of all combinations of copies; its texts read ``0-1=2,0-2=0,...``.

    Decisions are those of the base that choose an operation, apart from ``none``.

    Raises:
        OptionError: There are too few or too many copies, or the supernet's operations cannot be copied.
    """
    if not 1 <= n_copies <= MAX_COPIES:
        raise OptionError(f"there may be 1 to {MAX_COPIES} copies, not {n_copies}")
    if base.supernet not in _CHOICES:
        raise OptionError(
            f"operations of {base.name} cannot be copied; those of {', '.join(_CHOICES)} can"
        )
    places = _replicated_places(base, arch)
    if not places:
        raise OptionError(f"arch {base.format(arch)} has no operation to copy")
    names = [re.sub(r"[^\w.]+", "-", base.decisions[place].name) for place in places]
    return ProductSpace(
        f"{base.name}-copies",
        dict.fromkeys(names, range(n_copies)),
        summary=f"{n_copies} copies of each operation of {base.format(arch)} of {base.name}",
    )


def _replicated_places(base: Space, arch: Arch) -> list[int]:
    arch = base.check(arch)
    places = _CHOICES[base.supernet].places(base)
    return [place for place in places if base.decisions[place].options[arch[place]] != "none"]


class Copies(nn.ModuleList):
    """Copies of a block; the number of one, from 1, stands where the number of the option stood."""

    def __init__(self, copies: Sequence[nn.Module], option: int, position: int) -> None:
        super().__init__(copies)
        self._option = option
        self._position = position

    def forward(self, *args: Any) -> Any:
        """Return what the option of the chosen copy computes."""
        arguments = list(args)
        copy, arguments[self._position] = arguments[self._position], self._option
        return self[copy - 1](*arguments)


class ReplicatedSupernet(Supernet):
    """One arch of a supernet, each of whose operations is there several times.

    Args:
        base: The space of the arch.
        make: Makes a supernet of that space, initialised afresh each time.
        arch: The arch.
        n_copies: How many copies of each operation.

    Raises:
        OptionError: The operations cannot be copied.
    """

    def __init__(
        self, base: Space, make: Callable[[], Supernet], arch: Arch, n_copies: int
    ) -> None:
        space = replicated_space(base, arch, n_copies)
        net, *others = [make() for _ in range(n_copies)]
        super().__init__(space, net.options)
        self._fixed = base.check(arch)
        self._places = _replicated_places(base, arch)
        _install(base, net, others, self._fixed)
        # The net reads numbers of copies where its own space has options.
        net.space = ProductSpace(
            space.name, {f"d{i}": range(n_copies + 1) for i in range(len(arch))}
        )
        self.net = net

    def forward(self, x: torch.Tensor, arch: Arch) -> Any:
        """Return logits (image, class) of images under a choice of copies."""
        routed = list(self._fixed)
        for place, copy in zip(self._places, arch, strict=True):
            routed[place] = copy + 1
        return self.net(x, tuple(routed))

    def macro(self) -> dict[str, int]:
        """Return the options that a subnet's cost depends on."""
        return self.net.macro()


def _install(base: Space, net: Supernet, others: Sequence[Supernet], arch: Arch) -> None:
    """Put copies, one from each net, in the place of the blocks that choose an operation."""
    choices = _CHOICES[base.supernet]
    places = choices.places(base)
    found = set()
    for name, block in list(net.named_modules()):
        if (match := re.fullmatch(choices.blocks, name)) is None:
            continue
        place = places[int(match[1])]
        found.add(place)
        copies = [block, *(other.get_submodule(name) for other in others)]
        if choices.common:
            for copy in copies[1:]:
                copy.add_module(choices.common, block.get_submodule(choices.common))
        net.set_submodule(name, Copies(copies, arch[place], choices.position))
    if found != set(places):
        raise OptionError(
            f"decisions of {base.name} share operations here; set the macro option shares to edge"
        )
