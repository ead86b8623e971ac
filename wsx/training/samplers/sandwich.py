"""The sandwich rule: the largest arch, the smallest, and some between."""

from typing import TYPE_CHECKING

from wsx.errors import OptionError
from wsx.spaces import Arch, Space
from wsx.training.samplers._base import SAMPLERS, CostOf, Sampler
from wsx.training.samplers.extremes import extremes

if TYPE_CHECKING:
    from wsx.training.recipes import Recipe


@SAMPLERS.register("sandwich")
class Sandwich(Sampler):
    """Every step trains the largest arch, the smallest, and ``n_paths`` drawn under the measure.

    The rule of slimmable networks, as BigNAS (2003.11142) uses it. With ``distills`` the largest, which comes
    first, is the teacher of all others.

    Attributes:
        largest: The arch with most parameters.
        smallest: The arch with fewest.

    Raises:
        OptionError: Nobody says what archs cost, all cost the same, or the extremes cannot be found.
    """

    has_an_arch_per_path = False

    def __init__(
        self, space: Space, recipe: "Recipe", *, seed: int, cost_of: CostOf | None = None
    ) -> None:
        super().__init__(space, recipe, seed=seed)
        if cost_of is None:
            raise OptionError(
                f"sampler sandwich must know what archs of {space.name} cost; give the sampler a cost_of"
            )
        self.largest, self.smallest = extremes(space, self.listed, cost_of)

    def archs(self, step: int, rank: int) -> list[Arch]:
        """Return the largest arch, the smallest, and ``n_paths`` random ones."""
        rng = self.stream(step, rank)
        between = [self.draw(rng) for _ in range(self.recipe.n_paths)]
        return [self.largest, self.smallest, *between]
