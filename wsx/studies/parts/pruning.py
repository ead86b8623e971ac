"""How much of the space a ranking can cut, and what of the best is lost with it."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import Pruned, Resampling, pruning_value
from wsx.report.findings import Cell, Part, Plot, ResultTable, Series
from wsx.studies.parts.alone import ALONE, ALONE_NOTE, alone_rankings, mean_known
from wsx.studies.parts.cells import bounded, number, series_limits, unit_of

Array = NDArray[np.float64]
KEPT = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9)


def pruning_part(
    predicted: Array,
    truth: Array,
    sizes: Mapping[str, Array],
    *,
    top_fraction: float,
    resampling: Resampling,
    truth_runs: Array | None = None,
) -> Part:
    """Return what cutting keeps: of the true top, and of the best; beside cutting at random and by size.

    Args:
        predicted: What archs are ranked by, shape (arch,); larger is better.
        truth: Truth of the same archs, shape (arch,).
        sizes: Counts by name, each of shape (arch,); the largest are kept.
        top_fraction: Which true top fraction should survive, in (0, 1].
        resampling: How archs are drawn again.
        truth_runs: Single trainings of the truth, shape (run, arch), nan where there was none.

    Raises:
        ShapeError: The vectors differ in length.
        OptionError: Some values are not finite, or there are no archs.
    """
    found = pruning_value(
        predicted,
        truth,
        keep_fractions=KEPT,
        top_fraction=top_fraction,
        sizes=sizes,
        resampling=resampling,
    )
    scale, unit = unit_of(truth)
    top = f"the true top {100 * top_fraction:.4g} %"
    rows: list[list[Cell]] = [
        [
            _name(one),
            100 * (1 - one.keep_fraction),
            one.n_kept,
            scale * one.best_truth,
            *bounded(one.loss, scale=scale),
            *bounded(one.top_kept, scale=100),
        ]
        for one in found
    ]
    rows += _alone_rows(truth_runs, top_fraction, scale)
    table = ResultTable(
        "What pruning costs",
        [
            *("cut by", "archs cut, %", "archs kept", f"best kept{unit}"),
            *(f"loss of the best{unit}", "loss low", "loss high"),
            *(f"of {top} kept, %", "kept low", "kept high"),
        ],
        rows,
        f"The lowest ranked are cut. Limits: {100 * resampling.level:.4g} %, archs drawn again. At random is the "
        "exact mean over all ways to cut; by size the smallest are cut."
        + ("" if truth_runs is None else f" {ALONE_NOTE}"),
    )
    plots = [
        _plot("pruning-top", f"What cutting keeps of {top}", f"of {top} kept, %", rows, 7),
        _plot("pruning-loss", "What cutting loses of the best", f"loss of the best{unit}", rows, 4),
    ]
    return Part("pruning", [table], plots)


def _alone_rows(truth_runs: Array | None, top_fraction: float, scale: float) -> list[list[Cell]]:
    found = [
        pruning_value(
            scores,
            others,
            keep_fractions=KEPT,
            top_fraction=top_fraction,
            resampling=Resampling(n_resamples=0),
        )[: len(KEPT)]
        for scores, others, _ in alone_rankings(truth_runs)
    ]
    return [
        [
            ALONE,
            100 * (1 - of_runs[0].keep_fraction),
            round(mean_known([one.n_kept for one in of_runs])),
            number(mean_known([one.best_truth for one in of_runs]), scale=scale),
            *(number(mean_known([one.loss.value for one in of_runs]), scale=scale), None, None),
            *(number(mean_known([one.top_kept.value for one in of_runs]), scale=100), None, None),
        ]
        for of_runs in zip(*found, strict=True)
    ]


def _name(one: Pruned) -> str:
    return "supernet" if one.criterion == "predicted" else one.criterion


def _plot(key: str, title: str, y_title: str, rows: list[list[Cell]], first: int) -> Plot:
    series = []
    for name in dict.fromkeys(str(row[0]) for row in rows):
        mine = sorted((row for row in rows if row[0] == name), key=lambda row: float(row[1] or 0))
        value, low, high = series_limits([row[first : first + 3] for row in mine])
        x = [float(row[1] or 0) for row in mine]
        # Limits of every line at once would cover one another; the table has them all.
        if name == "supernet":
            series.append(Series(name, x, value, low, high))
        else:
            series.append(Series(name, x, value))
    return Plot(key, title, "archs cut, %", y_title, "lines", series)
