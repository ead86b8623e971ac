"""What a supernet's ranking has to beat, and what a further training of every arch would reach.

Ranking archs by size alone often correlates with truth at .5 to .6, and truth itself moves between
training seeds; a correlation means little without both beside it.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from wsx.analysis._vectors import FloatArray
from wsx.analysis.metrics import Metric
from wsx.analysis.ranks import kendall_tau, pearson, spearman
from wsx.errors import OptionError, ShapeError

BoolArray = npt.NDArray[np.bool_]

CORRELATIONS: dict[str, Callable[[npt.ArrayLike, npt.ArrayLike], float]] = {
    "kendall_tau": kendall_tau,
    "spearman": spearman,
    "pearson": pearson,
}


@dataclass(frozen=True)
class SeedMeasure:
    """A measure with trainings of the truth in the place of predictions.

    Attributes:
        label: What is compared with what.
        value: Mean over the comparisons that have a value; nan where none has.
        reason: Why none has, else None.
        n_compared: How many comparisons have a value.
        n_archs: How many archs take part in some comparison.
    """

    label: str
    value: float
    reason: str | None
    n_compared: int
    n_archs: int


def seed_against_seed(metric: Metric, truth_runs: npt.ArrayLike) -> SeedMeasure:
    """Return how well two trainings of the same archs agree: the mean measure over pairs of runs.

    It is the reliability of one training. Predictions that stand beside it must be compared with one
    training too; those compared with the mean of several belong beside ``seed_against_others``.

    Args:
        metric: What is measured; the earlier run of a pair is taken as the prediction.
        truth_runs: Stand-alone accuracies or other scores, shape (run, arch), one row per training seed;
            nan where there was no such training. A pair is measured over the archs that both have.

    Raises:
        ShapeError: There are fewer than 2 runs or not two dimensions.
        OptionError: Some values are infinite or no real numbers.
    """
    runs = as_truth_runs(truth_runs)
    pairs = (
        (one[both], other[both], both)
        for one, other in combinations(runs, 2)
        if (both := ~np.isnan(one + other)).any()
    )
    return _mean_measure("one training against another", metric, pairs, runs.shape[1])


def seed_against_others(metric: Metric, truth_runs: npt.ArrayLike) -> SeedMeasure:
    """Return a measure of one training against the mean of the others, averaged over the trainings.

    This is what one more noisy training would reach in the place of a prediction, up to a truth of one
    training less. It bounds no predictor: one that knows the expected accuracies reaches more.

    Args:
        metric: What is measured.
        truth_runs: As in ``seed_against_seed``; each run is measured over the archs that it and some
            other run have.

    Raises:
        ShapeError: There are fewer than 2 runs or not two dimensions.
        OptionError: Some values are infinite or no real numbers.
    """
    runs = as_truth_runs(truth_runs)
    label = "one training against the mean of the others"
    return _mean_measure(label, metric, each_against_others(runs), runs.shape[1])


def each_against_others(
    truth_runs: npt.ArrayLike,
) -> Iterator[tuple[FloatArray, FloatArray, BoolArray]]:
    """Yield for each run its scores, the mean of the other runs, and which archs these are.

    The scores and the mean have shape (known arch,), the choice of archs shape (arch,). A run that shares
    no arch with another is left out.

    Raises:
        ShapeError: There are fewer than 2 runs or not two dimensions.
        OptionError: Some values are infinite or no real numbers.
    """
    runs = as_truth_runs(truth_runs)
    for row, scores in enumerate(runs):
        others = np.delete(runs, row, axis=0)
        n_others = (~np.isnan(others)).sum(axis=0)
        known = ~np.isnan(scores) & (n_others > 0)
        if known.any():
            yield scores[known], np.nansum(others[:, known], axis=0) / n_others[known], known


def as_truth_runs(truth_runs: npt.ArrayLike) -> FloatArray:
    """Return trainings of the truth as float64, shape (run, arch), nan where there was none.

    Raises:
        ShapeError: There are fewer than 2 runs or not two dimensions.
        OptionError: Some values are infinite or no real numbers.
    """
    runs = np.asarray(truth_runs)
    if runs.ndim != 2 or runs.shape[0] < 2:
        raise ShapeError(
            f"trainings of the truth need shape (run, arch) with 2 or more runs, got {runs.shape}"
        )
    if runs.dtype.kind not in "biuf":
        raise OptionError(f"trainings of the truth must be real numbers, got dtype {runs.dtype}")
    if np.isinf(runs).any():
        raise OptionError(f"{int(np.isinf(runs).sum())} trainings of the truth are infinite")
    return runs.astype(np.float64)


def _mean_measure(
    label: str,
    metric: Metric,
    comparisons: Iterable[tuple[FloatArray, FloatArray, BoolArray]],
    n_archs: int,
) -> SeedMeasure:
    values: list[float] = []
    reasons: list[str] = []
    is_compared = np.zeros(n_archs, dtype=np.bool_)
    for predicted, truth, known in comparisons:
        is_compared |= known
        reason = metric.reason(predicted, truth)
        if reason is None:
            values.append(metric.value(predicted, truth))
        else:
            reasons.append(reason)
    n_compared = int(is_compared.sum())
    if values:
        return SeedMeasure(label, float(np.mean(values)), None, len(values), n_compared)
    reason = reasons[0] if reasons else "no arch was trained twice"
    return SeedMeasure(label, math.nan, reason, 0, n_compared)
