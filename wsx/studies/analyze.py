"""From a score file, and truth where there is some, to a summary and a report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import Summary, SummaryOptions, summarise
from wsx.errors import OptionError, TruthError
from wsx.report import Failure, ReportFiles, write_report
from wsx.store import ScoreTable, open_store
from wsx.truth import TruthTable, load_truth

RANKED_BY = ("accuracy", "loss")


@dataclass(frozen=True)
class Comparison:
    """Scores of a campaign beside the truth.

    Attributes:
        table: All scores.
        rows: Rows of the table that are compared, (arch,).
        predicted: What archs are ranked by, larger is better, (arch,).
        truth: Stand-alone accuracy of the same archs, None without a truth table.
        truth_table: The truth table.
        summary: All measures, None without truth.
        by: ``accuracy``, or ``loss`` (the negative mean loss).
    """

    table: ScoreTable
    rows: NDArray[np.int64]
    predicted: NDArray[np.float64]
    truth: NDArray[np.float64] | None
    truth_table: TruthTable | None
    summary: Summary | None
    by: str

    @property
    def texts(self) -> list[str]:
        """The compared archs."""
        return [str(self.table.text[row]) for row in self.rows]

    @property
    def n_without_truth(self) -> int:
        """Scored archs that the truth table lacks."""
        return int(self.table.ok.sum()) - len(self.rows)

    def facts(self) -> dict[str, Any]:
        """Return which campaign it is and how much of it is compared."""
        return {
            "digest": self.table.key.digest()[:16],
            **self.table.key.as_dict(),
            "scored": int(self.table.ok.sum()),
            "failed": int((~self.table.ok).sum()),
            "without truth": self.n_without_truth,
            "mean accuracy": f"{self.table.accuracy[self.table.ok].mean():.2%}",
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison, JSON-clean."""
        accuracy = self.table.accuracy[self.table.ok]
        return {
            "campaign": self.table.key.digest(),
            "key": self.table.key.as_dict(),
            "ranked_by": self.by,
            "n_scored": int(self.table.ok.sum()),
            "n_failed": int((~self.table.ok).sum()),
            "n_without_truth": self.n_without_truth,
            "accuracy": {
                "mean": float(accuracy.mean()),
                "std": float(accuracy.std(ddof=1)) if len(accuracy) > 1 else None,
                "min": float(accuracy.min()),
                "max": float(accuracy.max()),
            },
            "summary": None if self.summary is None else self.summary.as_dict(),
        }


def compare(
    scores: Path,
    *,
    truth: str | None,
    campaign: str | None = None,
    by: str = "accuracy",
    options: SummaryOptions | None = None,
) -> Comparison:
    """Return a campaign's scores beside the truth, with all measures.

    Args:
        scores: The score file.
        truth: What ``load_truth`` takes, such as ``PATH:column``; None measures no ranking.
        campaign: Beginning of the campaign's digest; may be left out where there is only one.
        by: What archs are ranked by, ``accuracy`` or ``loss``.
        options: What to report.

    Raises:
        OptionError: ``by`` is neither.
        StoreError: There is no such file or campaign, or it holds no usable score.
        TruthError: The truth is unreadable, or knows none of the archs.
    """
    if by not in RANKED_BY:
        raise OptionError(f"archs are ranked by one of {', '.join(RANKED_BY)}, not by {by!r}")
    with open_store(scores, "r") as store:
        table = store.read(campaign)
    if not table.ok.any():
        raise OptionError(f"{scores} holds no usable score: {len(table)} rows, all failed")
    rows = np.flatnonzero(table.ok)
    predicted = table.accuracy if by == "accuracy" else -table.loss_sum / table.total
    if truth is None:
        return Comparison(table, rows, predicted[rows], None, None, None, by)
    truth_table = load_truth(truth)
    truth_rows, is_known = truth_table.align([str(table.text[row]) for row in rows])
    if not is_known.any():
        raise TruthError(
            f"truth {truth} knows none of the {len(rows)} scored archs, such as {table.text[rows[0]]!r}; "
            "is it of the same space and spelling?"
        )
    rows, values = rows[is_known], truth_table.accuracy[truth_rows[is_known]]
    per_seed = truth_table.per_seed
    summary = summarise(
        predicted[rows],
        values,
        outcomes=table.outcomes()[rows] if by == "accuracy" else None,
        params=table.params[rows],
        flops=table.flops[rows],
        truth_runs=None if per_seed is None or per_seed.shape[1] < 2 else per_seed.T,
        options=options,
    )
    return Comparison(table, rows, predicted[rows], values, truth_table, summary, by)


def report_comparison(comparison: Comparison, path: Path, *, title: str) -> ReportFiles:
    """Write the HTML report of a comparison, and its pictures beside it.

    Raises:
        OptionError: The path is no HTML file.
    """
    table, rows = comparison.table, comparison.rows
    provenance: dict[str, object] = {
        "campaign": table.key.digest(),
        "score key": table.key.as_dict(),
        "scoring": table.info,
        "ranked by": comparison.by,
    }
    if comparison.truth_table is not None:
        provenance["truth"] = {
            "source": comparison.truth_table.source,
            "dataset": comparison.truth_table.dataset,
            "split": comparison.truth_table.split,
            "archs in the table": len(comparison.truth_table),
            "scored archs without truth": comparison.n_without_truth,
        }
    failures = [
        Failure(str(table.text[row]), str(table.status[row]), str(table.error[row]))
        for row in np.flatnonzero(~table.ok)
    ]
    return write_report(
        path,
        title=title,
        texts=comparison.texts,
        predicted=comparison.predicted,
        truth=comparison.truth,
        summary=comparison.summary,
        provenance=provenance,
        params=table.params[rows],
        flops=table.flops[rows],
        failures=failures,
    )
