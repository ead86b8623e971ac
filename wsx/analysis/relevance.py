"""Rank measures that weigh the top of the ranking more than the rest."""

import numpy as np
import numpy.typing as npt

from wsx.analysis._vectors import FloatArray, IntArray, as_pair
from wsx.analysis.ranks import MAX_DIRECT, undefined_reason

# "AceNAS" (arXiv 2108.03001): the worst fifth is worth nothing, the best arch 20.
_USELESS_SHARE = 0.2
_MAX_RELEVANCE = 20


def weighted_tau(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return the weighted tau of Vigna (2015): a pair weighs 1/rank + 1/rank of its two archs.

    The mean of the values by predicted and by true rank, as ``scipy.stats.weightedtau`` defines it.

    Args:
        predicted: Scores, shape (arch,); larger is better.
        truth: Scores of the same archs, shape (arch,).

    Returns:
        A number in [-1, 1]; nan for fewer than 2 archs or a constant vector.

    Raises:
        ShapeError: The vectors are not one-dimensional or differ in length.
        OptionError: Some values are not finite.
    """
    first, second = as_pair(predicted, truth)
    if undefined_reason(first, second):
        return float("nan")
    net = _net_agreement(first, second)
    untied, other_untied = _n_untied(first), _n_untied(second)
    values = []
    for keys in ((second, first), (first, second)):
        # A pair weighs the sum of its archs' weights, so sums over pairs are sums over archs.
        weight = np.empty(first.size)
        weight[np.lexsort(keys)[::-1]] = 1 / np.arange(1, first.size + 1)
        values.append((weight @ net) / np.sqrt((weight @ untied) * (weight @ other_untied)))
    return float(np.clip(np.mean(values), -1, 1))


def ndcg(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return the normalised discounted cumulative gain as "AceNAS" defines it.

    Relevance is 20 clip((t - q) / (max t - q), 0, 1) with q the 20 % quantile of truth, gain is
    2^relevance - 1, the discount of place j is 1 / log2(j + 1), and the sum is divided by that of the
    true order. The value is the mean over all ways to break ties among predictions.

    Args:
        predicted: Scores, shape (arch,); larger is better.
        truth: Scores of the same archs, shape (arch,).

    Returns:
        A number in (0, 1]; nan where no arch is better than the 20 % quantile. Random rankings reach
        well above 0: compare with ``ndcg`` of constant predictions, which is their mean.

    Raises:
        ShapeError: The vectors are not one-dimensional or differ in length.
        OptionError: Some values are not finite.
    """
    scores, values = as_pair(predicted, truth)
    if relevance_reason(scores, values):
        return float("nan")
    low = np.quantile(values, _USELESS_SHARE)
    relevance = np.clip((values - low) / (values.max() - low), 0, 1) * _MAX_RELEVANCE
    gain = np.exp2(relevance) - 1
    discount = 1 / np.log2(np.arange(2, values.size + 2))
    _, group = np.unique(-scores, return_inverse=True)
    # Tied archs share the mean discount of the places that they take together.
    n_tied = np.bincount(group)
    shared = np.add.reduceat(discount, np.cumsum(n_tied) - n_tied) / n_tied
    return float(gain @ shared[group]) / float(np.sort(gain)[::-1] @ discount)


def relevance_reason(predicted: FloatArray, truth: FloatArray) -> str | None:
    """Return why the gain has no value, or None where it has one."""
    if not truth.size:
        return "there are no archs"
    if truth.max() <= np.quantile(truth, _USELESS_SHARE):
        return f"no arch is better than the {100 * _USELESS_SHARE:g} % quantile of truth"
    return None


def _n_untied(values: FloatArray) -> FloatArray:
    _, group, n_tied = np.unique(values, return_inverse=True, return_counts=True)
    return (values.size - n_tied[group]).astype(np.float64)


def _net_agreement(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return how many archs each arch is ordered alike with in both vectors, minus unlike, shape (arch,).

    SciPy's own weighted tau calls Python for every arch, which takes several times as long.
    """
    if first.size <= MAX_DIRECT:
        signs = [np.sign(values[:, None] - values) for values in (first, second)]
        direct: FloatArray = (signs[0] * signs[1]).sum(axis=1)
        return direct
    # A tie counts 0, the mean over breaking it both ways.
    found = [
        4 * _n_below_both(a, b) - 2 * a - 2 * b + first.size - 1
        for a in _strict_ranks(first)
        for b in _strict_ranks(second)
    ]
    net: FloatArray = np.mean(found, axis=0, dtype=np.float64)
    return net


def _strict_ranks(values: FloatArray) -> list[IntArray]:
    """Return ranks from 0 without ties: one way to break them, and the opposite one where there are any."""
    order = np.argsort(values, kind="stable")
    orders = [order]
    if (np.diff(values[order]) == 0).any():
        orders.append(values.size - 1 - np.argsort(values[::-1], kind="stable"))
    return [np.argsort(order).astype(np.int64) for order in orders]


def _n_below_both(first: IntArray, second: IntArray) -> IntArray:
    """Return how many archs lie below each arch in both rankings, by halving the archs in order of the first."""
    n = first.size
    padded = np.arange(1 << (n - 1).bit_length())
    padded[first] = second
    counts = np.zeros(padded.size, dtype=np.int64)
    # Each row is a block of places in order of the second ranking.
    blocks = np.argsort(padded)[None]
    while (half := blocks.shape[1] // 2) > 0:
        is_right = (blocks & half) > 0
        n_left = np.cumsum(~is_right, axis=1)
        counts[blocks[is_right]] += n_left[is_right]
        halves = blocks[~is_right].reshape(-1, half), blocks[is_right].reshape(-1, half)
        blocks = np.stack(halves, axis=1).reshape(-1, half)
    below: IntArray = counts[first]
    return below
