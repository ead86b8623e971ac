"""What a contract is: a promise of a space or its supernet, checked on archs that cover every option."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from wsx.contracts.cover import BreachError, covering_archs
from wsx.errors import MissingExtraError, OptionError, WsxError
from wsx.spaces import Arch, Space
from wsx.supernets import Supernet

Figures = dict[str, Any]
N_IMAGES = 6


class ContractError(WsxError, AssertionError):
    """A space or supernet that breaks a contract.

    Attributes:
        contract: Name of the contract.
        arch: Text form of the offending arch; None where no single one is to blame.
    """

    def __init__(self, contract: str, space: str, message: str, arch: str | None) -> None:
        where = "" if arch is None else f", arch {arch}"
        super().__init__(f"{space} breaks the contract {contract!r}{where}: {message}")
        self.contract = contract
        self.arch = arch


@dataclass(frozen=True)
class Subject:
    """A space with its supernet, and the archs that contracts are checked on.

    Attributes:
        space: The space.
        make: Makes a freshly initialised supernet, always the same; raises WsxError where there is none.
        n_archs: How many archs at least; more where it takes more to cover every option.
        seed: Of the archs, the random weights and the inputs.
    """

    space: Space
    make: Callable[[], Supernet]
    n_archs: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse fewer than one arch.

        Raises:
            OptionError: ``n_archs`` is below one.
        """
        if self.n_archs < 1:
            raise OptionError(f"n_archs is {self.n_archs}; it must be at least 1")

    @cached_property
    def archs(self) -> list[Arch]:
        """Different archs which between them have every option of every decision."""
        return covering_archs(self.space, self.n_archs, np.random.default_rng(self.seed))

    @property
    def uncovered(self) -> tuple[str, ...]:
        """Options that none of the archs has, because no arch was found that does."""
        seen = {(place, option) for arch in self.archs for place, option in enumerate(arch)}
        return tuple(
            f"{decision.name}={text}"
            for place, decision in enumerate(self.space.decisions)
            for option, text in enumerate(decision.options)
            if (place, option) not in seen
        )

    @cached_property
    def supernet(self) -> Supernet:
        """The supernet in evaluation mode, with norm weights and averages that are not their defaults."""
        return randomised(self.make(), self.generator()).eval()

    @cached_property
    def double(self) -> Supernet:
        """The same in float64."""
        return copy.deepcopy(self.supernet).double()

    def generator(self) -> torch.Generator:
        """Return a fresh generator, always in the same state."""
        return torch.Generator().manual_seed(self.seed)

    def inputs(self, n: int = N_IMAGES, *, skip: int = 0) -> list[torch.Tensor]:
        """Return inputs of n images in float64 where they are floats, after the first ``skip`` images."""
        tensors = self.supernet.example_inputs(skip + n, self.generator())
        return [t[skip:].double() if t.is_floating_point() else t[skip:] for t in tensors]

    @contextmanager
    def checking(self, arch: Arch) -> Iterator[None]:
        """Blame an arch for whatever goes wrong inside the block."""
        try:
            yield
        except (BreachError, MissingExtraError):
            raise
        except Exception as error:
            raise BreachError(f"{type(error).__name__}: {error}", arch) from error


@torch.no_grad()
def randomised(supernet: Supernet, generator: torch.Generator) -> Supernet:
    """Give weights that are all equal, and running averages, values that a wrong slice or order would show."""
    for name, tensor in [*supernet.named_parameters(), *supernet.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        if name.endswith("running_var"):
            tensor.copy_(0.5 + noise.abs())
        elif name.endswith("running_mean"):
            tensor.copy_(0.3 * noise)
        elif bool((tensor == tensor.reshape(-1)[:1]).all()):
            tensor.add_(0.3 * noise)
    return supernet


Contract = Callable[[Subject], Figures]


@dataclass(frozen=True)
class Report:
    """Contracts that hold.

    Attributes:
        space: Name of the space.
        n_archs: Archs they were checked on; some look at more.
        uncovered: Options that no arch was found for, such as ``kernel=7``; none where all combinations are archs.
        passed: What was measured, by contract.
        left_out: Contracts that do not apply, and why.
    """

    space: str
    n_archs: int
    uncovered: tuple[str, ...]
    passed: Mapping[str, Figures]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the report, JSON-clean."""
        passed = {name: dict(figures) for name, figures in self.passed.items()}
        return {
            "space": self.space,
            "n_archs": self.n_archs,
            "uncovered": list(self.uncovered),
            "passed": passed,
            "left_out": dict(self.left_out),
        }
