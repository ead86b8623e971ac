"""Which archs a training step visits, as a function of (seed, step) alone."""

import numpy as np

from wsx.errors import OptionError
from wsx.spaces import Arch, Space
from wsx.spaces.lists import pinned
from wsx.training.recipes import Recipe


class ArchSampler:
    """The archs of each step of a recipe.

    Raises:
        ArchError: The file of a listed measure is missing or wrong.
        UnknownNameError: The space has no such sampling measure.
        OptionError: The recipe samples fairly, and the space is no product of its decisions.
    """

    def __init__(self, space: Space, recipe: Recipe, *, seed: int) -> None:
        self._space = space
        self._recipe = recipe
        self._seed = seed
        self._measure = pinned(recipe.measure)
        space.population(self._measure)
        if recipe.sampler == "fair" and not space.is_product:
            raise OptionError(
                f"sampler fair combines options freely, and {space.name} refuses some combinations; "
                "use sampler uniform"
            )

    def __getitem__(self, step: int) -> list[Arch]:
        """Return the archs of a step; at least one."""
        rng = np.random.default_rng([self._seed, 2, step])
        if self._recipe.sampler == "fair":
            return self._fair(rng)
        return [
            self._space.draw(rng=rng, measure=self._measure) for _ in range(self._recipe.n_paths)
        ]

    def _fair(self, rng: np.random.Generator) -> list[Arch]:
        """Return archs that use every option of every decision equally often (FairNAS, 1907.01845)."""
        n_archs = max(self._space.n_options)
        columns = [
            [int(option) for option in rng.permutation(np.resize(rng.permutation(n), n_archs))]
            for n in self._space.n_options
        ]
        return [tuple(arch) for arch in zip(*columns, strict=True)]
