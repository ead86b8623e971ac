"""Random search: archs drawn uniformly, none twice. The thing that every other search has to beat."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from wsx.errors import OptionError
from wsx.search._base import ALGORITHMS, Batches
from wsx.search.candidates import Candidates


@dataclass(frozen=True)
class RandomSearch:
    """Draws all archs at once, so that they are scored as one population.

    Attributes:
        budget: How many.

    Raises:
        OptionError: It is below one.
    """

    budget: int

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise OptionError(f"--budget is {self.budget}; it must be at least 1")

    def batches(self, candidates: Candidates, rng: np.random.Generator) -> Batches:
        """Yield one batch of different archs."""
        yield candidates.sample(self.budget, rng=rng)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings."""
        return {"algorithm": "random", "budget": self.budget}


ALGORITHMS.register("random")(RandomSearch)
