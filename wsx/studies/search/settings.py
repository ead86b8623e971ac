"""What a search looks for, and how."""

from dataclasses import dataclass, field
from typing import Any

from wsx.errors import OptionError
from wsx.search import Algorithm, Candidates, Limits
from wsx.spaces.lists import pinned
from wsx.studies.images import SPLITS


@dataclass(frozen=True)
class SearchSettings:
    """What to look for, and how.

    Attributes:
        algorithm: Decides what to try next.
        seed: Of everything that is drawn.
        limits: Bounds on costs.
        measure: What random archs are drawn uniformly over, as for ``Space.population``; None takes the space's
            first.
        by: What archs are ranked by with shared weights, ``accuracy`` or ``loss``.
        top: How many winners.
        truth: What ``load_truth`` takes; None compares with no truth.
        rescore_split: The split that winners are scored on again, whole; None for none.
    """

    algorithm: Algorithm
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    measure: str | None = None
    by: str = "accuracy"
    top: int = 10
    truth: str | None = None
    rescore_split: str | None = None

    def __post_init__(self) -> None:
        """Refuse before the search what would be refused after it.

        Raises:
            OptionError: There is no winner to be, no such split, or a seed that no generator takes.
        """
        if self.top < 1:
            raise OptionError(f"--top is {self.top}; it must be at least 1")
        if self.seed < 0:
            raise OptionError(f"--seed is {self.seed}; it must be at least 0")
        if self.rescore_split is not None and self.rescore_split not in SPLITS:
            raise OptionError(f"split {self.rescore_split!r} is none of: {', '.join(SPLITS)}")

    def facts(self, candidates: Candidates) -> dict[str, Any]:
        """Return all that decides the outcome besides the scores, JSON-clean."""
        return {
            **self.algorithm.as_dict(),
            "seed": self.seed,
            "limits": self.limits.as_dict(),
            "by": self.by,
            **(
                {"measure": pinned(candidates.measure)}
                if candidates.only is None
                else {"n_archs": len(candidates.only)}
            ),
        }
