"""How numbers become cells of tables: accuracies in percent, what has no value as None."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import Estimate, Interval
from wsx.report.findings import Cell


def unit_of(values: NDArray[np.float64]) -> tuple[float, str]:
    """Return the factor and the unit that scores are shown in: percent where they can be accuracies."""
    is_accuracy = bool(((values >= 0) & (values <= 1)).all())
    return (100.0, ", %") if is_accuracy else (1.0, "")


def bounded(estimate: Estimate, *, scale: float = 1.0) -> list[Cell]:
    """Return value, lower and upper limit of an estimate whose interval has one source."""
    interval = next(iter(estimate.intervals.values()), None)
    return [number(estimate.value, scale=scale), *ends(interval, scale=scale)]


def ends(interval: Interval | None, *, scale: float = 1.0) -> list[Cell]:
    """Return the limits of an interval."""
    if interval is None:
        return [None, None]
    return [number(interval.low, scale=scale), number(interval.high, scale=scale)]


def number(value: float, *, scale: float = 1.0) -> Cell:
    """Return a number, None where it has no value."""
    return scale * float(value) if math.isfinite(value) else None


def series_limits(cells: list[list[Cell]]) -> tuple[list[float], list[float], list[float]]:
    """Return the columns value, low and high of cells as ``bounded`` gives them; nan for None."""
    columns: Any = zip(*cells, strict=True)
    value, low, high = ([math.nan if x is None else float(x) for x in column] for column in columns)
    return value, low, high
