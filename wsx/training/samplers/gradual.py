"""Walks through the space, one decision at a time."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from wsx.errors import OptionError
from wsx.spaces import Arch, Space
from wsx.training.samplers._base import SAMPLERS, CostOf, Sampler

if TYPE_CHECKING:
    from wsx.training.recipes import Recipe

_MOST_DRAWS = 1000


@dataclass
class _Walk:
    """A walk as far as it was asked for."""

    number: int
    rng: np.random.Generator
    archs: list[Arch] = field(default_factory=list)


@SAMPLERS.register("gradual")
class Gradual(Sampler):
    """Each arch is a neighbour of the one before, drawn uniformly: they differ in one decision.

    MAGIC-T (2108.12821): what consecutive archs share is disturbed least. After every ``walk_length`` archs a walk
    starts anew from an arch drawn under the measure, so that a training is resumed without walking all its way
    again; the paper knows no restarts. Walks stay inside a measure that lists its archs, and do not start from one
    that has no neighbour there. Several paths of a step are steps of the walk; parallel ranks walk apart.

    Raises:
        OptionError: No arch of the measure has a neighbour in it.
    """

    def __init__(
        self, space: Space, recipe: "Recipe", *, seed: int, cost_of: CostOf | None = None
    ) -> None:
        super().__init__(space, recipe, seed=seed)
        self._inside = None if self.listed is None else frozenset(self.listed)
        self._walks: dict[int, _Walk] = {}
        self.archs(0, 0)

    def archs(self, step: int, rank: int) -> list[Arch]:
        """Return the next ``n_paths`` archs of the rank's walk."""
        first = step * self.recipe.n_paths
        return [self._at(first + path, rank) for path in range(self.recipe.n_paths)]

    def _at(self, position: int, rank: int) -> Arch:
        number, place = divmod(position, self.recipe.walk_length)
        walk = self._walks.get(rank)
        if walk is None or walk.number != number:
            walk = self._walks[rank] = _Walk(number, self.stream(number, rank))
            walk.archs.append(self._start(walk.rng))
        while len(walk.archs) <= place:
            neighbours = self._neighbours(walk.archs[-1])
            walk.archs.append(neighbours[int(walk.rng.integers(len(neighbours)))])
        return walk.archs[place]

    def _start(self, rng: np.random.Generator) -> Arch:
        for _ in range(_MOST_DRAWS):
            arch = self.draw(rng)
            if self._neighbours(arch):
                return arch
        raise OptionError(
            f"sampler gradual changes one decision at a time, and none of {_MOST_DRAWS} archs of "
            f"{self.space.name} drawn under {self.measure!r} has a neighbour there; choose a wider measure, or "
            "sampler uniform"
        )

    def _neighbours(self, arch: Arch) -> list[Arch]:
        found = self.space.neighbours(arch)
        return (
            found if self._inside is None else [other for other in found if other in self._inside]
        )
