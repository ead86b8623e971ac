"""Ranks and rank correlations.

Accuracies on n images take only n + 1 values, so ties are common and every measure states what it
does with them. A correlation that has no value (fewer than two archs, a constant vector) is nan;
the sentence that says why comes from ``undefined_reason``.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats

from wsx.analysis._vectors import FloatArray, IntArray, as_pair, as_vector

# Up to here comparing all pairs takes less time than one call of SciPy's O(n log n) count.
MAX_DIRECT = 512


@dataclass(frozen=True)
class Ties:
    """How many values of a vector coincide: distinct values, and pairs that share a value."""

    n_distinct: int
    n_tied_pairs: int


@dataclass(frozen=True)
class RankTable:
    """Ranks of the same archs under prediction and truth, each shape (arch,); 1 is best."""

    predicted: FloatArray
    truth: FloatArray


def average_ranks(values: npt.ArrayLike) -> FloatArray:
    """Return ranks, shape (arch,): 1 for the largest value, ties share the mean of their ranks.

    Raises:
        ShapeError: The values are not one-dimensional.
        OptionError: Some values are not finite real numbers.
    """
    codes, counts = _dense(-as_vector(values, "values"))
    ranks: FloatArray = (np.cumsum(counts) - (counts - 1) / 2)[codes]
    return ranks


def rank_table(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> RankTable:
    """Return both ranks of every arch, for plots and tables.

    Raises:
        ShapeError: The vectors are not one-dimensional or differ in length.
        OptionError: Some values are not finite real numbers.
    """
    first, second = as_pair(predicted, truth)
    return RankTable(average_ranks(first), average_ranks(second))


def count_ties(values: npt.ArrayLike) -> Ties:
    """Return how many values coincide.

    Raises:
        ShapeError: The values are not one-dimensional.
        OptionError: Some values are not finite real numbers.
    """
    _, counts = _dense(as_vector(values, "values"))
    return Ties(counts.size, int((counts * (counts - 1) // 2).sum()))


def undefined_reason(
    predicted: npt.ArrayLike, truth: npt.ArrayLike, names: tuple[str, str] = ("predicted", "truth")
) -> str | None:
    """Return why a correlation of two vectors has no value, or None where it has one.

    Args:
        predicted: Scores, shape (arch,).
        truth: Scores of the same archs, shape (arch,).
        names: What to call the two in the sentence.

    Raises:
        ShapeError: The vectors are not one-dimensional or differ in length.
        OptionError: Some values are not finite real numbers.
    """
    first, second = as_pair(predicted, truth, names)
    if first.size < 2:
        return f"a correlation needs at least 2 archs, got {first.size}"
    for name, values in zip(names, (first, second), strict=True):
        if _is_constant(values):
            return f"{name} is constant: all {values.size} archs have {values[0]:g}"
    return None


def kendall_tau(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return Kendall's tau-b of two vectors over the same archs.

    Concordant minus discordant pairs, over the geometric mean of the pairs that are not tied in
    each vector (Kendall 1945).

    Args:
        predicted: Scores, shape (arch,); larger is better.
        truth: Scores of the same archs in the same order, shape (arch,).

    Returns:
        A number in [-1, 1]; nan for fewer than 2 archs or a constant vector.

    Raises:
        ShapeError: The vectors are not one-dimensional or differ in length.
        OptionError: Some values are not finite real numbers.
    """
    first, second = as_pair(predicted, truth)
    if first.size < 2 or _is_constant(first) or _is_constant(second):
        return float("nan")
    if first.size <= MAX_DIRECT:
        return _tau_by_pairs(first, second)
    return float(scipy.stats.kendalltau(first, second, method="asymptotic").statistic)


def spearman(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return Spearman's rho: Pearson's correlation of the ranks, where ties share the mean rank.

    Args:
        predicted: Scores, shape (arch,); larger is better.
        truth: Scores of the same archs in the same order, shape (arch,).

    Returns:
        A number in [-1, 1]; nan for fewer than 2 archs or a constant vector.

    Raises:
        ShapeError: The vectors are not one-dimensional or differ in length.
        OptionError: Some values are not finite real numbers.
    """
    table = rank_table(predicted, truth)
    return pearson(table.predicted, table.truth)


def pearson(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return Pearson's linear correlation of two vectors over the same archs.

    Args:
        predicted: Values, shape (arch,).
        truth: Values of the same archs in the same order, shape (arch,).

    Returns:
        A number in [-1, 1]; nan for fewer than 2 archs or a constant vector.

    Raises:
        ShapeError: The vectors are not one-dimensional or differ in length.
        OptionError: Some values are not finite real numbers.
    """
    first, second = as_pair(predicted, truth)
    if first.size < 2 or _is_constant(first) or _is_constant(second):
        return float("nan")
    return min(1.0, max(-1.0, float((_unit(first) * _unit(second)).sum())))


def _dense(values: FloatArray) -> tuple[IntArray, IntArray]:
    """Return the place of each value among the distinct ones, and how often each of these is."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    return codes.astype(np.int64), counts.astype(np.int64)


def _tau_by_pairs(first: FloatArray, second: FloatArray) -> float:
    above_a, above_b = first[:, None] > first, second[:, None] > second
    n_concordant = np.count_nonzero(above_a & above_b)
    n_discordant = np.count_nonzero(above_a & above_b.T)
    n_untied_a, n_untied_b = np.count_nonzero(above_a), np.count_nonzero(above_b)
    return (n_concordant - n_discordant) / math.sqrt(n_untied_a * n_untied_b)


def _is_constant(values: FloatArray) -> bool:
    return bool((values == values[0]).all())


def _unit(values: FloatArray) -> FloatArray:
    """Return the values centred and scaled to length 1, without overflow."""
    scaled = values / np.abs(values).max()
    # Subtracting a member first keeps the digits of vectors that vary little around a large value.
    centred = scaled - scaled[0]
    centred /= np.abs(centred).max()
    centred -= centred.mean()
    unit: FloatArray = centred / np.sqrt((centred * centred).sum())
    return unit
