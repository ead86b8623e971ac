"""Which options a ranking over- or under-values against truth, beside what ranking by size alone does."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import (
    OptionBias,
    Resampling,
    explained_share,
    option_bias,
    quantile_bins,
    rank_residuals,
)
from wsx.report.findings import Cell, Part, Plot, ResultTable, Series
from wsx.spaces import Decision
from wsx.studies.parts.alone import ALONE, ALONE_NOTE, alone_rankings, mean_known
from wsx.studies.parts.cells import bounded, number

Array = NDArray[np.float64]
N_BINS = 4
MAX_ROWS = 60


def bias_part(
    decisions: Sequence[Decision],
    archs: NDArray[np.int16],
    predicted: Array,
    truth: Array,
    sizes: Mapping[str, Array],
    *,
    resampling: Resampling,
    depths: NDArray[np.int64] | None = None,
    truth_runs: Array | None = None,
) -> Part:
    """Return the bias by option and decision, that of sizes in quarters, and how much of it goes with size.

    Args:
        decisions: Names, one per column of the archs.
        archs: Options, shape (arch, decision).
        predicted: What archs are ranked by, shape (arch,); larger is better.
        truth: Truth of the same archs, shape (arch,).
        sizes: Counts by name, each of shape (arch,), not all alike.
        resampling: How archs are drawn again.
        depths: Operations on the longest path of each arch, shape (arch,); None where unknown.
        truth_runs: Single trainings of the truth, shape (run, arch), nan where there was none.

    Raises:
        ShapeError: The inputs list different archs, or fewer than 2.
        OptionError: Some values are not finite.
    """
    names = [*decisions, *(_as_decision(name, size) for name, size in sizes.items())]
    bins = [quantile_bins(size, min(N_BINS, size.size)) for size in sizes.values()]
    if depths is not None:
        levels, level_of = np.unique(depths, return_inverse=True)
        names.append(Decision("depth", tuple(map(str, levels.tolist()))))
        bins.append(level_of)
    table = np.column_stack([archs, *bins])
    found = option_bias(table, predicted, truth, resampling=resampling)
    alone = {
        f"by {name} alone": option_bias(table, size, truth, resampling=Resampling(n_resamples=0))
        for name, size in sizes.items()
    }
    if rankings := alone_rankings(truth_runs):
        alone[f"by {ALONE}"] = _mean_biases(
            [
                option_bias(table[has], scores, others, resampling=Resampling(n_resamples=0))
                for scores, others, has in rankings
            ],
            found,
        )
    tables = [_bias_table(names, found, alone, resampling.level)]
    if sizes:
        tables.append(_explained_table(predicted, truth, sizes, resampling))
    plots = _plots(names[: len(decisions)], found, alone)
    return Part("bias", tables, plots)


def _mean_biases(
    runs: Sequence[Sequence[OptionBias]], like: Sequence[OptionBias]
) -> list[OptionBias]:
    """Return the mean bias over runs of each option in a list; trainings of fewer archs may lack some."""
    of_runs = [{(one.decision, one.option): one.bias.value for one in run} for run in runs]
    means = [
        mean_known([run.get((one.decision, one.option), math.nan) for run in of_runs])
        for one in like
    ]
    return [
        replace(one, bias=replace(one.bias, value=mean))
        for one, mean in zip(like, means, strict=True)
    ]


def _as_decision(name: str, size: Array) -> Decision:
    bins = quantile_bins(size, min(N_BINS, size.size))
    options = []
    for i in range(int(bins.max()) + 1):
        inside = size[bins == i]
        options.append(f"{inside.min():.3g} to {inside.max():.3g}" if inside.size else "")
    return Decision(name, tuple(options))


def _bias_table(
    names: Sequence[Decision],
    found: Sequence[OptionBias],
    alone: Mapping[str, Sequence[OptionBias]],
    level: float,
) -> ResultTable:
    order = [i for i, one in enumerate(found) if not math.isnan(one.bias.value)]
    order.sort(key=lambda i: (not found[i].is_flagged, -abs(found[i].bias.value)))
    rows: list[list[Cell]] = []
    for i in order[:MAX_ROWS]:
        one, decision = found[i], names[found[i].decision]
        stands = ("over" if one.bias.value > 0 else "under") if one.is_flagged else ""
        baselines = [number(other[i].bias.value) for other in alone.values()]
        cells = [one.n_archs, *bounded(one.bias), *baselines]
        rows.append([decision.name, decision.options[one.option], stands, *cells])
    note = (
        "Mean predicted less true rank fraction of archs with the option minus that of archs without: above 0 "
        f"they rank too high. Limits: {100 * level:.4g} %, archs drawn again; over and under name what stands out "
        "among all options together. Beside it the same of a ranking by size alone. Noise by itself pulls the "
        "truly good ones down. Sizes count as decisions, in quarters; depth is the number of operations on the "
        "longest path."
    )
    said = ALONE_NOTE if f"by {ALONE}" in alone else ""
    return ResultTable(
        "Options over- and under-valued",
        ["decision", "option", "valued", "archs", "bias", "low", "high", *alone],
        rows,
        " ".join(one for one in (note, said, _left_out(found, len(order))) if one),
    )


def _left_out(found: Sequence[OptionBias], n_known: int) -> str:
    parts = []
    if n_known > MAX_ROWS:
        parts.append(f"The {MAX_ROWS} largest of {n_known} are listed.")
    unknown = [one.bias.reason for one in found if one.bias.reason is not None]
    if unknown:
        parts.append(f"{len(unknown)} options have no number, the first since {unknown[0]}.")
    return " ".join(parts)


def _explained_table(
    predicted: Array, truth: Array, sizes: Mapping[str, Array], resampling: Resampling
) -> ResultTable:
    values = {
        "rank residuals": rank_residuals(predicted, truth),
        "supernet": predicted,
        "truth": truth,
    }
    rows: list[list[Cell]] = [
        [of, name, *bounded(explained_share(value, size, resampling=resampling), scale=100)]
        for of, value in values.items()
        for name, size in sizes.items()
    ]
    return ResultTable(
        "What size explains",
        ["variance of", "by", "share explained, %", "low", "high"],
        rows,
        "R² of a straight line in the logarithm of the size. Of rank residuals it is the part of the bias that is "
        "one towards size.",
    )


def _plots(
    decisions: Sequence[Decision],
    found: Sequence[OptionBias],
    alone: Mapping[str, Sequence[OptionBias]],
) -> list[Plot]:
    rankings = {"the supernet": found, **{name.removeprefix("by "): x for name, x in alone.items()}}
    plots = []
    for place, (name, biases) in enumerate(rankings.items()):
        of = {
            (decisions[one.decision].name, decisions[one.decision].options[one.option]): one
            for one in biases
            if one.decision < len(decisions) and not math.isnan(one.bias.value)
        }
        if not of:
            continue
        options = dict.fromkeys(option for decision in decisions for option in decision.options)
        columns = [decision.name for decision in decisions]
        series = [
            Series(
                option,
                columns,
                [of[c, option].bias.value if (c, option) in of else math.nan for c in columns],
            )
            for option in options
        ]
        key = "bias" if place == 0 else f"bias-{place}"
        note = "Blue: ranked too high; red: too low."
        title = f"Bias of {name} by option and decision"
        plots.append(Plot(key, title, "decision", "option", "heatmap", series, note))
    return plots
