"""From a score file, and truth where there is some, to a summary and a report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import Summary, SummaryOptions, summarise
from wsx.errors import OptionError, TruthError
from wsx.report import Failure, ReportFiles, write_report
from wsx.report.findings import Part
from wsx.store import ScoreTable, open_store
from wsx.studies.parts.campaign import campaign_parts
from wsx.studies.parts.making import OnPart
from wsx.studies.truth_rows import truth_rows as rows_of_truth
from wsx.truth import TruthTable, load_truth

RANKED_BY = ("accuracy", "loss")
CHOSE = (
    "chose archs by their scores: unless the others were scored besides, measures here are not those of "
    "the population"
)


@dataclass(frozen=True)
class Comparison:
    """Scores of a campaign beside the truth.

    Attributes:
        table: All scores.
        rows: Rows of the table that are compared, (arch,).
        predicted: What archs are ranked by, larger is better, (arch,).
        truth: What the truth says of the same archs, larger is better, None without a truth table.
        truth_table: The truth table.
        summary: All measures, None without truth.
        by: ``accuracy``, or ``loss`` (the negative mean loss).
        truth_runs: Single trainings of the same archs, (run, arch), nan where there was none; None where no arch
            has two.
    """

    table: ScoreTable
    rows: NDArray[np.int64]
    predicted: NDArray[np.float64]
    truth: NDArray[np.float64] | None
    truth_table: TruthTable | None
    summary: Summary | None
    by: str
    truth_runs: NDArray[np.float64] | None = None

    @property
    def texts(self) -> list[str]:
        """The compared archs."""
        return [str(self.table.text[row]) for row in self.rows]

    @property
    def n_without_truth(self) -> int:
        """Scored archs that the truth table lacks."""
        return int(self.table.ok.sum()) - len(self.rows)

    @property
    def selection(self) -> str | None:
        """What chose the archs by their scores; None where nothing is known to have done so."""
        return chosen_by(self.table.info)

    def facts(self) -> dict[str, Any]:
        """Return which campaign it is and how much of it is compared."""
        return {
            "digest": self.table.key.digest()[:16],
            **self.table.key.as_dict(),
            "scored": int(self.table.ok.sum()),
            "failed": int((~self.table.ok).sum()),
            "without truth": self.n_without_truth,
            **({} if self.selection is None else {"selection": self.selection}),
            **self._mean(),
        }

    def _mean(self) -> dict[str, str]:
        if self.by == "accuracy":
            return {"mean accuracy": f"{self.table.accuracy[self.table.ok].mean():.2%}"}
        loss = _losses(self.table)[self.table.ok].mean()
        return {"mean loss": f"{loss:.4f}", "perplexity": f"{np.exp(loss):.2f}"}

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
            "selection": self.selection,
            "accuracy": {
                "mean": float(accuracy.mean()),
                "std": float(accuracy.std(ddof=1)) if len(accuracy) > 1 else None,
                "min": float(accuracy.min()),
                "max": float(accuracy.max()),
            },
            "mean_loss": float(_losses(self.table)[self.table.ok].mean()),
            "summary": None if self.summary is None else self.summary.as_dict(),
        }


def chosen_by(info: Mapping[str, Any]) -> str | None:
    """Return what chose a campaign's archs by their scores; None where nothing is known to have done so."""
    # A campaign that others went on with has a record of each.
    for record in (info, *info.get("resumed", ())):
        if "race" in record:
            return f"a race for the top {record['race']['k']} {CHOSE}"
        if "search" in record or "rescored" in record:
            return f"a search {CHOSE}"
    return None


