"""One arch after another, all of them in every pass."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsx.errors import OptionError
from wsx.spaces import Arch, Space
from wsx.training.samplers._base import SAMPLERS, CostOf, Sampler

if TYPE_CHECKING:
    from wsx.training.recipes import Recipe

MOST_ARCHS = 1_000_000
"""Archs of the longest pass."""


@SAMPLERS.register("round-robin")
class RoundRobin(Sampler):
    """Every arch of the measure once a pass (P3, 2001.01431, section 3.2).

    The order is that of the measure (``fixed``), one shuffle of it for the whole training (``shuffled``), or a new
    shuffle for every pass (``reshuffled``). Shuffles follow from the run's seed and ``order_seed``: P3 varies the
    order of children alone. Several paths and parallel ranks take the archs that come next.

    Raises:
        OptionError: The measure has too many archs for a pass to be of use.
    """

    def __init__(
        self, space: Space, recipe: "Recipe", *, seed: int, cost_of: CostOf | None = None
    ) -> None:
        super().__init__(space, recipe, seed=seed)
        self._n = space.n_archs if self.listed is None else len(self.listed)
        if self._n > MOST_ARCHS:
            raise OptionError(
                f"sampler round-robin visits every arch once a pass, and {space.name} has {self._n:,} under "
                f"{self.measure!r}, more than {MOST_ARCHS:,}; name some with measure=list:PATH, or use "
                "sampler uniform"
            )
        self._order: tuple[int, Sequence[int]] = (-1, ())

    def archs(self, step: int, rank: int) -> list[Arch]:
        """Return the next ``n_paths`` archs."""
        n_paths = self.recipe.n_paths
        first = (step * self.recipe.n_drawing_ranks + rank) * n_paths
        return [self._at(position) for position in range(first, first + n_paths)]

    def _at(self, position: int) -> Arch:
        n_passes, place = divmod(position, self._n)
        if self.recipe.order != "fixed":
            place = self._shuffle(n_passes if self.recipe.order == "reshuffled" else 0)[place]
        return self.space.arch_at(place) if self.listed is None else self.listed[place]

    def _shuffle(self, number: int) -> Sequence[int]:
        if self._order[0] != number:
            rng = self.stream(number, self.recipe.order_seed)
            self._order = (number, rng.permutation(self._n).tolist())
        return self._order[1]
