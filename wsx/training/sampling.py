"""Which archs a training step visits, as a function of (seed, step) alone."""

from wsx.errors import OptionError
from wsx.spaces import Arch, Space
from wsx.training.recipes import Recipe
from wsx.training.samplers import SAMPLERS, CostOf


class ArchSampler:
    """The archs of each step of a recipe.

    Args:
        space: Where archs are drawn.
        recipe: Names the sampler, and all its numbers.
        seed: The run's seed.
        cost_of: What an arch costs; only sampler ``sandwich`` asks.

    Raises:
        ArchError: The file of a listed measure is missing or wrong.
        UnknownNameError: The space has no such sampling measure.
        OptionError: The sampler has no use for the space, or for the recipe's values.
    """

    def __init__(
        self, space: Space, recipe: Recipe, *, seed: int, cost_of: CostOf | None = None
    ) -> None:
        self.recipe = recipe
        self._sampler = SAMPLERS[recipe.sampler](space, recipe, seed=seed, cost_of=cost_of)

    def __getitem__(self, step: int) -> list[Arch]:
        """Return the archs of a step on all ranks, rank by rank; at least one."""
        return [arch for rank in range(self.recipe.n_ranks) for arch in self.archs(step, rank=rank)]

    def archs(self, step: int, *, rank: int) -> list[Arch]:
        """Return the archs of a step on one rank, the same ones on all unless ranks sample in parallel.

        Raises:
            OptionError: The recipe has no such rank.
        """
        n_ranks = self.recipe.n_ranks
        if not 0 <= rank < n_ranks:
            raise OptionError(f"rank is {rank}; it must lie in 0..{n_ranks - 1}")
        return self._sampler.archs(step, rank if self.recipe.parallel_sampling else 0)
