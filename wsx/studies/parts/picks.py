"""What a search over the ranking ends with: the truth of the top K, and what fewer archs would have told."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import Resampling, final_performance, rank_percentiles, subset_tau
from wsx.report.findings import Cell, Part, Plot, ResultTable, Series
from wsx.studies.parts.alone import ALONE, ALONE_NOTE, alone_rankings, mean_known
from wsx.studies.parts.cells import bounded, number, series_limits, unit_of

Array = NDArray[np.float64]
KS = (1, 3, 5, 10, 20, 50)
SUBSETS = (10, 20, 50, 100)
N_SUBSETS = 20


def picks_part(
    predicted: Array,
    truth: Array,
    sizes: Mapping[str, Array],
    *,
    resampling: Resampling,
    truth_runs: Array | None = None,
) -> Part:
    """Return what the top K of a ranking are worth, beside K archs at random and the K largest.

    Args:
        predicted: What archs are ranked by, shape (arch,); larger is better.
        truth: Truth of the same archs, shape (arch,).
        sizes: Counts by name, each of shape (arch,).
        resampling: How archs are drawn again, and seed of the subsets.
        truth_runs: Single trainings of the truth, shape (run, arch), nan where there was none.

    Raises:
        ShapeError: The vectors differ in length.
        OptionError: Some values are not finite.
    """
    # Predictions that are all alike pick at random: every number is then the mean over all picks.
    rankings = {"supernet": predicted, "random": np.zeros_like(predicted), **sizes}
    ks = [k for k in KS if k <= truth.size]
    scale, unit = unit_of(truth)
    rows: list[list[Cell]] = []
    for k in ks:
        for name, scores in rankings.items():
            drawn = _drawn(name, resampling)
            found = final_performance(scores, truth, k, resampling=drawn)
            rows.append(
                [
                    name,
                    k,
                    *bounded(found["mean_truth"], scale=scale),
                    number(found["std_truth"].value, scale=scale),
                    number(found["best_truth"].value, scale=scale),
                    number(found["best_rank"].value),
                    *bounded(found["surpass_random"], scale=100),
                ]
            )
    rows += _alone_rows(truth_runs, ks, scale)
    heads = ["picked by", "K", f"mean truth{unit}", "low", "high", "deviation", f"best{unit}"]
    heads += ["true rank of the best", "P>R, %", "P>R low", "P>R high"]
    table = ResultTable(
        "What the top K end with",
        heads,
        rows,
        f"Truth of the K archs ranked highest. Limits: {100 * resampling.level:.4g} %, archs drawn again. P>R is "
        "the chance that K archs drawn at random all rank below the best pick."
        + ("" if truth_runs is None else f" {ALONE_NOTE}"),
    )
    tables = [
        table,
        _percentiles(rankings, truth, ks, resampling),
        _subsets(predicted, truth, resampling),
    ]
    return Part("picks", tables, [_plot(rows, f"mean truth of the top K{unit}")])


def _alone_rows(truth_runs: Array | None, ks: Sequence[int], scale: float) -> list[list[Cell]]:
    rankings = alone_rankings(truth_runs)
    none = Resampling(n_resamples=0)
    rows: list[list[Cell]] = []
    for k in ks:
        found = [
            final_performance(scores, others, k, resampling=none)
            for scores, others, _ in rankings
            if k <= scores.size
        ]
        if found:
            mean = {name: mean_known([one[name].value for one in found]) for name in found[0]}
            rows.append(
                [
                    *(ALONE, k, number(mean["mean_truth"], scale=scale), None, None),
                    number(mean["std_truth"], scale=scale),
                    number(mean["best_truth"], scale=scale),
                    number(mean["best_rank"]),
                    *(number(mean["surpass_random"], scale=100), None, None),
                ]
            )
    return rows


def _drawn(name: str, resampling: Resampling) -> Resampling:
    # Limits of what is measured; a baseline is there to compare with.
    return resampling if name == "supernet" else Resampling(n_resamples=0)


def _percentiles(
    rankings: Mapping[str, Array], truth: Array, ks: Sequence[int], resampling: Resampling
) -> ResultTable:
    rows: list[list[Cell]] = []
    for name, scores in rankings.items():
        drawn = _drawn(name, resampling)
        for k, found in rank_percentiles(scores, truth, ks=ks, resampling=drawn).items():
            values = [
                x for part in ("best", "median", "worst") for x in bounded(found[part], scale=100)
            ]
            rows.append([name, k, *values])
    heads = [
        head
        for part in ("best", "median", "worst")
        for head in (part, f"{part} low", f"{part} high")
    ]
    return ResultTable(
        "True ranks of the top K",
        ["picked by", "K", *heads],
        rows,
        "True rank in percent of the archs: the best arch of all has the smallest.",
    )


def _subsets(predicted: Array, truth: Array, resampling: Resampling) -> ResultTable:
    sizes = [n for n in SUBSETS if n <= truth.size]
    found = subset_tau(
        predicted,
        truth,
        sizes=sizes,
        n_subsets=N_SUBSETS,
        seed=resampling.seed,
        level=resampling.level,
    )
    rows: list[list[Cell]] = [
        [n, number(one.mean), number(one.std), *_extremes(one.values)] for n, one in found.items()
    ]
    return ResultTable(
        "What so few archs would have told",
        ["archs", "mean tau-b", "deviation", "lowest", "highest"],
        rows,
        f"Kendall's tau-b over {N_SUBSETS} random subsets of each size.",
    )


def _extremes(values: Array) -> list[Cell]:
    known = values[np.isfinite(values)]
    return [float(known.min()), float(known.max())] if known.size else [None, None]


def _plot(rows: Sequence[list[Cell]], y_title: str) -> Plot:
    series = []
    for name in dict.fromkeys(str(row[0]) for row in rows):
        mine = [row for row in rows if row[0] == name]
        value, low, high = series_limits([row[2:5] for row in mine])
        x = [float(row[1] or 0) for row in mine]
        has_limits = name == "supernet"
        limits = (low, high) if has_limits else (None, None)
        series.append(Series(name, x, value, *limits))
    return Plot("picks", "What the top K end with", "K", y_title, "lines", series)
