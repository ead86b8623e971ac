"""Weights shared inside groups of archs only: a supernet of supernets.

Zhang et al., "Deeper Insights into Weight Sharing in Neural Architecture Search" (arXiv 2001.01431): groups of
archs share nothing with each other, or just a part such as the stem and the first cells. With one group per option
of a decision these are the sub-supernets of few-shot search (Zhao et al., arXiv 2006.06863).
"""

from collections.abc import Callable
from typing import Any

import torch

from wsx.spaces import Arch, Space
from wsx.supernets._base import Supernet
from wsx.supernets.groupings import Grouping
from wsx.supernets.parts import parts_of, share


class GroupedSupernet(Supernet):
    """One member per group of archs; shared parts are one object in all of them.

    Members are initialised one after another, so that they differ where they are private. A weight that a step
    does not use has no gradient, so the optimiser leaves it and its momentum alone: those of a group stand still
    while another one trains.

    Args:
        space: The archs, all in groups.
        make: Makes a member, initialised afresh each time.
        grouping: Which group an arch is in.
        shared: What all members share, see ``wsx.supernets.parts``.

    Attributes:
        members: The supernets, by the number of the group.
        grouping: Which group an arch is in.
        aliases: Names of shared tensors in later members, and the names that they are stored under.

    Raises:
        OptionError: What is shared is not there.
    """

    def __init__(
        self, space: Space, make: Callable[[], Supernet], grouping: Grouping, shared: str
    ) -> None:
        members = [make() for _ in range(grouping.n_groups)]
        super().__init__(space, members[0].options)
        share(members, parts_of(members[0], shared))
        self.members = torch.nn.ModuleList(members)
        self.grouping = grouping
        self.aliases = _aliases(self)
        self.register_state_dict_post_hook(_drop_aliases)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_fill_aliases)  # type: ignore[no-untyped-call]

    @property
    def nets(self) -> list[Supernet]:
        """The members, by the number of the group."""
        return [member for member in self.members if isinstance(member, Supernet)]

    def forward(self, x: torch.Tensor, arch: Arch) -> Any:
        """Return what the member of the arch's group computes."""
        return self.members[self.grouping.of(arch)](x, arch)

    def macro(self) -> dict[str, int]:
        """Return the options that a subnet's cost depends on."""
        return self.nets[0].macro()


def _aliases(supernet: GroupedSupernet) -> dict[str, str]:
    """Return the names under which tensors are found again in later members, and their first names."""
    first: dict[int, str] = {}
    aliases = {}
    for named in (supernet.named_parameters, supernet.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            kept = first.setdefault(id(tensor), name)
            if kept != name:
                aliases[name] = kept
    return aliases


def _drop_aliases(
    supernet: GroupedSupernet, state: dict[str, torch.Tensor], prefix: str, _: Any
) -> None:
    """Keep each shared tensor once in a state: files refuse tensors that are one and the same."""
    for alias in supernet.aliases:
        state.pop(prefix + alias, None)


def _fill_aliases(
    supernet: GroupedSupernet, state: dict[str, torch.Tensor], prefix: str, *others: Any
) -> None:
    *_, errors = others
    for alias, kept in supernet.aliases.items():
        if prefix + alias in state:
            errors.append(f"{alias} is stored, and {kept} is shared in its place")
        if prefix + kept in state:
            state[prefix + alias] = state[prefix + kept]
