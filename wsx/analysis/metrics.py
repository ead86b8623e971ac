"""The list of measures that a summary reports, each with the reason why it may have no value.

A further measure of predictions against truth is one more entry here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from wsx.analysis._vectors import FloatArray, top_count
from wsx.analysis.ranks import kendall_tau, pearson, spearman, undefined_reason
from wsx.analysis.relevance import ndcg, relevance_reason, weighted_tau
from wsx.analysis.sparse import bin_accuracies, sparse_kendall_tau
from wsx.analysis.top import (
    best_rank_at,
    bottom_overlap,
    is_in_top,
    mean_truth_at,
    precision_at,
    regret_at,
    surpass_random,
    tau_in_top,
    top_overlap,
)

MetricKind = Literal["correlation", "share", "accuracy", "rank"]
Value = Callable[[FloatArray, FloatArray], float]
Reason = Callable[[FloatArray, FloatArray], str | None]


@dataclass(frozen=True)
class Metric:
    """One measure of predictions against truth.

    Attributes:
        name: Key in tables and JSON, such as ``top_overlap@0.1``.
        label: The measure in words.
        kind: How a number is to be read: correlation in [-1, 1], share in [0, 1], accuracy in the
            unit of truth, or rank from 1.
        value: The measure; called only where there is no reason against it.
        reason: Why the measure has no value for given vectors, or None.
    """

    name: str
    label: str
    kind: MetricKind
    value: Value
    reason: Reason


def correlation_metrics(sparse_width: float) -> list[Metric]:
    """Return the correlations over all archs."""
    bins = partial(_bins_reason, sparse_width)
    width = f"{sparse_width:.4g}"
    return [
        Metric("kendall_tau", "Kendall's tau-b", "correlation", kendall_tau, undefined_reason),
        Metric("spearman", "Spearman's rho", "correlation", spearman, undefined_reason),
        Metric("pearson", "Pearson's r", "correlation", pearson, undefined_reason),
        Metric(
            "sparse_tau",
            f"sparse tau, bins of {width}",
            "correlation",
            partial(sparse_kendall_tau, width=sparse_width),
            bins,
        ),
        Metric(
            "sparse_tau_paper",
            f"sparse tau as in the paper's code, bins of {width}",
            "correlation",
            partial(sparse_kendall_tau, width=sparse_width, variant="paper"),
            bins,
        ),
    ]


def relevance_metrics() -> list[Metric]:
    """Return the measures over all archs that weigh the top more than the rest."""
    return [
        Metric("weighted_tau", "weighted tau", "correlation", weighted_tau, undefined_reason),
        Metric("ndcg", "NDCG as in AceNAS", "share", ndcg, relevance_reason),
    ]


def fraction_metrics(fraction: float) -> list[Metric]:
    """Return the measures of one top fraction: overlap at both ends and tau inside the true top."""
    words = f"{100 * fraction:.4g} %"
    return [
        Metric(
            f"top_overlap@{fraction:g}",
            f"overlap of the top {words}",
            "share",
            lambda p, t: top_overlap(p, t, top_count(fraction, t.size)),
            _empty_reason,
        ),
        Metric(
            f"bottom_overlap@{fraction:g}",
            f"overlap of the bottom {words}",
            "share",
            lambda p, t: bottom_overlap(p, t, top_count(fraction, t.size)),
            _empty_reason,
        ),
        Metric(
            f"tau_in_top@{fraction:g}",
            f"tau-b inside the true top {words}",
            "correlation",
            partial(_tau_in_top, fraction),
            partial(_inside_reason, fraction),
        ),
    ]


def pick_metrics(k: int, good_fraction: float) -> list[Metric]:
    """Return the measures of the predicted top k."""
    few = partial(few_reason, k)
    good = f"{100 * good_fraction:.4g} %"
    return [
        Metric(
            f"precision@{k}",
            f"P@{k}: share of the top {k} in the true top {good}",
            "share",
            lambda p, t: precision_at(p, t, k, n_good=top_count(good_fraction, t.size)),
            few,
        ),
        Metric(
            f"mean_truth@{k}",
            f"mean truth of the top {k}",
            "accuracy",
            lambda p, t: mean_truth_at(p, t, k),
            few,
        ),
        Metric(
            f"regret@{k}",
            f"regret of the best among the top {k}",
            "accuracy",
            lambda p, t: regret_at(p, t, k),
            few,
        ),
        Metric(
            f"best_rank@{k}",
            f"best true rank among the top {k} (T{k}R)",
            "rank",
            lambda p, t: best_rank_at(p, t, k),
            few,
        ),
        Metric(
            f"surpass_random@{k}",
            f"probability that the top {k} surpass random search",
            "share",
            lambda p, t: surpass_random(best_rank_at(p, t, k), t.size, k),
            few,
        ),
    ]


def _tau_in_top(fraction: float, predicted: FloatArray, truth: FloatArray) -> float:
    return tau_in_top(predicted, truth, fraction)


def _bins_reason(width: float, predicted: FloatArray, truth: FloatArray) -> str | None:
    if truth.size and ((truth < 0).any() or (truth > 1).any()):
        return "sparse tau is defined for accuracies in [0, 1] only"
    bins = bin_accuracies(truth, width)
    return undefined_reason(predicted, bins, ("predicted", "the bin of truth"))


def _empty_reason(predicted: FloatArray, truth: FloatArray) -> str | None:
    return None if truth.size else "there are no archs"


def few_reason(k: int, predicted: FloatArray, truth: FloatArray) -> str | None:
    """Return why there is no top k, or None where there is one."""
    return None if truth.size >= k else f"k = {k} exceeds the {truth.size} archs"


def _inside_reason(fraction: float, predicted: FloatArray, truth: FloatArray) -> str | None:
    inside = is_in_top(truth, fraction)
    return undefined_reason(predicted[inside], truth[inside])
