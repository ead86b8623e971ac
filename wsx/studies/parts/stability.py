"""How far rankings agree, with one another and with truth, from checkpoint to checkpoint and run to run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import (
    Resampling,
    Spread,
    Stability,
    gt_tau,
    gt_tau_window,
    s_tau,
    truth_stability,
)
from wsx.report.findings import Cell, Part, Plot, ResultTable, Series
from wsx.studies.parts.cells import bounded, number, unit_of

Array = NDArray[np.float64]
TOPS = (1, 3, 10)


@dataclass(frozen=True, eq=False)
class Rankings:
    """Scores of the same archs at the same checkpoints of several runs.

    Attributes:
        scores: Larger is better, shape (run, checkpoint, arch).
        archs: Text forms, one per arch.
        runs: Names, one per run.
        checkpoints: Names, one per checkpoint.
        places: Where figures put the checkpoints of each run: steps, or names.
        place_title: What these are.
        window: How many of the last checkpoints count as the end of a run, 1..checkpoint.
    """

    scores: Array
    archs: Sequence[str]
    runs: Sequence[str]
    checkpoints: Sequence[str]
    places: Sequence[Sequence[float | str]]
    place_title: str
    window: int

    @property
    def last(self) -> Array:
        """Scores over the window, shape (run, checkpoint, arch)."""
        return self.scores[:, -self.window :]


def stability_part(rankings: Rankings, *, resampling: Resampling) -> Part:
    """Return S-Tau between runs, and between checkpoints of each run.

    Raises:
        ShapeError: There is one ranking only.
    """
    n_runs, n_checkpoints = rankings.scores.shape[:2]
    rows: list[list[Cell]] = []
    if n_runs > 1:
        found = s_tau(rankings.scores[:, -1], resampling=resampling)
        of = f"runs, at {rankings.checkpoints[-1]}"
        rows.append([of, n_runs, *bounded(found.s_tau), *_pairs(found)])
    for name, scores in zip(rankings.runs, rankings.last, strict=True):
        if len(scores) > 1:
            # Checkpoints of one run depend on each other: drawing them again says nothing.
            found = s_tau(scores, resampling=Resampling(n_resamples=0))
            of = f"the last {len(scores)} checkpoints of {name}"
            rows.append([of, len(scores), *bounded(found.s_tau), *_pairs(found)])
    table = ResultTable(
        "Agreement between rankings",
        ["between", "rankings", "S-Tau", "low", "high", "lowest tau", "highest tau"],
        rows,
        f"S-Tau: mean Kendall tau-b over pairs. Limits: {100 * resampling.level:.4g} %, runs drawn again; "
        "checkpoints of one run are not independent, and two runs are one pair: these have none.",
    )
    plots = [_accuracy_plot(rankings)] if n_checkpoints > 1 else []
    if n_runs > 1 and n_checkpoints > 1:
        plots.insert(0, _s_tau_plot(rankings))
    return Part("stability", [table], plots)


def truth_part(rankings: Rankings, truth: Array, *, resampling: Resampling) -> Part:
    """Return GT-Tau at the end and over the window, and the best true rank among the top.

    Args:
        rankings: Scores of the archs that truth knows.
        truth: Truth, shape (arch,); larger is better.
        resampling: Level of the limits over runs.

    Raises:
        ShapeError: The numbers of archs differ.
        OptionError: Some values of truth are not finite.
    """
    level, k = resampling.level, rankings.window
    ks = tuple(n for n in TOPS if n <= truth.size)
    window = gt_tau_window(rankings.scores, truth, k, level=level)
    found = truth_stability(rankings.scores[:, -1], truth, ks=ks, level=level)
    spreads = [found.pop("gt_tau"), window.mean, window.std, *found.values()]
    table = ResultTable(
        "Agreement with truth",
        ["of", "mean over runs", "low", "high", "std between runs", *rankings.runs],
        [_spread_row(one) for one in spreads],
        f"Of {truth.size} archs that truth knows. GT-Tau and best ranks at {rankings.checkpoints[-1]}. "
        f"Limits: {100 * level:.4g} % by Student's t over runs; one run has none.",
    )
    plots = []
    if rankings.scores.shape[1] > 1:
        tau = gt_tau(rankings.scores, truth)
        series = _lines(rankings, tau)
        title = "Agreement with truth over time"
        plots.append(Plot("gt-tau", title, rankings.place_title, "GT-Tau", "lines", series))
    return Part("truth", [table], plots)


def _spread_row(one: Spread) -> list[Cell]:
    numbers = [one.mean, one.low, one.high, one.std, *one.values]
    return [one.label, *(number(float(x)) for x in numbers)]


def _pairs(found: Stability) -> list[Cell]:
    return [number(found.lowest), number(found.highest)]


def _accuracy_plot(rankings: Rankings) -> Plot:
    scale, unit = unit_of(rankings.scores)
    series = _lines(rankings, scale * rankings.scores.mean(axis=2))
    title = "Mean score over time"
    return Plot(
        "scores", title, rankings.place_title, f"mean score of the archs{unit}", "lines", series
    )


def _s_tau_plot(rankings: Rankings) -> Plot:
    columns = rankings.scores.swapaxes(0, 1)
    tau = [s_tau(column, resampling=Resampling(n_resamples=0)).s_tau.value for column in columns]
    series = [Series("S-Tau between runs", rankings.places[0], tau)]
    title = "Agreement between runs over time"
    return Plot("s-tau", title, rankings.place_title, "S-Tau between runs", "lines", series)


def _lines(rankings: Rankings, values: Array) -> list[Series]:
    return [
        Series(name, x, [float(y) if math.isfinite(y) else math.nan for y in row])
        for name, x, row in zip(rankings.runs, rankings.places, values, strict=True)
    ]
