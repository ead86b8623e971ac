"""How numbers are written for people. Accuracies are fractions inside wsx and percent on paper."""

import math

import numpy as np
import numpy.typing as npt

from wsx.analysis import Estimate, Interval

NONE = "—"


def is_accuracy(values: npt.NDArray[np.float64] | None) -> bool:
    """Return whether values can be accuracies: all in [0, 1]."""
    return values is not None and bool(((values >= 0) & (values <= 1)).all())


def score_text(value: float, *, as_percent: bool) -> str:
    """Return an accuracy in percent, or any other score with four digits."""
    return f"{100 * value:.2f} %" if as_percent else f"{value:.4g}"


def count_text(value: float) -> str:
    """Return a count such as parameters with a unit prefix."""
    for limit, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {prefix}"
    return f"{value:g}"


def rank_text(value: float) -> str:
    """Return a rank, which has a fraction where ties share it."""
    return f"{value:.1f}".removesuffix(".0")


def estimate_text(estimate: Estimate, *, as_percent: bool) -> str:
    """Return the value of an estimate, or a dash where it has none."""
    return _by_kind(estimate.value, estimate, as_percent=as_percent)


def interval_text(estimate: Estimate, interval: Interval | None, *, as_percent: bool) -> str:
    """Return the limits of an interval in the estimate's unit, or a dash."""
    if interval is None or math.isnan(interval.low):
        return NONE
    limits = (interval.low, interval.high)
    return " … ".join(_by_kind(limit, estimate, as_percent=as_percent) for limit in limits)


def _by_kind(value: float, estimate: Estimate, *, as_percent: bool) -> str:
    if math.isnan(value):
        return NONE
    if estimate.kind == "rank":
        return rank_text(value)
    if estimate.kind == "share":
        return f"{100 * value:.1f} %"
    if estimate.kind == "accuracy":
        return score_text(value, as_percent=as_percent)
    return f"{value:.3f}"
