"""Several ways to do something, each done several times: what ways change, beside what repeating changes.

Three repeats say little about their own deviation, thirty ways of three repeats a lot about a common one. So, as
in an analysis of variance, all ways share one deviation between repeats.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from wsx.analysis._vectors import FloatArray
from wsx.analysis.uncertainty import check_level
from wsx.errors import OptionError, ShapeError


@dataclass(frozen=True)
class Effect:
    """A number with its limits; all nan where it has no value.

    Attributes:
        value: The number.
        low: Lower limit.
        high: Upper limit.
    """

    value: float
    low: float
    high: float


NO_EFFECT = Effect(math.nan, math.nan, math.nan)


def contrast(
    groups: Mapping[str, npt.ArrayLike],
    weights: Mapping[str, float],
    *,
    level: float = 0.95,
    n_tests: int = 1,
) -> Effect:
    """Return a weighted sum of the means of groups, with Student's limits from the deviation of all groups.

    Args:
        groups: Values by name, each shape (repeat,). A group with values that are not finite does not count.
        weights: Of the groups' means, such as 1 and -1 for a difference; others have none.
        level: How sure the limits are, in (0, 1).
        n_tests: How many contrasts are looked at: all their limits hold together at ``level`` (Bonferroni).

    Raises:
        OptionError: A weight names no group, or the level or the number of tests is out of range.
    """
    check_level(level)
    if n_tests < 1:
        raise OptionError(f"n_tests is {n_tests}; it must be at least 1")
    if unknown := [name for name in weights if name not in groups]:
        raise OptionError(f"weights name {', '.join(unknown)}, of which there are no values")
    values = {name: np.asarray(group, dtype=np.float64) for name, group in groups.items()}
    counted = {name: group for name, group in values.items() if np.isfinite(group).all()}
    freedom = sum(group.size - 1 for group in counted.values())
    if freedom < 1 or any(name not in counted or not counted[name].size for name in weights):
        return NO_EFFECT
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in counted.values())
    share = sum(weight**2 / counted[name].size for name, weight in weights.items())
    value = sum(weight * float(counted[name].mean()) for name, weight in weights.items())
    quantile = float(stats.t.ppf(1 - (1 - level) / (2 * n_tests), freedom))
    half = quantile * math.sqrt(squares / freedom * share)
    return Effect(value, value - half, value + half)


def squared_effects(changes: npt.ArrayLike) -> FloatArray:
    """Return the mean squared effect of several ways, repeat by repeat, without what chance adds to squares.

    A mean change is never 0, so sizes of changes are too large, and the more so the fewer the repeats and the
    noisier the ways. Products of different repeats have no such excess; these are the jackknife's pseudo-values
    of their mean (Efron and Stein 1981), whose mean is that mean and which may be below 0.

    Args:
        changes: By each way in each repeat, shape (way, repeat), repeats independent of one another.

    Returns:
        Shape (repeat,), in squared units; nan without ways or below 3 repeats.

    Raises:
        ShapeError: There are not two axes.
    """
    table: FloatArray = np.asarray(changes, dtype=np.float64)
    if table.ndim != 2:
        raise ShapeError(f"changes must have shape (way, repeat), got {table.shape}")
    n_ways, n = table.shape
    if n_ways < 1 or n < 3:
        return np.full(n, np.nan)
    total, squares = table.sum(axis=1, keepdims=True), (table**2).sum(axis=1, keepdims=True)
    of_all = (total**2 - squares) / (n * (n - 1))
    of_others = ((total - table) ** 2 - (squares - table**2)) / ((n - 1) * (n - 2))
    found: FloatArray = (n * of_all - (n - 1) * of_others).mean(axis=0)
    return found


def between_over_within(values: npt.ArrayLike, *, level: float = 0.95) -> Effect:
    """Return the variance between groups as a multiple of that between repeats, with limits.

    The exact limits of the ratio of variances in a balanced one-way layout of normal values (Searle, Casella and
    McCulloch, *Variance Components*, 1992, section 3.6); ratios below 0 are given as 0.

    Args:
        values: Shape (group, repeat).
        level: How sure the limits are, in (0, 1).

    Raises:
        ShapeError: There are fewer than two groups or two repeats.
        OptionError: The level is out of range.
    """
    check_level(level)
    table: FloatArray = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2:
        raise ShapeError(
            f"values have shape {table.shape}; two groups or more of two repeats or more are needed"
        )
    n_groups, n = table.shape
    freedom = n_groups - 1, n_groups * (n - 1)
    within = float(table.var(axis=1, ddof=1).mean())
    if not np.isfinite(table).all() or within == 0:
        return NO_EFFECT
    ratio = n * float(table.mean(axis=1).var(ddof=1)) / within
    ends = stats.f.ppf([(1 - level) / 2, (1 + level) / 2], *freedom)
    value, low, high = (max(0.0, (ratio / end - 1) / n) for end in (1.0, ends[1], ends[0]))
    return Effect(value, low, high)
