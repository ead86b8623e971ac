"""Where the variance of scores over archs, runs and checkpoints comes from."""

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import Resampling, VarianceSplit, split_variance
from wsx.report.findings import Cell, Part, Plot, ResultTable, Series
from wsx.studies.parts.cells import ends, number, series_limits, unit_of


def variance_part(
    scores: NDArray[np.float64],
    *,
    outcomes: NDArray[np.bool_] | None = None,
    resampling: Resampling,
) -> Part:
    """Return the split of the variance, with intervals over runs and archs.

    Args:
        scores: Accuracies or other scores, shape (run, checkpoint, arch).
        outcomes: Whether each image is classified correctly, shape (run, checkpoint, arch, image), which tells
            the noise of the images apart; None leaves it in the other parts.
        resampling: How runs and archs are drawn again.

    Raises:
        ShapeError: There are fewer than 2 archs, or than 2 checkpoints in all.
        OptionError: Some values are not finite.
    """
    split = split_variance(scores, outcomes=outcomes, resampling=resampling)
    scale, unit = unit_of(scores)
    rows = _rows(split, scale**2)
    squared = f"{unit}²" if unit else ""
    table = ResultTable(
        "Where the variance comes from",
        [
            *("component", f"variance{squared}", "variance low", "variance high"),
            *("share, %", "share low", "share high"),
        ],
        rows,
        "Only the variance of archs helps to rank them; arch x run is a ranking that belongs to one run. Limits: "
        f"{100 * resampling.level:.4g} %, runs and archs drawn again; of under ten runs, that of the run is "
        "too narrow. A small component may be below 0 by chance, and counts as 0 in the shares.",
    )
    known = [row for row in rows if row[4] is not None]
    value, low, high = series_limits([row[4:7] for row in known]) if known else ([], [], [])
    names = [str(row[0]) for row in known]
    bars = Series("share", names, value, low, high)
    plot = Plot("variance", "Shares of the variance", "component", "share, %", "bars", [bars])
    return Part("variance", [table], [plot] if known else [])


def _rows(split: VarianceSplit, scale: float) -> list[list[Cell]]:
    return [
        [
            one.label if one.reason is None else f"{one.label} ({one.reason})",
            number(one.variance, scale=scale),
            *ends(one.interval, scale=scale),
            number(one.share, scale=100),
            *ends(one.share_interval, scale=100),
        ]
        for one in split.components.values()
    ]
