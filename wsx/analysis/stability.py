"""How far rankings of the same archs agree with one another and with truth.

The measures of "Deeper Insights into Weight Sharing in Neural Architecture Search" (arXiv 2001.01431,
section 3): S-Tau between rankings, GT-Tau against truth, its mean and deviation over the last k
checkpoints, and TnR, the best true rank among the top n. A ranking is one row of scores: a run, or a
checkpoint of one run.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsx.analysis._tables import as_rankings, check_archs
from wsx.analysis._vectors import FloatArray, as_vector, check_count
from wsx.analysis.ranks import average_ranks, kendall_tau
from wsx.analysis.summary import Estimate
from wsx.analysis.top import best_rank_at
from wsx.analysis.uncertainty import Resampling, Spread, pair_sums, spread
from wsx.errors import ShapeError


@dataclass(frozen=True, eq=False)
class Stability:
    """How far rankings agree with one another.

    Attributes:
        s_tau: Mean Kendall tau-b over pairs of rankings, with an interval over rankings.
        highest: The largest tau of a pair; nan where no pair has one.
        lowest: The smallest tau of a pair.
        tau: Tau-b of every pair, shape (ranking, ranking); nan where it has no value.
        n_undefined: Rankings that agree with none: constant, or not finite throughout.
    """

    s_tau: Estimate
    highest: float
    lowest: float
    tau: FloatArray
    n_undefined: int


@dataclass(frozen=True, eq=False)
class TauWindow:
    """Agreement with truth over the last checkpoints of several runs.

    Attributes:
        gt_tau: Tau-b against truth, shape (run, checkpoint), the last k checkpoints.
        mean: GT-Tau-Mean-k: the mean over these checkpoints, in each run.
        std: GT-Tau-Std-k: the standard deviation over them (divisor k), in each run.
    """

    gt_tau: FloatArray
    mean: Spread
    std: Spread


def tau_matrix(scores: npt.ArrayLike) -> FloatArray:
    """Return Kendall's tau-b of every pair of rankings, shape (ranking, ranking).

    Args:
        scores: Scores, shape (ranking, arch); larger is better.

    Returns:
        Numbers in [-1, 1]; nan in the rows and columns of rankings that are constant or not finite
        throughout, and for fewer than 2 archs.

    Raises:
        ShapeError: The scores do not have two axes.
    """
    table = as_rankings(scores, "scores", ("ranking", "arch"))
    is_fine = np.isfinite(table).all(axis=1)
    # Float32 is exact here: ranks are halves and every sum below is a whole number under 2^24.
    ranks = np.zeros(table.shape, dtype=np.float32)
    for row in np.flatnonzero(is_fine):
        ranks[row] = average_ranks(table[row])
    agreed = np.zeros((len(table), len(table)))
    for arch in range(table.shape[1] - 1):
        signs = np.sign(ranks[:, arch + 1 :] - ranks[:, arch : arch + 1])
        agreed += signs @ signs.T
    n_untied = np.diag(agreed)
    norm = np.sqrt(np.outer(n_untied, n_untied))
    return np.divide(agreed, norm, out=np.full_like(agreed, np.nan), where=norm > 0)


def s_tau(scores: npt.ArrayLike, *, resampling: Resampling | None = None) -> Stability:
    """Return S-Tau: how far rankings agree, the mean tau-b over their pairs.

    The interval draws rankings again. S-Tau is a U-statistic: a ranking that is drawn twice forms a pair
    with itself, whose tau of 1 nobody measured, so a resample is the mean over pairs of *different*
    rankings, each counted as often as both were drawn. Without that every resample is too high, by about
    (1 - S-Tau) / n. Resamples that hold one ranking only have no value and are counted; two rankings have no
    interval. It takes rankings to be independent: it is meant for runs, not for checkpoints of one run.

    Args:
        scores: Scores, shape (ranking, arch); larger is better.
        resampling: How rankings are drawn again.

    Raises:
        ShapeError: The scores do not have two axes, or there are fewer than 2 rankings.
    """
    options = resampling or Resampling()
    tau = tau_matrix(scores)
    n = len(tau)
    if n < 2:
        raise ShapeError(f"stability needs 2 or more rankings, got {n}")
    pairs = tau[np.triu_indices(n, 1)]
    pairs = pairs[~np.isnan(pairs)]
    n_undefined = int(np.isnan(np.diag(tau)).sum())
    label = "S-Tau: mean tau-b over pairs of rankings"
    if not pairs.size:
        why = f"{n_undefined} of {n} rankings are constant or hold values that are not finite"
        nothing = float("nan")
        unknown = Estimate(label, "correlation", nothing, why)
        return Stability(unknown, nothing, nothing, tau, n_undefined)
    value = float(pairs.mean())
    # Two rankings are one pair: however they are drawn, it is the same one, and says nothing of others.
    has_interval = pairs.size > 1
    intervals = (
        options.intervals("rankings", _resample_pairs(tau, options), value) if has_interval else {}
    )
    mean = Estimate(label, "correlation", value, None, intervals)
    return Stability(mean, float(pairs.max()), float(pairs.min()), tau, n_undefined)


def random_s_tau(
    n_rankings: int, n_archs: int, *, resampling: Resampling | None = None
) -> Stability:
    """Return the stability of random rankings, the control beside a measured one.

    Any two are uncorrelated, so S-Tau scatters around 0 with variance 2 (2n + 5) / (9n (n - 1)) for n archs,
    divided by the number of pairs.

    Args:
        n_rankings: How many rankings, at least 2.
        n_archs: How many archs each ranks.
        resampling: How rankings are drawn, and drawn again.

    Raises:
        ShapeError: There are fewer than 2 rankings or no archs.
    """
    options = resampling or Resampling()
    scores = options.rngs(2)[1].random((max(n_rankings, 0), max(n_archs, 0)))
    return s_tau(scores, resampling=options)


def gt_tau(scores: npt.ArrayLike, truth: npt.ArrayLike) -> FloatArray:
    """Return GT-Tau: Kendall's tau-b of every ranking against truth.

    Args:
        scores: Scores, shape (..., arch): any axes before the last.
        truth: Scores of the same archs, shape (arch,).

    Returns:
        Shape of the scores without arch; nan for rankings that are constant or not finite throughout.

    Raises:
        ShapeError: The numbers of archs differ.
        OptionError: Some values of truth are not finite.
    """
    axes = tuple(f"axis {i}" for i in range(np.ndim(scores) - 1))
    table = as_rankings(scores, "scores", (*axes, "arch"))
    values = as_vector(truth, "truth")
    check_archs(table, values.size, "scores")
    rows = table.reshape(-1, values.size)
    tau = [np.nan if np.isnan(row).any() else kendall_tau(row, values) for row in rows]
    return np.array(tau, dtype=np.float64).reshape(table.shape[:-1])


def truth_stability(
    scores: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    ks: tuple[int, ...] = (1, 3),
    level: float = 0.95,
) -> dict[str, Spread]:
    """Return how far each run's ranking agrees with truth, over the runs.

    Args:
        scores: Scores, shape (run, arch); larger is better.
        truth: Scores of the same archs, shape (arch,).
        ks: Sizes n of the top for TnR.
        level: How sure the limits of the means are, in (0, 1).

    Returns:
        ``gt_tau``, and ``best_rank@n`` (TnR) for each n; runs without a value are nan in them.

    Raises:
        ShapeError: The scores do not have two axes, or the numbers of archs differ.
        OptionError: Some values of truth are not finite, or an n is out of range.
    """
    table = as_rankings(scores, "scores", ("run", "arch"))
    found = {"gt_tau": spread(gt_tau(table, truth), "GT-Tau: tau-b against truth", level=level)}
    for k in ks:
        check_count(k, "k", at_most=table.shape[1])
        ranks = [np.nan if np.isnan(row).any() else best_rank_at(row, truth, k) for row in table]
        label = f"best true rank among the top {k} (T{k}R)"
        found[f"best_rank@{k}"] = spread(ranks, label, level=level)
    return found


def gt_tau_window(
    scores: npt.ArrayLike, truth: npt.ArrayLike, k: int, *, level: float = 0.95
) -> TauWindow:
    """Return GT-Tau-Mean-k and GT-Tau-Std-k: tau-b against truth over the last k checkpoints.

    Consecutive checkpoints are not independent, so the limits are those over runs.

    Args:
        scores: Scores, shape (run, checkpoint, arch); larger is better.
        truth: Scores of the same archs, shape (arch,).
        k: How many checkpoints, 1..checkpoint.
        level: How sure the limits over runs are, in (0, 1).

    Raises:
        ShapeError: The scores do not have three axes, or the numbers of archs differ.
        OptionError: Some values of truth are not finite, or k is out of range.
    """
    table = as_rankings(scores, "scores", ("run", "checkpoint", "arch"))
    check_count(k, "k", at_most=table.shape[1])
    tau = gt_tau(table[:, -k:], truth)
    known = [row[~np.isnan(row)] for row in tau]
    means = [row.mean() if row.size else np.nan for row in known]
    stds = [row.std() if row.size else np.nan for row in known]
    return TauWindow(
        tau,
        spread(means, f"mean GT-Tau over the last {k} checkpoints", level=level),
        spread(stds, f"standard deviation of GT-Tau over the last {k} checkpoints", level=level),
    )


def _resample_pairs(tau: FloatArray, options: Resampling) -> FloatArray:
    weights = options.weights(len(tau), options.rngs(1)[0])
    is_known = ~np.isnan(tau)
    total = pair_sums(weights, np.where(is_known, tau, 0))
    n_pairs = pair_sums(weights, is_known.astype(np.float64))
    return np.divide(total, n_pairs, out=np.full_like(total, np.nan), where=n_pairs > 0)
