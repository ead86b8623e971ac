"""How good the archs are that a ranking puts at the top.

Ties at a cut are resolved as the mean over all ways to break them, so that no measure depends on
the order in which archs are listed: an arch tied at the cut belongs to the top k with probability
(places left) / (archs tied), and constant predictions do exactly as well as drawing at random.
"""

import numpy as np
import numpy.typing as npt

from wsx.analysis._vectors import FloatArray, as_pair, check_count, top_count
from wsx.analysis.ranks import kendall_tau
from wsx.errors import OptionError


def precision_at(predicted: npt.ArrayLike, truth: npt.ArrayLike, k: int, *, n_good: int) -> float:
    """Return P@k: the share of the predicted top k that lies in the true top ``n_good``.

    Args:
        predicted: Scores, shape (arch,); larger is better.
        truth: Scores of the same archs, shape (arch,).
        k: How many archs are picked, 1..arch.
        n_good: How many archs count as good, 1..arch; ``n_good = k`` gives the overlap.

    Returns:
        A share in [0, 1]; picking at random gives n_good / arch.

    Raises:
        ShapeError: The vectors are not one-dimensional or differ in length.
        OptionError: Some values are not finite, or a count is out of range.
    """
    scores, values = as_pair(predicted, truth)
    check_count(n_good, "n_good", at_most=values.size)
    return float(membership(scores, k) @ membership(values, n_good)) / k


def top_overlap(predicted: npt.ArrayLike, truth: npt.ArrayLike, k: int) -> float:
    """Return the share of the true top k found in the predicted top k; at random it is k / arch.

    Raises:
        ShapeError: The vectors are not one-dimensional or differ in length.
        OptionError: Some values are not finite, or k is out of range.
    """
    return precision_at(predicted, truth, k, n_good=k)


def bottom_overlap(predicted: npt.ArrayLike, truth: npt.ArrayLike, k: int) -> float:
    """Return the share of the true bottom k found in the predicted bottom k.

    Raises:
        ShapeError: The vectors are not one-dimensional or differ in length.
        OptionError: Some values are not finite, or k is out of range.
    """
    scores, values = as_pair(predicted, truth)
    return precision_at(-scores, -values, k, n_good=k)


def mean_truth_at(predicted: npt.ArrayLike, truth: npt.ArrayLike, k: int) -> float:
    """Return the mean truth of the predicted top k, in the unit of truth.

    Raises:
        ShapeError: The vectors are not one-dimensional or differ in length.
        OptionError: Some values are not finite, or k is out of range.
    """
    scores, values = as_pair(predicted, truth)
    return float(membership(scores, k) @ values) / k


def regret_at(predicted: npt.ArrayLike, truth: npt.ArrayLike, k: int) -> float:
    """Return the best truth of all minus the best truth among the predicted top k.

    Args:
        predicted: Scores, shape (arch,); larger is better.
        truth: Scores of the same archs, shape (arch,).
        k: How many archs are picked, 1..arch.

    Returns:
        A number >= 0 in the unit of truth.

    Raises:
        ShapeError: The vectors are not one-dimensional or differ in length.
        OptionError: Some values are not finite, or k is out of range.
    """
    scores, values = as_pair(predicted, truth)
    chance, best = _best_of_top(scores, values, k)
    return max(0.0, float(values.max()) - _mean(best, chance))


def best_rank_at(predicted: npt.ArrayLike, truth: npt.ArrayLike, k: int) -> float:
    """Return the best true rank among the predicted top k, TnR of "Deeper Insights" (T1R, T3R).

    Args:
        predicted: Scores, shape (arch,); larger is better.
        truth: Scores of the same archs, shape (arch,).
        k: How many archs are picked, 1..arch.

    Returns:
        A rank >= 1, where 1 is best and archs tied in truth share the mean rank.

    Raises:
        ShapeError: The vectors are not one-dimensional or differ in length.
        OptionError: Some values are not finite, or k is out of range.
    """
    scores, values = as_pair(predicted, truth)
    chance, best = _best_of_top(scores, values, k)
    ascending = np.sort(values)
    n_below = np.searchsorted(ascending, best, side="left")
    n_up_to = np.searchsorted(ascending, best, side="right")
    return _mean(values.size - (n_below + n_up_to - 1) / 2, chance)


