"""Scores of options by the archs that have them, for fixing one branch of a space after another.

The three scores of "How Does Weight Sharing Help in Neural Architecture Search?" (arXiv 2010.08219, code).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from wsx.analysis._tables import as_archs
from wsx.analysis._vectors import FloatArray, as_pair
from wsx.analysis.bias import log_sizes, option_table
from wsx.errors import OptionError

BoolArray = npt.NDArray[np.bool_]
BranchScore = Callable[[BoolArray, FloatArray, FloatArray], float]


def branch_scores(
    archs: npt.ArrayLike,
    accuracies: npt.ArrayLike,
    params: npt.ArrayLike,
    *,
    score: str = "accuracy",
    min_arch: int = 10,
) -> dict[tuple[int, int], float]:
    """Return the score of each (decision, option) among evaluated archs; larger is better.

    ``accuracy`` is the mean accuracy of the archs that have the option. ``nondominated`` is the share of pairs
    of one that has it and one that has not in which the first is smaller and more accurate. ``lstsq`` is the
    mean residual of those that have it from the line accuracy = m log(params) + c through all archs.

    Args:
        archs: Options, shape (arch, decision).
        accuracies: Supernet accuracies, shape (arch,).
        params: Parameter counts above 0, shape (arch,).
        score: Which score: a name in ``BRANCH_SCORES``.
        min_arch: Options that fewer archs have are left out, as are those that all have.

    Raises:
        ShapeError: The inputs list different archs.
        OptionError: Some values are not finite, a size is not above 0, or there is no such score.
    """
    values, sizes = as_pair(accuracies, params, ("accuracies", "params"))
    if score not in BRANCH_SCORES:
        raise OptionError(f"no branch score named {score!r}; known: {', '.join(BRANCH_SCORES)}")
    has, keys = option_table(as_archs(archs), values.size)
    logs = log_sizes(sizes)
    return {
        key: BRANCH_SCORES[score](column, values, logs)
        for key, column in zip(keys, has.T, strict=True)
        if min_arch <= column.sum() < column.size
    }


def _accuracy(has: BoolArray, accuracies: FloatArray, logs: FloatArray) -> float:
    return float(accuracies[has].mean())


def _nondominated(has: BoolArray, accuracies: FloatArray, logs: FloatArray) -> float:
    smaller = logs[has][:, None] < logs[~has]
    better = accuracies[has][:, None] > accuracies[~has]
    return float((smaller & better).mean())


def _lstsq(has: BoolArray, accuracies: FloatArray, logs: FloatArray) -> float:
    x, y = logs - logs.mean(), accuracies - accuracies.mean()
    # Archs of one size leave nothing to calibrate by.
    slope = float(x @ y) / float(x @ x) if np.ptp(logs) > 0 else 0.0
    return float((y - slope * x)[has].mean())


BRANCH_SCORES: dict[str, BranchScore] = {
    "accuracy": _accuracy,
    "nondominated": _nondominated,
    "lstsq": _lstsq,
}
