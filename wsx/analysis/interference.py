"""What a training step on one arch does to the others, and whether archs that share more feel it more.

After figure 5 of "Deeper Insights into Weight Sharing in Neural Architecture Search" (arXiv 2001.01431) and
"Analyzing and Mitigating Interference in Neural Architecture Search" (arXiv 2108.12821), which measures
interference by the similarity of gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsx.analysis._tables import as_archs, as_table
from wsx.analysis._vectors import FloatArray, IntArray
from wsx.analysis.ranks import average_ranks, pearson, undefined_reason
from wsx.analysis.resample import Interval
from wsx.analysis.summary import Estimate
from wsx.analysis.trajectories import as_trained
from wsx.analysis.uncertainty import Resampling, Spread, pair_sums, permutation_p, spread
from wsx.errors import ShapeError


@dataclass(frozen=True, eq=False)
class Interference:
    """What training each arch does to the accuracy of every arch.

    Attributes:
        effect: Mean change of accuracy, shape (trained arch, evaluated arch); nan in rows of archs that no
            step trained.
        standard_error: Of the effect, same shape; nan where no arch was trained twice.
        n_steps: Steps that trained each arch, shape (arch,).
        itself: Effect of training an arch on itself, over trained archs.
        others: Mean effect of training an arch on the others, over trained archs.
    """

    effect: FloatArray
    standard_error: FloatArray
    n_steps: IntArray
    itself: Spread
    others: Spread


@dataclass(frozen=True)
class PairRelation:
    """How a number of each pair of archs goes with another, such as how many decisions they share.

    Attributes:
        rho: Spearman's rho over pairs of different archs, with an interval over archs.
        slope: Change of the number per unit of the other, by least squares; nan where rho is.
        slope_interval: Limits of the slope over archs, None without resamples.
        p_value: Two-sided p of rho, from permutations of the archs.
        n_pairs: Ordered pairs that have a value.
    """

    rho: Estimate
    slope: float
    slope_interval: Interval | None
    p_value: float
    n_pairs: int


def interference_effects(
    before: npt.ArrayLike, after: npt.ArrayLike, trained: npt.ArrayLike, *, level: float = 0.95
) -> Interference:
    """Return what a training step on one arch does to the accuracies of all.

    The standard errors take the deviation of a change from its mean to be the same whichever arch is
    trained, and so use all steps for each evaluated arch: round-robin trains each arch a few times only.

    Args:
        before: Accuracy before each step, shape (step, arch).
        after: Accuracy after each step, shape (step, arch); for consecutive evaluations pass
            ``accuracies[:-1]`` and ``accuracies[1:]``.
        trained: Which arch each step trained, shape (step,); -1 for an arch that is not evaluated.
        level: How sure the limits are, in (0, 1).

    Raises:
        ShapeError: The shapes do not fit together.
        OptionError: Some values are not finite, or an arch is out of range.
    """
    first = as_table(before, "before", ("step", "arch"))
    second = as_table(after, "after", ("step", "arch"))
    if first.shape != second.shape:
        raise ShapeError(f"before has shape {first.shape} and after {second.shape}")
    n_archs = first.shape[1]
    order = as_trained(trained, n_steps=len(first), n_archs=n_archs)
    change, order = (second - first)[order >= 0], order[order >= 0]
    n_steps = np.bincount(order, minlength=n_archs)
    sums = np.zeros((n_archs, n_archs))
    np.add.at(sums, order, change)
    is_trained = n_steps > 0
    effect = np.full_like(sums, np.nan)
    effect[is_trained] = sums[is_trained] / n_steps[is_trained, None]
    error = np.full_like(sums, np.nan)
    n_free = len(order) - int(is_trained.sum())
    if n_free:
        variance = ((change - effect[order]) ** 2).sum(axis=0) / n_free
        error[is_trained] = np.sqrt(variance / n_steps[is_trained, None])
    itself = np.diag(effect)
    rows = effect[is_trained]
    others = (rows.sum(axis=1) - itself[is_trained]) / max(n_archs - 1, 1)
    return Interference(
        effect,
        error,
        n_steps,
        spread(itself[is_trained], "effect of a step on the arch trained", level=level),
        spread(others if n_archs > 1 else [], "mean effect of a step on the others", level=level),
    )


def without_recency(
    values: npt.ArrayLike,
    trained: Sequence[int] | IntArray,
    *,
    earlier: Sequence[int] | IntArray = (),
) -> FloatArray:
    """Return numbers of steps and archs less their mean over all archs trained as many steps ago.

    An arch gains when it is trained and loses some of that in the steps after. In an order that puts similar
    archs next to each other, its loss would count as what its similar successor does to it. Apply it to changes
    and to what archs share (``shared_decisions(archs)[trained]``) alike: a line through both then has the slope
    that it has beside a term for each lag, while with changes alone it is too flat (Frisch and Waugh 1933).

    Args:
        values: Such as changes of accuracy by each step, shape (step, arch).
        trained: Which arch each step trained, shape (step,); -1 for an arch that is not evaluated.
        earlier: Those that the steps before trained, the last one last, shape (earlier step,). Archs that have
            not been trained at all share one mean.

    Returns:
        Shape (step, arch), of mean 0 at each lag; a lag of 0 is the arch that the step itself trained.

    Raises:
        ShapeError: The shapes do not fit together.
        OptionError: Some values are not finite, or an arch is out of range.
    """
    table = as_table(values, "values", ("step", "arch"))
    n_archs = table.shape[1]
    n_steps = len(earlier) + len(table)
    order = as_trained([*earlier, *trained], n_steps=n_steps, n_archs=n_archs)
    lags = np.empty((n_steps, n_archs), dtype=np.int64)
    last = np.full(n_archs, -n_steps)
    for step, arch in enumerate(order):
        if arch >= 0:
            last[arch] = step
        lags[step] = np.minimum(step - last, n_steps)
    lags = lags[len(earlier) :]
    sums = np.bincount(lags.ravel(), weights=table.ravel())
    means = sums / np.maximum(np.bincount(lags.ravel()), 1)
    left: FloatArray = table - means[lags]
    return left


def shared_decisions(archs: npt.ArrayLike) -> IntArray:
    """Return in how many decisions two archs take the same option, shape (arch, arch).

    Args:
        archs: Options, shape (arch, decision).

    Raises:
        ShapeError: There are not two axes.
        OptionError: The options are not whole numbers.
    """
    table = as_archs(archs)
    shared = np.zeros((len(table), len(table)), dtype=np.int64)
    for options in table.T:
        shared += options[:, None] == options
    return shared


def relate_pairs(
    values: npt.ArrayLike, shared: npt.ArrayLike, *, resampling: Resampling | None = None
) -> PairRelation:
    """Return how a number of each pair of archs goes with what they share (Mantel 1967).

    Meant for effects of training, shape (trained, evaluated), or cosines of gradients, against
    ``shared_decisions``. Pairs are not independent, since each arch is in many: the test permutes the archs of
    ``shared``, rows and columns together, and the interval draws archs again, pairs of an arch with itself left
    out. In both the ranks of pairs stay those of the data.

    Args:
        values: A number per ordered pair, shape (arch, arch); nan where unknown; the diagonal is not used.
        shared: What two archs share, shape (arch, arch), without nan.
        resampling: How many permutations and resamples.

    Raises:
        ShapeError: The shapes differ, or are not square.
        OptionError: Some of ``shared`` are not finite.
    """
    table = np.array(values, dtype=np.float64)
    other = as_table(shared, "shared", ("arch", "arch"))
    if table.shape != other.shape or len(table) != table.shape[1]:
        raise ShapeError(f"both must have shape (arch, arch), got {table.shape} and {other.shape}")
    is_pair = np.isfinite(table) & ~np.eye(len(table), dtype=bool)
    label, n_pairs = "Spearman's rho over pairs of archs", int(is_pair.sum())
    reason = undefined_reason(table[is_pair], other[is_pair], ("the number of pairs", "shared"))
    if reason:
        nan = float("nan")
        return PairRelation(
            Estimate(label, "correlation", nan, reason.replace("archs", "pairs")),
            nan,
            None,
            nan,
            n_pairs,
        )
    options = resampling or Resampling()
    # Ranked over all pairs once: a permutation of archs then permutes ranks.
    ranks, other_ranks = (
        _pair_ranks(table, is_pair),
        _pair_ranks(other, ~np.eye(len(other), dtype=bool)),
    )
    rho = pearson(ranks[is_pair], other_ranks[is_pair])
    slope = float(_slopes(np.ones((1, len(table))), other, table, is_pair)[0])
    rngs = options.rngs(2)
    weights = options.weights(len(table), rngs[0])
    permuted = _permuted(ranks, other_ranks, is_pair, options.n_resamples, rngs[1])
    return PairRelation(
        Estimate(
            label,
            "correlation",
            rho,
            None,
            options.intervals("archs", _correlations(weights, ranks, other_ranks, is_pair), rho),
        ),
        slope,
        options.intervals("archs", _slopes(weights, other, table, is_pair), slope).get("archs"),
        permutation_p(abs(rho), np.abs(permuted)),
        n_pairs,
    )


def _pair_ranks(table: FloatArray, is_pair: npt.NDArray[np.bool_]) -> FloatArray:
    ranks = np.zeros_like(table)
    ranks[is_pair] = average_ranks(table[is_pair])
    return ranks


def _permuted(
    ranks: FloatArray,
    other: FloatArray,
    is_pair: npt.NDArray[np.bool_],
    n_permutations: int,
    rng: np.random.Generator,
) -> FloatArray:
    fixed = np.where(is_pair, ranks - ranks[is_pair].mean(), 0)
    fixed /= np.linalg.norm(fixed)
    mask, n_pairs = is_pair.astype(np.float64), np.count_nonzero(is_pair)
    found = np.empty(n_permutations)
    for i in range(n_permutations):
        order = rng.permutation(len(other))
        moved = other[order][:, order]
        moved = (moved - np.vdot(mask, moved) / n_pairs) * mask
        norm = float(np.linalg.norm(moved))
        found[i] = np.vdot(fixed, moved) / norm if norm > 0 else 0.0
    return found


def _moments(
    weights: FloatArray, x: FloatArray, y: FloatArray, is_pair: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return weighted variances of x and y and their covariance over pairs, each shape (resample,)."""
    x = np.where(is_pair, x - x[is_pair].mean(), 0)
    y = np.where(is_pair, y - y[is_pair].mean(), 0)
    n = pair_sums(weights, is_pair.astype(np.float64))
    n[n == 0] = np.nan
    mean_x, mean_y = pair_sums(weights, x) / n, pair_sums(weights, y) / n
    return (
        pair_sums(weights, x * x) / n - mean_x**2,
        pair_sums(weights, y * y) / n - mean_y**2,
        pair_sums(weights, x * y) / n - mean_x * mean_y,
    )


def _correlations(
    weights: FloatArray, x: FloatArray, y: FloatArray, is_pair: npt.NDArray[np.bool_]
) -> FloatArray:
    var_x, var_y, both = _moments(weights, x, y, is_pair)
    is_fine = (var_x > 0) & (var_y > 0)
    norm = np.sqrt(np.where(is_fine, var_x * var_y, np.nan))
    return np.clip(both / norm, -1, 1)


def _slopes(
    weights: FloatArray, x: FloatArray, y: FloatArray, is_pair: npt.NDArray[np.bool_]
) -> FloatArray:
    var_x, _, both = _moments(weights, x, y, is_pair)
    slopes: FloatArray = both / np.where(var_x > 0, var_x, np.nan)
    return slopes
