"""What a search may try: archs of a space, or of a part of it, within limits on their cost."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from wsx.errors import ArchError, OptionError, WsxError
from wsx.spaces import Arch, Cost, Space
from wsx.spaces.choice import MAX_ENUMERATED

MAX_TRIES = 20_000
"""Draws in a row that may be refused before a search gives up."""


@dataclass(frozen=True)
class Limits:
    """Bounds on what an arch costs, both ends allowed; None for no bound.

    Attributes:
        min_params: Least number of parameters.
        max_params: Most parameters.
        min_flops: Least multiply-adds for one image.
        max_flops: Most multiply-adds for one image.

    Raises:
        OptionError: A bound is negative or no number, or no cost satisfies both.
    """

    min_params: float | None = None
    max_params: float | None = None
    min_flops: float | None = None
    max_flops: float | None = None

    def __post_init__(self) -> None:
        for name, bound in asdict(self).items():
            if bound is not None and not 0 <= bound < math.inf:
                raise OptionError(
                    f"--{name.replace('_', '-')} is {bound}; it must be a number of at least 0"
                )
        pairs = {
            "params": (self.min_params, self.max_params),
            "flops": (self.min_flops, self.max_flops),
        }
        for name, (low, high) in pairs.items():
            if low is not None and high is not None and low > high:
                raise OptionError(
                    f"--min-{name} {low:g} exceeds --max-{name} {high:g}; no arch satisfies both"
                )

    @property
    def is_free(self) -> bool:
        """Whether there is no bound at all."""
        return self == Limits()

    def allow(self, cost: Cost) -> bool:
        """Return whether a cost lies within the limits; one that is not known does not."""
        return _lies_in(cost.params, self.min_params, self.max_params) and _lies_in(
            cost.flops, self.min_flops, self.max_flops
        )

    def as_dict(self) -> dict[str, float]:
        """Return the bounds there are, by name."""
        return {name: bound for name, bound in asdict(self).items() if bound is not None}


def _lies_in(n: int, low: float | None, high: float | None) -> bool:
    if low is None and high is None:
        return True
    return n >= 0 and (low is None or n >= low) and (high is None or n <= high)


class Candidates:
    """The archs that a search may try.

    Args:
        space: Of the archs.
        measure: What draws are uniform over, as for ``Space.population``; None takes the space's first.
        only: The archs that draws are uniform over instead, and that a search is confined to.
        contains: Whether an arch may be tried at all; None allows every arch, or those of ``only``.
        limits: Bounds on costs.
        cost: Params and multiply-adds of an arch; where it fails the arch is refused. Not asked without limits.

    Raises:
        OptionError: Both ``measure`` and ``only`` are given, ``only`` is empty, or limits have no cost to go by.
        UnknownNameError: The space has no such measure.
    """

    def __init__(
        self,
        space: Space,
        *,
        measure: str | None = None,
        only: Sequence[Arch] | None = None,
        contains: Callable[[Arch], bool] | None = None,
        limits: Limits | None = None,
        cost: Callable[[Arch], Cost] | None = None,
    ) -> None:
        if only is not None and not only:
            raise OptionError("there are no archs to search among")
        if only is not None and measure is not None:
            raise OptionError(
                f"--measure {measure} is of no use here: the search is confined to {len(only)} archs, which are "
                "drawn uniformly; leave it out"
            )
        self.space = space
        self.limits = limits or Limits()
        if cost is None and not self.limits.is_free:
            raise OptionError(f"the limits {self.limits.as_dict()} need a cost to go by")
        self.measure = next(iter(space.measures)) if measure is None else measure
        self.only = None if only is None else list(only)
        self._listed = space.population(self.measure) if only is None else self.only
        self._contains = set(only).__contains__ if contains is None and only else contains
        self._cost = cost
        self._is_within: dict[Arch, bool] = {}
        self._n_tried = self._n_allowed = 0

    @property
    def n_archs(self) -> int:
        """How many archs there are, limits aside."""
        return self.space.n_archs if self.only is None else len(self.only)

    def is_allowed(self, arch: Arch) -> bool:
        """Return whether an arch may be tried."""
        if self._contains is not None and not self._contains(arch):
            return False
        if self._cost is None or self.limits.is_free:
            return True
        if arch not in self._is_within:
            try:
                self._is_within[arch] = self.limits.allow(self._cost(arch))
            except WsxError:
                # A subnet that cannot be recorded has no cost, and could not be scored either.
                self._is_within[arch] = False
        return self._is_within[arch]

    def sample(self, n: int, *, rng: np.random.Generator) -> list[Arch]:
        """Return n different archs, drawn uniformly among those allowed.

        Raises:
            OptionError: There are fewer, or none turned up in ``MAX_TRIES`` draws.
        """
        found: dict[Arch, None] = {}
        n_refused = 0
        for arch in self._draws(rng):
            if arch not in found and self._is_accepted(arch):
                found[arch], n_refused = None, 0
                if len(found) == n:
                    return list(found)
            else:
                n_refused += 1
            if n_refused >= MAX_TRIES:
                raise self.exhausted(f"no other arch to draw after {len(found)} of {n}")
        raise self.exhausted(f"cannot draw {n} different archs: there are {len(found)}")

    def mutate(self, parent: Arch, *, rng: np.random.Generator) -> Arch | None:
        """Return a neighbour of an arch, drawn uniformly; None where that one is refused or there is none."""
        try:
            child = self.space.mutate(parent, rng=rng)
        except ArchError:
            self._n_tried += 1
            return None
        return child if self._is_accepted(child) else None

    def exhausted(self, what: str) -> OptionError:
        """Return the error for a search that finds nothing more, with the share of draws that were allowed."""
        share = self._n_allowed / self._n_tried if self._n_tried else 0.0
        limits = ", ".join(f"{name} {bound:g}" for name, bound in self.limits.as_dict().items())
        return OptionError(
            f"{what}; {self._n_allowed} of {self._n_tried} draws from {self.space.name} were allowed "
            f"({share:.2%}), limits: {limits or 'none'}. Widen them, or lower --budget and --population"
        )

    def _is_accepted(self, arch: Arch) -> bool:
        is_allowed = self.is_allowed(arch)
        self._n_tried += 1
        self._n_allowed += is_allowed
        return is_allowed

    def _draws(self, rng: np.random.Generator) -> Iterator[Arch]:
        """Yield every arch once in random order where they can be counted, else draws without end."""
        n_all = self.space.n_archs if self._listed is None else len(self._listed)
        if n_all > MAX_ENUMERATED:
            while True:
                yield self.space.draw(rng=rng, measure=self.measure)
        for index in rng.permutation(n_all).tolist():
            yield self.space.arch_at(index) if self._listed is None else self._listed[index]
