"""Strict fairness: a step uses every option of a decision equally often."""

from typing import TYPE_CHECKING

import numpy as np

from wsx.errors import OptionError
from wsx.spaces import Arch, Space
from wsx.training.samplers._base import SAMPLERS, CostOf, Sampler

if TYPE_CHECKING:
    from wsx.training.recipes import Recipe


@SAMPLERS.register("fair")
class Fair(Sampler):
    """For each fair decision an independent permutation of its options, shared out to the archs of a step.

    A step has as many archs as the widest fair decision has options, so that each of these is used once; a
    decision with fewer options uses each equally often, or, where that does not come out, some once more than
    others, these drawn anew for each step. Neither ``n_paths`` nor ``measure`` counts: options are combined
    freely. FairNAS (1907.01845), P1 (2010.08219, its multi-path training with fairness) and P2 (2110.01154, its
    ``v1``) sum the gradients of a step.

    A recipe's ``fair_decisions`` confines fairness to the decisions whose names begin so. All others are those of
    archs drawn under the measure, one for each path: P1's fair operations on freely drawn topologies of
    NAS-Bench-101.

    Raises:
        OptionError: All decisions are to be fair and the space is no product of them, or none is named so.
    """

    has_an_arch_per_path = False

    def __init__(
        self, space: Space, recipe: "Recipe", *, seed: int, cost_of: CostOf | None = None
    ) -> None:
        super().__init__(space, recipe, seed=seed)
        prefix = recipe.fair_decisions
        names = [decision.name for decision in space.decisions]
        self._places = [place for place, name in enumerate(names) if name.startswith(prefix)]
        if not self._places:
            raise OptionError(
                f"no decision of {space.name} begins with fair_decisions {prefix!r}; they are "
                f"{', '.join(names):.300}"
            )
        self._is_partial = len(self._places) < len(names)
        if not self._is_partial and not space.is_product:
            raise OptionError(
                f"sampler fair combines options freely, and {space.name} refuses some combinations; "
                "use sampler uniform, or name decisions that are free of the others by fair_decisions"
            )
        self._n_archs = max(len(space.allowed_options[place]) for place in self._places)

    def archs(self, step: int, rank: int) -> list[Arch]:
        """Return as many archs as the widest fair decision has options."""
        rng = self.stream(step, rank)
        columns = [self._column(place, rng) for place in self._places]
        rows: list[Arch] = list(zip(*columns, strict=True))
        return [self._completed(row, rng) for row in rows] if self._is_partial else rows

    def _column(self, place: int, rng: np.random.Generator) -> list[int]:
        options = self.space.allowed_options[place]
        order = rng.permutation(np.resize(rng.permutation(len(options)), self._n_archs))
        return [options[i] for i in order]

    def _completed(self, row: Arch, rng: np.random.Generator) -> Arch:
        drawn = list(self.draw(rng))
        for place, option in zip(self._places, row, strict=True):
            drawn[place] = option
        arch = tuple(drawn)
        if not self.space.is_valid(arch):
            raise OptionError(
                f"fair_decisions {self.recipe.fair_decisions!r}: not every combination of their options is an "
                f"arch of {self.space.name}, {arch} is none; name decisions that are free of the others"
            )
        return arch
