"""Which options a supernet over- or under-values against truth.

An option is a value of a decision: an operator on an edge, a kernel size, a depth. Sizes become decisions
through ``quantile_bins``.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsx.analysis._tables import as_archs
from wsx.analysis._vectors import FloatArray, IntArray, as_pair, as_vector, check_count
from wsx.analysis.metrics import Metric
from wsx.analysis.ranks import average_ranks, pearson, undefined_reason
from wsx.analysis.summary import Estimate, estimate_metrics
from wsx.analysis.uncertainty import Resampling, Spread, spread
from wsx.errors import OptionError, ShapeError


@dataclass(frozen=True)
class OptionBias:
    """How a supernet values one option against truth.

    Attributes:
        decision: Index of the decision.
        option: The option.
        n_archs: Archs that have it.
        bias: Mean rank residual of the archs that have the option minus that of the others: above 0 where
            the supernet ranks them too high; in [-1, 1], with an interval over archs.
        is_flagged: Whether the bias stands out among all options together.
    """

    decision: int
    option: int
    n_archs: int
    bias: Estimate
    is_flagged: bool


@dataclass(frozen=True, eq=False)
class OptionMean:
    """Mean accuracy of the archs that have one option."""

    decision: int
    option: int
    accuracy: Spread


def rank_residuals(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> FloatArray:
    """Return predicted minus true rank fraction, shape (arch,); above 0 where over-valued.

    The rank fraction is the share of the other archs that an arch beats, ties as halves: 1 is best.

    Raises:
        ShapeError: The vectors differ in length or hold fewer than 2 archs.
        OptionError: Some values are not finite.
    """
    scores, values = as_pair(predicted, truth)
    if scores.size < 2:
        raise ShapeError(f"rank residuals need at least 2 archs, got {scores.size}")
    return (average_ranks(values) - average_ranks(scores)) / (scores.size - 1)


def option_bias(
    archs: npt.ArrayLike,
    predicted: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    min_archs: int = 10,
    resampling: Resampling | None = None,
) -> list[OptionBias]:
    """Return for every option of every decision how the supernet values it against truth.

    Archs are drawn again, and ranked again in each draw. Flags hold for all options together: an option is
    flagged where its bias exceeds its standard error by more than the largest such ratio among all options
    reaches by chance in a share ``level`` of the draws, so that with no bias at all the chance of any flag is
    1 - level. Constant predictions rank nothing and have no bias. Noise alone pulls predicted ranks
    to the middle, so that options of truly good archs look under-valued.

    Args:
        archs: Options, shape (arch, decision).
        predicted: Supernet scores, shape (arch,); larger is better.
        truth: Stand-alone scores, shape (arch,); larger is better.
        min_archs: Options that fewer archs have, or fewer lack, get no number.
        resampling: How archs are drawn again.

    Raises:
        ShapeError: The inputs list different archs.
        OptionError: Some values are not finite.
    """
    table = as_archs(archs)
    scores, values = as_pair(predicted, truth)
    options = resampling or Resampling()
    has, keys = option_table(table, scores.size)
    n_with = has.sum(axis=0)
    reason = undefined_reason(scores, values)
    is_used = np.minimum(n_with, len(has) - n_with) >= max(1, min_archs)
    is_used &= reason is None
    chosen = has[:, is_used]
    bias = np.full(len(keys), np.nan)
    drawn = np.full((options.n_resamples, len(keys)), np.nan)
    if is_used.any():
        bias[is_used] = _contrast(rank_residuals(scores, values), chosen)
        drawn[:, is_used] = _drawn_contrasts(scores, values, chosen, options)
    flags = np.zeros(len(keys), dtype=bool)
    flags[is_used] = _stand_out(bias[is_used], drawn[:, is_used], options.level)
    return [
        OptionBias(
            decision,
            option,
            int(n_with[i]),
            Estimate(
                "mean rank residual with the option minus without",
                "share",
                float(bias[i]),
                None if is_used[i] else reason or f"{n_with[i]} of {len(has)} archs have it",
                options.intervals("archs", drawn[:, i], bias[i]),
            ),
            bool(flags[i]),
        )
        for i, (decision, option) in enumerate(keys)
    ]


def option_means(
    archs: npt.ArrayLike, accuracies: npt.ArrayLike, *, level: float = 0.95
) -> list[OptionMean]:
    """Return the mean accuracy of the archs that have each option, with limits over archs.

    Args:
        archs: Options, shape (arch, decision).
        accuracies: Accuracies or other scores, shape (arch,).
        level: How sure the limits are, in (0, 1).

    Raises:
        ShapeError: The inputs list different archs.
        OptionError: Some values are not finite.
    """
    values = as_vector(accuracies, "accuracies")
    has, keys = option_table(as_archs(archs), values.size)
    return [
        OptionMean(
            decision, option, spread(values[has[:, i]], "accuracy with the option", level=level)
        )
        for i, (decision, option) in enumerate(keys)
    ]


def explained_share(
    values: npt.ArrayLike, sizes: npt.ArrayLike, *, resampling: Resampling | None = None
) -> Estimate:
    """Return the share of the variance that a straight line in the logarithm of a size explains.

    Of accuracies it is the baseline that "How Does Weight Sharing Help in NAS?" calibrates by; of rank
    residuals it says how much of the bias is a bias towards size.

    Args:
        values: Accuracies, rank residuals or the like, shape (arch,).
        sizes: Parameter or operation counts above 0, shape (arch,).
        resampling: How archs are drawn again.

    Raises:
        ShapeError: The inputs list different archs.
        OptionError: Some values are not finite, or a size is not above 0.
    """
    numbers, logs = as_pair(values, log_sizes(sizes), ("values", "sizes"))
    share = Metric(
        "explained",
        "share explained by log size",
        "share",
        lambda v, s: pearson(v, s) ** 2,
        lambda v, s: undefined_reason(v, s, ("values", "size")),
    )
    return estimate_metrics([share], numbers, logs, resampling or Resampling())["explained"]


def quantile_bins(sizes: npt.ArrayLike, n_bins: int) -> IntArray:
    """Return which quantile bin each size falls into, shape (arch,), 0 for the smallest; ties together.

    A column of bins beside the decisions makes a size one more decision.

    Raises:
        ShapeError: The sizes are not one-dimensional.
        OptionError: Some sizes are not finite, or there are fewer archs than bins.
    """
    values = as_vector(sizes, "sizes")
    check_count(n_bins, "n_bins", at_most=values.size)
    edges = np.quantile(values, np.arange(1, n_bins) / n_bins)
    return np.searchsorted(edges, values, side="left").astype(np.int64)


def option_table(
    table: IntArray, n_archs: int
) -> tuple[npt.NDArray[np.bool_], list[tuple[int, int]]]:
    """Return which arch has which option, shape (arch, pair), and the pairs (decision, option).

    Raises:
        ShapeError: The table lists another number of archs.
    """
    if len(table) != n_archs:
        raise ShapeError(f"archs lists {len(table)} archs and the scores {n_archs}")
    keys = [(d, int(o)) for d in range(table.shape[1]) for o in np.unique(table[:, d])]
    has = np.stack([table[:, decision] == option for decision, option in keys], axis=1)
    return has, keys


def log_sizes(sizes: npt.ArrayLike) -> FloatArray:
    """Return natural logarithms of sizes, shape (arch,).

    Raises:
        OptionError: A size is not above 0.
    """
    values = as_vector(sizes, "sizes")
    if (values <= 0).any():
        raise OptionError(f"sizes must be above 0 to take logarithms, got {values.min():g}")
    return np.log(values)


def _drawn_contrasts(
    scores: FloatArray, values: FloatArray, has: npt.NDArray[np.bool_], options: Resampling
) -> FloatArray:
    rng = options.rngs(1)[0]
    drawn = np.empty((options.n_resamples, has.shape[1]))
    for row in drawn:
        picked = rng.integers(scores.size, size=scores.size)
        row[:] = _contrast(rank_residuals(scores[picked], values[picked]), has[picked])
    return drawn


def _contrast(residuals: FloatArray, has: npt.NDArray[np.bool_]) -> FloatArray:
    """Return mean residual with minus without each option, shape (pair,); nan where one side is empty."""
    n_with = has.sum(axis=0).astype(np.float64)
    n_without = len(has) - n_with
    n_with[n_with == 0], n_without[n_without == 0] = np.nan, np.nan
    total = residuals @ has
    contrast: FloatArray = total / n_with - (residuals.sum() - total) / n_without
    return contrast


def _stand_out(value: FloatArray, drawn: FloatArray, level: float) -> npt.NDArray[np.bool_]:
    if not drawn.size:
        return np.zeros(value.size, dtype=bool)
    gaps = np.where(np.isnan(drawn), 0, drawn - value)
    error = np.sqrt((gaps**2).mean(axis=0))
    ratios = np.divide(np.abs(gaps), error, out=np.zeros_like(gaps), where=error > 0)
    bar = np.quantile(ratios.max(axis=1), level)
    stands: npt.NDArray[np.bool_] = (np.abs(value) > bar * error) & (error > 0)
    return stands