def tau_in_top(predicted: npt.ArrayLike, truth: npt.ArrayLike, fraction: float) -> float:
    """Return Kendall's tau-b over the archs of the true top fraction.

    Args:
        predicted: Scores, shape (arch,); larger is better.
        truth: Scores of the same archs, shape (arch,).
        fraction: Share of the archs in (0, 1]; archs tied with the last one are all included.

    Returns:
        A number in [-1, 1]; nan for fewer than 2 archs or where a vector is constant there.

    Raises:
        ShapeError: The vectors are not one-dimensional or differ in length.
        OptionError: Some values are not finite, or the fraction is out of range.
    """
    scores, values = as_pair(predicted, truth)
    inside = is_in_top(values, fraction)
    return kendall_tau(scores[inside], values[inside])


def is_in_top(truth: FloatArray, fraction: float) -> npt.NDArray[np.bool_]:
    """Return which archs lie in the true top fraction, shape (arch,); ties at the cut are all in.

    Raises:
        OptionError: The fraction lies outside (0, 1].
    """
    k = top_count(fraction, truth.size)
    if truth.size == 0:
        return np.zeros(0, dtype=bool)
    inside: npt.NDArray[np.bool_] = truth >= _cut(truth, k)
    return inside


def surpass_random(best_rank: float, n_archs: int, n_draws: int) -> float:
    """Return the probability that a pick surpasses random search, (1 - r / N)^n.

    The chance that all of n archs drawn uniformly rank below the pick ("An Analysis of Super-Net
    Heuristics", code; r counts from the top, 1 is best).

    Args:
        best_rank: True rank r of the best arch found, 1..n_archs.
        n_archs: Size N of the population that the rank refers to.
        n_draws: Number n of archs that random search draws.

    Raises:
        OptionError: A rank or count is out of range.
    """
    if n_draws < 1:
        raise OptionError(f"n_draws must be at least 1, got {n_draws}")
    if not 1 <= best_rank <= n_archs:
        raise OptionError(f"best_rank must lie in 1..{n_archs}, got {best_rank}")
    return float((1 - best_rank / n_archs) ** n_draws)


def _cut(values: FloatArray, k: int) -> float:
    return float(np.partition(values, values.size - k)[values.size - k])


def membership(values: FloatArray, k: int) -> FloatArray:
    """Return the probability that each arch is in the top k when ties are broken at random."""
    check_count(k, "k", at_most=values.size)
    cut = _cut(values, k)
    above, tied = values > cut, values == cut
    share = (k - np.count_nonzero(above)) / np.count_nonzero(tied)
    chances: FloatArray = above + tied * share
    return chances


def _best_of_top(scores: FloatArray, values: FloatArray, k: int) -> tuple[FloatArray, FloatArray]:
    """Return what the largest value among the top k scores can be, and with what chance.

    Which archs tied at the cut belong to the top k is drawn at random: with m places for t tied
    archs, the j-th best of them (from 0) gets one with chance m / (t - j) if none before it did.

    Returns:
        Chances that add up to 1, and the largest values, both shape (outcome,).
    """
    check_count(k, "k", at_most=scores.size)
    cut = _cut(scores, k)
    above, tied = scores > cut, np.sort(values[scores == cut])[::-1]
    n_places, n_tied = k - int(np.count_nonzero(above)), tied.size
    j = np.arange(n_tied - n_places + 1)
    chance = n_places / (n_tied - j)
    chance[1:] *= np.cumprod(1 - chance[:-1])
    return chance, np.maximum(tied[j], values[above].max(initial=-np.inf))


def _mean(values: FloatArray, chance: FloatArray) -> float:
    # Rounding must not push a mean past what it averages.
    return float(np.clip((chance * values).sum(), values.min(), values.max()))