def compare(
    scores: Path,
    *,
    truth: str | None,
    campaign: str | None = None,
    by: str = "accuracy",
    options: SummaryOptions | None = None,
    on_resample: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Return a campaign's scores beside the truth, with all measures.

    Args:
        scores: The score file.
        truth: What ``load_truth`` takes, such as ``PATH:column``; None measures no ranking.
        campaign: Beginning of the campaign's digest; may be left out where there is only one.
        by: What archs are ranked by, ``accuracy`` or ``loss``; always loss where the truth is a loss.
        options: What to report.
        on_resample: Called after each resample with how many are done, and of how many.

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
    truth_table = None if truth is None else load_truth(truth)
    if truth_table is not None and truth_table.metric == "loss":
        by = "loss"
    predicted = table.accuracy if by == "accuracy" else -_losses(table)
    if truth_table is None:
        return Comparison(table, rows, predicted[rows], None, None, None, by)
    truth_rows = _truth_rows(table, rows, truth_table)
    is_known = truth_rows >= 0
    if not is_known.any():
        raise TruthError(
            f"truth {truth} knows none of the {len(rows)} scored archs, such as {table.text[rows[0]]!r}; "
            "is it of the same space and spelling?"
        )
    rows, values = rows[is_known], truth_table.goodness[truth_rows[is_known]]
    truth_runs = _truth_runs(truth_table, truth_rows[is_known])
    summary = summarise(
        predicted[rows],
        values,
        outcomes=table.outcomes()[rows] if by == "accuracy" else None,
        params=table.params[rows],
        flops=table.flops[rows],
        truth_runs=truth_runs,
        options=options,
        on_resample=on_resample,
    )
    return Comparison(table, rows, predicted[rows], values, truth_table, summary, by, truth_runs)


def _truth_runs(truth: TruthTable, truth_rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Return the single trainings of the compared archs, (run, arch), None where none has two."""
    if truth.goodness_runs is None:
        return None
    runs = truth.goodness_runs[:, truth_rows]
    has_two = (~np.isnan(runs)).sum(axis=0) >= 2
    return runs if has_two.any() else None


def _truth_rows(table: ScoreTable, rows: NDArray[np.int64], truth: TruthTable) -> NDArray[np.int64]:
    """Return the row of the truth table of each scored arch, -1 where there is none, (arch,)."""
    return rows_of_truth(table.key.space, table.arch[rows], table.text[rows], truth)


def _losses(table: ScoreTable) -> NDArray[np.float64]:
    """Return the mean loss of every arch in nats, (arch,)."""
    losses: NDArray[np.float64] = table.loss_sum / np.maximum(table.total, 1)
    return losses


def report_comparison(
    comparison: Comparison, path: Path, *, title: str, on_part: OnPart | None = None
) -> ReportFiles:
    """Write the HTML report of a comparison, and its pictures beside it.

    Args:
        comparison: Scores, beside the truth if there is some.
        path: The page.
        title: Its heading.
        on_part: Told of parts done, parts in all, and the part that comes next.

    Raises:
        OptionError: The path is no HTML file.
    """
    table, rows = comparison.table, comparison.rows
    provenance: dict[str, object] = {
        "campaign": table.key.digest(),
        "score key": table.key.as_dict(),
        "scoring": table.info,
        "ranked by": comparison.by,
        **({} if comparison.selection is None else {"selection": comparison.selection}),
    }
    if comparison.truth_table is not None:
        provenance["truth"] = {
            "source": comparison.truth_table.source,
            "metric": comparison.truth_table.metric,
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
        parts=comparison_parts(comparison, on_part),
    )


def comparison_parts(comparison: Comparison, on_part: OnPart | None = None) -> list[Part]:
    """Return bias by option, what pruning costs and what the top K end with; nothing without truth.

    Args:
        comparison: Scores beside the truth.
        on_part: Told of parts done, parts in all, and the part that comes next.
    """
    table, rows, summary = comparison.table, comparison.rows, comparison.summary
    if comparison.truth is None or summary is None:
        return []
    return campaign_parts(
        table.key.space,
        table.arch[rows],
        comparison.predicted,
        comparison.truth,
        params=table.params[rows],
        flops=table.flops[rows],
        options=summary.options,
        truth_runs=comparison.truth_runs,
        on_part=on_part,
    )
