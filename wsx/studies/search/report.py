"""What a search found, with the uncertainty of its numbers."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from wsx.search import Candidates, Standing, Trial, TruthLookup
from wsx.spaces import Arch, Cost, Space
from wsx.store import Score, ScoreKey
from wsx.truth import TruthTable

LEVEL = 0.95


@dataclass(frozen=True)
class Measured:
    """An accuracy with its interval at 95 %.

    Attributes:
        accuracy: A fraction in [0, 1].
        low: Lower end of the interval, nan where there is none.
        high: Upper end, likewise.
        n_images: Images that each accuracy behind it was measured on.
        n_seeds: Trainings behind it.
    """

    accuracy: float
    low: float
    high: float
    n_images: int
    n_seeds: int = 1

    @classmethod
    def of_score(cls, score: Score) -> "Measured | None":
        """Return the accuracy of a score, None where it has none."""
        return cls.of_count(score.correct, score.total) if score.status == "ok" else None

    @classmethod
    def of_count(cls, n_correct: int, n_images: int) -> "Measured":
        """Return the accuracy of a count, with Wilson's interval over images (JASA 22, 1927)."""
        found = stats.binomtest(n_correct, n_images).proportion_ci(LEVEL, method="wilson")
        return cls(n_correct / n_images, float(found.low), float(found.high), n_images)

    @classmethod
    def of_seeds(cls, accuracies: Sequence[float], n_images: int) -> "Measured":
        """Return the mean over trainings with Student's interval over seeds; of one training, over images."""
        n = len(accuracies)
        if n == 1:
            return cls.of_count(round(accuracies[0] * n_images), n_images)
        mean = float(np.mean(accuracies))
        half = stats.t.isf((1 - LEVEL) / 2, n - 1) * np.std(accuracies, ddof=1) / math.sqrt(n)
        return cls(mean, max(0.0, mean - float(half)), min(1.0, mean + float(half)), n_images, n)


@dataclass(frozen=True)
class Winner:
    """One of the best archs.

    Attributes:
        arch: The arch.
        text: Its text form.
        value: What it was ranked by, larger is better.
        cost: Params and multiply-adds; None where unknown.
        searched: Its accuracy on the images of the search; None on a truth table.
        loss: Its mean loss there, in nats; None likewise.
        rescored: Its accuracy on images that took no part in the search; None where not asked for, or failed.
        standing: Where it stands in the truth; None where there is none, or it does not know the arch.
        alone: Its accuracy trained alone; None where not asked for.
    """

    arch: Arch
    text: str
    value: float
    cost: Cost | None
    searched: Measured | None = None
    loss: float | None = None
    rescored: Measured | None = None
    standing: Standing | None = None
    alone: Measured | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what is known of the winner, JSON-clean."""
        values = {**asdict(self), "arch": self.text}
        del values["text"]
        return values


@dataclass(frozen=True)
class SearchReport:
    """What a search did and found.

    Attributes:
        space: Of the archs.
        settings: All that decided the outcome, JSON-clean.
        trials: In order; an arch may be there again.
        winners: Best first; of archs that compute the same function one.
        key: Of the campaign that holds the scores; None on a truth table.
        split: What was searched on; empty on a truth table.
        rescore_split: What the winners were scored on again; None where they were not.
        truth: The truth table; None without.
        n_run: Subnets run now.
        n_there_already: Archs whose scores were there before.
        n_failed: Archs that could not be scored.
    """

    space: Space
    settings: dict[str, Any]
    trials: list[Trial]
    winners: list[Winner]
    key: ScoreKey | None = None
    split: str = ""
    rescore_split: str | None = None
    truth: TruthTable | None = None
    n_run: int = 0
    n_there_already: int = 0
    n_failed: int = 0

    @property
    def n_different(self) -> int:
        """Archs that were tried at least once."""
        return len({trial.arch for trial in self.trials})

    def improvements(self) -> list[dict[str, Any]]:
        """Return the trials that were better than all before them, counted from 1."""
        found: list[dict[str, Any]] = []
        best = -math.inf
        for n, trial in enumerate(self.trials, 1):
            # Nothing is above nan, and nan is above nothing.
            if trial.value > best:
                best = trial.value
                text = self.space.format(trial.arch)
                found.append({"trial": n, "arch": text, "value": trial.value})
        return found

    def with_alone(self, table: TruthTable) -> "SearchReport":
        """Return the report with the winners' stand-alone accuracies from a table."""
        assert table.per_seed is not None
        rows = dict(zip(table.texts, table.per_seed.tolist(), strict=True))
        n_images = int(table.info["n_images"])
        winners = [
            replace(winner, alone=Measured.of_seeds(rows[winner.text], n_images))
            for winner in self.winners
        ]
        return replace(self, winners=winners)

    def notes(self) -> list[str]:
        """Return what to bear in mind when reading the winners' numbers."""
        notes = []
        best = self.winners[0]
        if best.searched is not None:
            notes.append(
                f"searched: shared weights on {best.searched.n_images:,} {self.split} images, {LEVEL:.0%} "
                f"interval over images. These images chose the best of {self.n_different} archs, so the winners' "
                "numbers are optimistic."
            )
        if best.rescored is not None:
            notes.append(
                f"rescored: shared weights on {best.rescored.n_images:,} {self.rescore_split} images, which chose "
                "nothing."
            )
        if best.alone is not None:
            notes.append(
                f"alone: trained from scratch with {best.alone.n_seeds} seeds, on {best.alone.n_images:,} test "
                f"images; interval over {'seeds' if best.alone.n_seeds > 1 else 'images'}."
            )
        if self.truth is not None:
            n = max((w.standing.n_ranked for w in self.winners if w.standing), default=0)
            notes.append(
                f"truth: {self.truth.metric} in {self.truth.source}; rank and regret among the {n:,} rows of the "
                "table that the search might have found."
            )
        return notes

    def as_dict(self) -> dict[str, Any]:
        """Return the report, JSON-clean."""
        return {
            "space": self.space.name,
            "settings": self.settings,
            "campaign": None if self.key is None else self.key.digest(),
            "key": None if self.key is None else self.key.as_dict(),
            "split": self.split or None,
            "rescore_split": self.rescore_split,
            "truth": None if self.truth is None else self.truth.source,
            "n_trials": len(self.trials),
            "n_different": self.n_different,
            "n_run": self.n_run,
            "n_there_already": self.n_there_already,
            "n_failed": self.n_failed,
            "level": LEVEL,
            "winners": [winner.as_dict() for winner in self.winners],
            "improvements": self.improvements(),
        }


def judged(
    winners: Sequence[Winner], lookup: TruthLookup | None, candidates: Candidates
) -> list[Winner]:
    """Return winners with their standing in a truth table, unchanged where there is none."""
    if lookup is None:
        return list(winners)
    rows = lookup.rows_of(candidates)
    return [replace(w, standing=lookup.standing(w.arch, rows)) for w in winners]


def known_cost(cost: Cost) -> Cost | None:
    """Return a cost, or None where it is the mark of an unknown one."""
    return None if cost.params < 0 else cost
