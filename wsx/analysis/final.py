"""What a search over a ranking ends with, and which measures foretell it.

After "An Analysis of Super-Net Heuristics in Weight-Sharing NAS" (arXiv 2003.04276, 2110.01154) and its
code: the truth of the top K, ranks of the top, tau over small random subsets, and correlations of measures
with final performance over many trainings.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from wsx.analysis._vectors import FloatArray, as_pair, check_count
from wsx.analysis.baselines import CORRELATIONS
from wsx.analysis.metrics import Metric, MetricKind, few_reason
from wsx.analysis.ranks import average_ranks, kendall_tau, undefined_reason
from wsx.analysis.resample import Interval
from wsx.analysis.summary import Estimate, estimate_metrics
from wsx.analysis.top import (
    best_rank_at,
    mean_truth_at,
    membership,
    regret_at,
    surpass_random,
)
from wsx.analysis.uncertainty import Resampling, Spread, spread
from wsx.errors import OptionError, ShapeError


@dataclass(frozen=True)
class MetricCorrelations:
    """How measures of trainings go with what a search after these trainings ends with.

    Attributes:
        correlations: By measure, then by kind of correlation, with intervals over ``trainings`` or, where these
            come in groups, over ``groups``.
        n_undefined: By measure, how many trainings are left out because the measure has no value.
        n_trainings: Trainings that count.
        n_untrained: Trainings left out because their mean accuracy is too low.
    """

    correlations: Mapping[str, Mapping[str, Estimate]]
    n_undefined: Mapping[str, int]
    n_trainings: int
    n_untrained: int


def final_performance(
    predicted: npt.ArrayLike,
    truth: npt.ArrayLike,
    k: int,
    *,
    resampling: Resampling | None = None,
) -> dict[str, Estimate]:
    """Return the truth of the predicted top k, with intervals over archs.

    Args:
        predicted: Scores, shape (arch,); larger is better.
        truth: Scores of the same archs, shape (arch,).
        k: How many archs the search ends with, 1..arch.
        resampling: How archs are drawn again.

    Returns:
        ``mean_truth`` and ``std_truth`` (divisor k) of the top k, ``best_truth`` and ``best_rank`` of its best,
        and ``surpass_random``, the chance that it surpasses k archs drawn at random.

    Raises:
        ShapeError: The vectors differ in length.
        OptionError: Some values are not finite, or k is out of range.
    """
    scores, values = as_pair(predicted, truth)
    check_count(k, "k", at_most=values.size)
    metrics = [
        _of_top("mean_truth", f"mean truth of the top {k}", "accuracy", mean_truth_at, k),
        _of_top("std_truth", f"deviation of truth in the top {k}", "accuracy", _std_truth, k),
        _of_top("best_truth", f"best truth in the top {k}", "accuracy", _best_truth, k),
        _of_top("best_rank", f"best true rank in the top {k}", "rank", best_rank_at, k),
        _of_top("surpass_random", f"P(top {k} > {k} random)", "share", _surpass, k),
    ]
    return estimate_metrics(metrics, scores, values, resampling or Resampling())


def rank_percentiles(
    predicted: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    ks: Sequence[int] = (3, 5, 10, 20),
    resampling: Resampling | None = None,
) -> dict[int, dict[str, Estimate]]:
    """Return the true ranks of the predicted top k, as shares of the number of archs.

    Args:
        predicted: Scores, shape (arch,); larger is better.
        truth: Scores of the same archs, shape (arch,).
        ks: Sizes of the top; those above the number of archs are nan with a reason.
        resampling: How archs are drawn again.

    Returns:
        By k, then ``best``, ``median`` and ``worst``, each rank / archs in (0, 1]; 1 / archs is the best arch.

    Raises:
        ShapeError: The vectors differ in length.
        OptionError: Some values are not finite.
    """
    scores, values = as_pair(predicted, truth)
    return {
        k: estimate_metrics(
            [
                _of_top("best", f"best rank in the top {k}, of all", "share", _best_share, k),
                _of_top("median", f"median rank in the top {k}, of all", "share", _median_share, k),
                _of_top("worst", f"worst rank in the top {k}, of all", "share", _worst_share, k),
            ],
            scores,
            values,
            resampling or Resampling(),
        )
        for k in ks
    }


def subset_tau(
    predicted: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    sizes: Sequence[int] = (10, 20, 50, 100),
    n_subsets: int = 5,
    seed: int = 0,
    level: float = 0.95,
) -> dict[int, Spread]:
    """Return Kendall's tau-b over random subsets of archs: what a study of so few archs would report.

    Args:
        predicted: Scores, shape (arch,); larger is better.
        truth: Scores of the same archs, shape (arch,).
        sizes: How many archs a subset holds; those above the number of archs have no value.
        n_subsets: Subsets of each size.
        seed: Of the subsets.
        level: How sure the limits of the mean over subsets are, in (0, 1).

    Raises:
        ShapeError: The vectors differ in length.
        OptionError: Some values are not finite, or a count is below 1.
    """
    scores, values = as_pair(predicted, truth)
    if n_subsets < 1 or min(sizes, default=1) < 1:
        raise OptionError(f"subsets and their sizes must be 1 or more, got {n_subsets} of {sizes}")
    rng = np.random.default_rng(seed)
    found = {}
    for size in sizes:
        tau = []
        for _ in range(n_subsets if size <= scores.size else 0):
            picked = rng.choice(scores.size, size=size, replace=False)
            tau.append(kendall_tau(scores[picked], values[picked]))
        found[size] = spread(tau, f"tau-b over {size} archs drawn at random", level=level)
    return found


def metric_correlations(
    metrics: Mapping[str, npt.ArrayLike],
    final: npt.ArrayLike,
    accuracies: npt.ArrayLike,
    *,
    min_accuracy: float = 0.15,
    groups: npt.ArrayLike | None = None,
    resampling: Resampling | None = None,
) -> MetricCorrelations:
    """Return how measures of many trainings correlate with their final performance.

    Trainings that differ by chance alone, such as seeds of one recipe, are alike: twelve recipes of three seeds
    are twelve cases, not 36. Such groups are drawn again as wholes.

    Args:
        metrics: Columns by name, such as sparse tau or supernet accuracy, each shape (training,); nan where
            a training has no value.
        final: Final performance of each training, shape (training,).
        accuracies: Mean supernet accuracy of each training, a fraction, shape (training,).
        min_accuracy: Trainings below it did not train and are left out. The published code has 0.15 in its
            tables and 0.4 in this figure, for ten classes.
        groups: Number of the group of each training, shape (training,); without it each is one of its own.
        resampling: How trainings, or groups of them, are drawn again.

    Raises:
        ShapeError: The columns differ in length.
        OptionError: Final performance or an accuracy is not finite.
    """
    performance, mean = as_pair(final, accuracies, ("final", "accuracies"))
    is_trained = mean >= min_accuracy
    alike = None if groups is None else np.asarray(groups)
    if alike is not None and alike.shape != performance.shape:
        raise ShapeError(f"groups has shape {alike.shape} and final {performance.shape}")
    correlations, n_undefined = {}, {}
    for name, column in metrics.items():
        values = np.asarray(column, dtype=np.float64)
        if values.shape != performance.shape:
            raise ShapeError(f"{name} has shape {values.shape} and final {performance.shape}")
        is_used = is_trained & np.isfinite(values)
        n_undefined[name] = int(is_trained.sum() - is_used.sum())
        correlations[name] = _correlations(
            name,
            values[is_used],
            performance[is_used],
            None if alike is None else alike[is_used],
            resampling or Resampling(),
        )
    n_trainings = int(is_trained.sum())
    return MetricCorrelations(correlations, n_undefined, n_trainings, mean.size - n_trainings)


def _correlations(
    name: str,
    values: FloatArray,
    final: FloatArray,
    groups: npt.NDArray[Any] | None,
    options: Resampling,
) -> dict[str, Estimate]:
    def reason(first: FloatArray, second: FloatArray) -> str | None:
        found = undefined_reason(first, second, (name, "final performance"))
        return found and found.replace("archs", "trainings")

    kinds = [
        Metric(kind, f"{kind} of {name}", "correlation", value, reason)
        for kind, value in CORRELATIONS.items()
    ]
    if groups is None:
        found = estimate_metrics(kinds, values, final, options)
        return {kind: _over_trainings(estimate) for kind, estimate in found.items()}
    found = estimate_metrics(kinds, values, final, replace(options, n_resamples=0))
    return {
        kind.name: replace(
            found[kind.name],
            intervals=_over_groups(kind, found[kind.name].value, values, final, groups, options),
        )
        for kind in kinds
    }


def _over_groups(
    metric: Metric,
    value: float,
    values: FloatArray,
    final: FloatArray,
    groups: npt.NDArray[Any],
    options: Resampling,
) -> dict[str, Interval]:
    """Return the interval of a correlation when whole groups of trainings are drawn again."""
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    rng, samples = options.rngs(1)[0], []
    for _ in range(options.n_resamples if members else 0):
        drawn = rng.integers(len(members), size=len(members))
        picked = np.concatenate([members[i] for i in drawn])
        one, other = values[picked], final[picked]
        samples.append(metric.value(one, other) if metric.reason(one, other) is None else np.nan)
    return options.intervals("groups", samples, value)


def _over_trainings(estimate: Estimate) -> Estimate:
    drawn = estimate.intervals
    return replace(estimate, intervals={"trainings": drawn["archs"]} if drawn else {})


def _of_top(
    name: str,
    label: str,
    kind: MetricKind,
    value: Callable[[FloatArray, FloatArray, int], float],
    k: int,
) -> Metric:
    return Metric(name, label, kind, lambda p, t: value(p, t, k), partial(few_reason, k))


def _std_truth(predicted: FloatArray, truth: FloatArray, k: int) -> float:
    centred = truth - mean_truth_at(predicted, truth, k)
    return float(np.sqrt(mean_truth_at(predicted, centred**2, k)))


def _best_truth(predicted: FloatArray, truth: FloatArray, k: int) -> float:
    return float(truth.max()) - regret_at(predicted, truth, k)


def _surpass(predicted: FloatArray, truth: FloatArray, k: int) -> float:
    return surpass_random(best_rank_at(predicted, truth, k), truth.size, k)


def _best_share(predicted: FloatArray, truth: FloatArray, k: int) -> float:
    return best_rank_at(predicted, truth, k) / truth.size


def _worst_share(predicted: FloatArray, truth: FloatArray, k: int) -> float:
    return (truth.size + 1 - best_rank_at(predicted, -truth, k)) / truth.size


def _median_share(predicted: FloatArray, truth: FloatArray, k: int) -> float:
    ranks = average_ranks(truth)
    order = np.argsort(ranks)
    seen = np.cumsum(membership(predicted, k)[order])
    # Shares of ties add up to k only within rounding; half of an even k lies between two ranks.
    low = np.searchsorted(seen, k / 2 - 1e-9)
    high = min(int(np.searchsorted(seen, k / 2 + 1e-9)), ranks.size - 1)
    return float(ranks[order][low] + ranks[order][high]) / 2 / truth.size
