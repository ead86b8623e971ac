"""Which archs a training step visits, as a function of (seed, step) alone."""

import numpy as np

from wsx.spaces import Arch, Space
from wsx.training.recipes import Recipe


class ArchSampler:
    """The archs of each step of a recipe.

    Raises:
        UnknownNameError: The space has no such sampling measure.
    """

    def __init__(self, space: Space, recipe: Recipe, *, seed: int) -> None:
        self._space = space
        self._recipe = recipe
        self._seed = seed
        self._population = space.population(recipe.measure)

    def __getitem__(self, step: int) -> list[Arch]:
        """Return the archs of a step; at least one."""
        rng = np.random.default_rng([self._seed, 2, step])
        if self._recipe.sampler == "fair":
            return self._fair(rng)
        if self._population is not None:
            rows = rng.integers(len(self._population), size=self._recipe.n_paths)
            return [self._population[int(row)] for row in rows]
        return self._space.sample(
            self._recipe.n_paths, rng=rng, measure=self._recipe.measure, has_repeats=True
        )

    def _fair(self, rng: np.random.Generator) -> list[Arch]:
        """Return archs that use every option of every decision equally often (FairNAS, 1907.01845)."""
        n_archs = max(self._space.n_options)
        columns = [
            [int(option) for option in rng.permutation(np.resize(rng.permutation(n), n_archs))]
            for n in self._space.n_options
        ]
        return [tuple(arch) for arch in zip(*columns, strict=True)]
