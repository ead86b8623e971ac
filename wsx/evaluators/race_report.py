"""What a race did, in numbers."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wsx.analysis.race import RaceRound, RaceRules
from wsx.evaluators.population import PopulationReport
from wsx.store.atomic import replace_bytes


@dataclass(frozen=True)
class Winner:
    """One arch of the top, and its exact score."""

    text: str
    correct: int
    total: int


@dataclass(frozen=True, kw_only=True)
class RaceReport(PopulationReport):
    """What a race did; its counts and ``n_eliminated`` add up to the archs asked for.

    Attributes:
        n_eliminated: Archs that left the race, and so got no score.
        rules: What was looked for.
        winners: The top archs, best first; ties in the order of the population.
        rounds: What happened round by round.
        n_images: Images that a score is made of.
        n_functions: Different functions in the race, those known before included.
        n_known: Functions whose scores the campaign held already; they cost nothing.
        n_references: Functions drawn by lot and scored on all images.
        n_evaluations: Images run through subnets.
        n_calibrated: Subnets whose BatchNorm statistics were measured.
        n_calibration_images: Images that one such measurement takes; 0 where there is none.
    """

    n_eliminated: int
    rules: RaceRules
    winners: list[Winner]
    rounds: list[RaceRound]
    n_images: int
    n_functions: int
    n_known: int
    n_references: int
    n_evaluations: int
    n_calibrated: int
    n_calibration_images: int

    @property
    def n_exhaustive(self) -> int:
        """Image evaluations that scoring every function takes that was not known."""
        return (self.n_functions - self.n_known) * self.n_images

    @property
    def factor(self) -> float | None:
        """How many times fewer image evaluations than exhaustive; None where nothing was run."""
        return self.n_exhaustive / self.n_evaluations if self.n_evaluations else None

    @property
    def factor_calibrated(self) -> float | None:
        """The same with the images counted that calibration takes; each subnet pays them once."""
        if not self.n_evaluations:
            return None
        n_extra = self.n_calibration_images
        n_exhaustive = self.n_exhaustive + n_extra * (self.n_functions - self.n_known)
        return n_exhaustive / (self.n_evaluations + n_extra * self.n_calibrated)

    def as_dict(self) -> dict[str, Any]:
        """Return the report, JSON-clean."""
        rules = {name: getattr(self.rules, name) for name in ("k", "delta", "tolerance", "seed")}
        return {
            **rules,
            "winners": [
                {**asdict(winner), "accuracy": winner.correct / winner.total}
                for winner in self.winners
            ],
            "rounds": [asdict(entry) for entry in self.rounds],
            "n_images": self.n_images,
            "n_functions": self.n_functions,
            "n_known": self.n_known,
            "n_references": self.n_references,
            "n_eliminated_archs": self.n_eliminated,
            "n_failed_archs": self.n_failed,
            "n_evaluations": self.n_evaluations,
            "n_exhaustive_evaluations": self.n_exhaustive,
            "factor": self.factor,
            "n_calibration_evaluations": self.n_calibration_images * self.n_calibrated,
            "factor_with_calibration": self.factor_calibrated,
        }

    def facts(self) -> dict[str, str]:
        """Return what matters most, for people."""
        factor, whole = self.factor, self.factor_calibrated
        best = [f"{w.text} {w.correct / w.total:.4f}" for w in self.winners]
        return {
            "functions": f"{self.n_functions}, {self.n_known} known",
            "image evaluations": f"{self.n_evaluations:,} of {self.n_exhaustive:,}",
            "times fewer": "nothing was run" if factor is None else f"{factor:.2f}",
            "calibration counted": "nothing was run" if whole is None else f"{whole:.2f}",
            "rounds": str(len(self.rounds)),
            f"top {self.rules.k}": "\n".join(best) or "none could be scored",
        }

    def write(self, path: Path) -> None:
        """Write the report as a JSON file; one that is there is replaced as a whole."""
        text = json.dumps(self.as_dict(), indent=2, allow_nan=False)
        replace_bytes(path, (text + "\n").encode())
