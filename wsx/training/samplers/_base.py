"""What every sampler is given, and where its randomness comes from."""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from wsx.registry import Registry
from wsx.spaces import Arch, Cost, Space
from wsx.spaces.lists import pinned

if TYPE_CHECKING:
    from wsx.training.recipes import Recipe

CostOf = Callable[[Arch], Cost]
"""Says what an arch costs under the macro options of the supernet that is trained."""

_ARCH_STREAM = 2


class Sampler(abc.ABC):
    """Chooses the archs of a step, as a function of (seed, step, rank) alone.

    Args:
        space: Where archs are drawn.
        recipe: All numbers.
        seed: The run's seed.
        cost_of: What archs cost; only some samplers ask.

    Raises:
        ArchError: The file of a listed measure is missing or wrong.
        UnknownNameError: The space has no such sampling measure.
        OptionError: The sampler has no use for the space, or for the recipe's values.
    """

    has_an_arch_per_path: ClassVar[bool] = True
    """Whether a step of n paths has n archs; otherwise it has more."""

    def __init__(
        self, space: Space, recipe: "Recipe", *, seed: int, cost_of: CostOf | None = None
    ) -> None:
        self.space = space
        self.recipe = recipe
        self.measure = pinned(recipe.measure)
        self.listed = space.population(self.measure)
        self._seed = seed

    @abc.abstractmethod
    def archs(self, step: int, rank: int) -> list[Arch]:
        """Return the archs of a step on a rank; at least one."""

    def draw(self, rng: np.random.Generator) -> Arch:
        """Return an arch drawn uniformly under the measure."""
        return self.space.draw(rng=rng, measure=self.measure)

    def stream(self, number: int, key: int) -> np.random.Generator:
        """Return the generator of a step, a pass or a walk: one for each number and key."""
        spawn_key = (key,) if key else ()
        sequence = np.random.SeedSequence([self._seed, _ARCH_STREAM, number], spawn_key=spawn_key)
        return np.random.default_rng(sequence)


SAMPLERS: Registry[type[Sampler]] = Registry("sampler")
