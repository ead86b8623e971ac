"""How ranks move from checkpoint to checkpoint: distributions, periods, and who was trained last.

After figures 2, 3 and 5 of "Deeper Insights into Weight Sharing in Neural Architecture Search" (arXiv
2001.01431): with round-robin sampling accuracies repeat with the period of the round, and the arch that
has just been trained ranks high.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsx.analysis._tables import as_rankings, as_table
from wsx.analysis._vectors import FloatArray, IntArray, as_vector
from wsx.analysis.ranks import average_ranks
from wsx.analysis.resample import Interval
from wsx.analysis.uncertainty import Resampling, Spread, permutation_p, spread, student_error
from wsx.errors import OptionError, ShapeError


@dataclass(frozen=True, eq=False)
class RankDistribution:
    """Where each arch ranks in several rankings; 1 is best.

    Attributes:
        probabilities: Which quantiles, shape (quantile,).
        quantiles: Rank of every arch at these, shape (quantile, arch).
        mean: Mean rank, shape (arch,).
        low: Lower limit of the mean by Student's t, shape (arch,); nan for one ranking.
        high: Upper limit, shape (arch,).
        n_rankings: Rankings that have a value.
        reason: Why there are no ranks, else None.
    """

    probabilities: FloatArray
    quantiles: FloatArray
    mean: FloatArray
    low: FloatArray
    high: FloatArray
    n_rankings: int
    reason: str | None


@dataclass(frozen=True)
class Periodicity:
    """How much of the variance over steps repeats with a period.

    Attributes:
        period: The period, in steps.
        share: Share of the variance that repeats with it, 0 in expectation for noise without memory; nan
            where it has no value.
        neighbours: The same share for the periods next to it.
        by_chance: Interval of the share when every cycle is rotated by a random number of steps.
        p_value: Share of such rotations that reach the measured share.
        n_cycles: Whole cycles that were seen; earlier steps are left out.
        reason: Why there is no share, else None.
    """

    period: int
    share: float
    neighbours: dict[int, float]
    by_chance: Interval | None
    p_value: float
    n_cycles: int
    reason: str | None = None


def rank_trajectories(scores: npt.ArrayLike) -> FloatArray:
    """Return the rank of every arch at every checkpoint, shape (checkpoint, arch); 1 is best.

    Args:
        scores: Scores, shape (checkpoint, arch); larger is better. A checkpoint that is not finite
            throughout has nan for ranks.

    Raises:
        ShapeError: The scores do not have two axes.
    """
    ranks = as_rankings(scores, "scores", ("checkpoint", "arch"))
    for row in ranks:
        if np.isfinite(row).all():
            row[:] = average_ranks(row)
    return ranks


def rank_distributions(
    scores: npt.ArrayLike,
    *,
    probabilities: Sequence[float] = (0, 0.25, 0.5, 0.75, 1),
    level: float = 0.95,
) -> RankDistribution:
    """Return where each arch ranks over runs, or over checkpoints of one run.

    Args:
        scores: Scores, shape (ranking, arch); larger is better.
        probabilities: Which quantiles, in [0, 1].
        level: How sure the limits of the mean are where rankings are independent, in (0, 1).

    Raises:
        ShapeError: The scores do not have two axes.
        OptionError: A probability or the level is out of range.
    """
    levels = as_vector(probabilities, "probabilities")
    if ((levels < 0) | (levels > 1)).any():
        raise OptionError(f"probabilities must lie in [0, 1], got {probabilities}")
    ranks = rank_trajectories(scores)
    ranks = ranks[np.isfinite(ranks).all(axis=1)]
    n = len(ranks)
    if not n:
        ranks = np.full((1, ranks.shape[1]), np.nan)
    mean = ranks.mean(axis=0)
    half = np.full_like(mean, np.nan)
    if n > 1:
        half = ranks.std(axis=0, ddof=1) * student_error(1.0, n, level)
    quantiles = np.quantile(ranks, levels, axis=0)
    reason = None if n else "no ranking is finite throughout"
    return RankDistribution(levels, quantiles, mean, mean - half, mean + half, n, reason)


def periodicity(
    accuracies: npt.ArrayLike,
    period: int,
    *,
    n_neighbours: int = 3,
    resampling: Resampling | None = None,
) -> Periodicity:
    """Return the share of the variance over consecutive steps that repeats with a period.

    After taking out each arch's mean and straight line, the share is the adjusted R^2 of "mean of the arch
    at this phase", pooled over archs. Slow drift makes it positive at every long period; a real period
    stands out from its neighbours. The test rotates each cycle by a random number of steps, all archs
    together: this keeps what is next to what inside a cycle, and loses only that cycles keep step.

    Args:
        accuracies: Accuracy after each step, shape (step, arch).
        period: The period in steps, at least 2: the number of archs for round-robin training.
        n_neighbours: How many periods on each side to compare with.
        resampling: How many rotations, and the level of the interval by chance.

    Raises:
        ShapeError: The accuracies do not have two axes.
        OptionError: Some values are not finite, or the period is below 2.
    """
    table = as_table(accuracies, "accuracies", ("step", "arch"))
    if period < 2:
        raise OptionError(f"a period must be at least 2 steps, got {period}")
    n_cycles = len(table) // period
    nothing = float("nan")
    if n_cycles < 2:
        why = f"a period of {period} needs {2 * period} steps, got {len(table)}"
        return Periodicity(period, nothing, {}, None, nothing, n_cycles, why)
    series = _without_line(table[len(table) - n_cycles * period :])
    if not series.any():
        why = "the accuracies do not change, or along a straight line only"
        return Periodicity(period, nothing, {}, None, nothing, n_cycles, why)
    options = resampling or Resampling()
    share = _share(series, period)
    near = [p for p in range(period - n_neighbours, period + n_neighbours + 1) if p != period]
    possible = [p for p in near if 2 <= p < len(series) - 1]
    rotated = _rotated_shares(series, period, options)
    return Periodicity(
        period,
        share,
        {p: _share(series, p) for p in possible},
        options.intervals("rotations", rotated, share).get("rotations"),
        permutation_p(share, rotated),
        n_cycles,
    )


def recency(
    scores: npt.ArrayLike,
    trained: npt.ArrayLike,
    *,
    lags: Sequence[int] = (0, 1, 2, 3),
    level: float = 0.95,
) -> dict[int, Spread]:
    """Return how many ranks an arch gains from having been trained a number of steps ago.

    The advantage is the mean rank of the arch over all steps minus its rank now, so that good archs count
    no more than bad ones. Each trained arch gives one value, its mean over the steps that trained it; the
    limits are over these archs. In a full round of round-robin the advantages of all lags add up to 0.

    Args:
        scores: Scores after each step, shape (step, arch); a step that is not finite throughout is left out.
        trained: Which arch each step trained, shape (step,); -1 for an arch that is not scored.
        lags: Steps between training and scoring; 0 is right after.
        level: How sure the limits are, in (0, 1).

    Returns:
        By lag, the advantage in ranks, above 0 where recent training helps.

    Raises:
        ShapeError: The shapes do not fit together.
        OptionError: An arch or a lag is out of range.
    """
    ranks = rank_trajectories(scores)
    order = as_trained(trained, n_steps=len(ranks), n_archs=ranks.shape[1])
    is_known = np.isfinite(ranks[:, 0])
    usual = ranks[is_known].mean(axis=0) if is_known.any() else np.full(ranks.shape[1], np.nan)
    found = {}
    for lag in lags:
        if lag < 0:
            raise OptionError(f"a lag must be 0 or more, got {lag}")
        steps = np.arange(lag, len(ranks))
        archs = order[: len(steps)]
        is_used = is_known[steps] & (archs >= 0)
        steps, archs = steps[is_used], archs[is_used]
        n_each = np.bincount(archs)
        gains = np.bincount(archs, weights=usual[archs] - ranks[steps, archs])
        means = gains[n_each > 0] / n_each[n_each > 0]
        found[lag] = spread(means, f"rank advantage {lag} steps after training", level=level)
    return found


def as_trained(trained: npt.ArrayLike, *, n_steps: int, n_archs: int) -> IntArray:
    """Return which arch each step trained after checking it, shape (step,).

    Raises:
        ShapeError: There is not one arch per step.
        OptionError: An index lies outside -1..n_archs - 1.
    """
    order = np.asarray(trained)
    if order.shape != (n_steps,) or order.dtype.kind not in "iu":
        raise ShapeError(
            f"trained must hold one index per step, shape ({n_steps},), got {order.dtype} {order.shape}"
        )
    if n_steps and not -1 <= order.min() <= order.max() < n_archs:
        raise OptionError(
            f"trained must lie in -1..{n_archs - 1}, got {order.min()}..{order.max()}"
        )
    return order.astype(np.int64)


def _without_line(table: FloatArray) -> FloatArray:
    """Return each arch's series without its mean and straight line; exactly 0 where nothing is left."""
    time = np.arange(len(table)) - (len(table) - 1) / 2
    centred = table - table.mean(axis=0)
    left: FloatArray = centred - np.outer(time, time @ centred / (time @ time))
    size = np.abs(table).max(axis=0)
    left *= np.abs(left).max(axis=0) > 1e-12 * size
    return left


def _share(series: FloatArray, period: int) -> float:
    phases = np.arange(len(series)) % period
    sums = np.zeros((period, series.shape[1]))
    np.add.at(sums, phases, series)
    between = (sums**2 / np.bincount(phases)[:, None]).sum()
    return _adjusted(float(between), series, period)


def _adjusted(between: float, series: FloatArray, period: int) -> float:
    n, total = len(series), float((series**2).sum())
    return 1 - (total - between) / (n - period - 1) * (n - 2) / total


def _rotated_shares(series: FloatArray, period: int, options: Resampling) -> FloatArray:
    cycles = series.reshape(-1, period, series.shape[1])
    rng = options.rngs(1)[0]
    shares = np.empty(options.n_resamples)
    for i, shifts in enumerate(rng.integers(period, size=(options.n_resamples, len(cycles)))):
        turned = np.zeros(cycles.shape[1:])
        for cycle, shift in zip(cycles, shifts, strict=True):
            turned += np.roll(cycle, shift, axis=0)
        shares[i] = _adjusted(float((turned**2).sum() / len(cycles)), series, period)
    return shares
