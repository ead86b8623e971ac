"""Sparse Kendall tau: rank changes inside one bin of true accuracy do not count.

From "An Analysis of Super-Net Heuristics in Weight-Sharing NAS" (Yu, Ranftl, Salzmann) and its
code. The code has three bin widths (0.01 %, 0.1 %, 1 %); 0.1 % is what later papers quote.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from wsx.analysis._vectors import FloatArray, as_pair, as_vector
from wsx.analysis.ranks import kendall_tau
from wsx.errors import OptionError

SparseVariant = Literal["pairwise", "paper"]

# 0.57 / 0.001 is 569.9999999999999: accuracies this little below a bin's edge lie on it.
_EDGE = 1e-9


def bin_accuracies(truth: npt.ArrayLike, width: float) -> FloatArray:
    """Return the bin of each accuracy, shape (arch,): floor(accuracy / width).

    Args:
        truth: Accuracies in [0, 1], shape (arch,).
        width: Bin width in (0, 1], as a fraction.

    Raises:
        ShapeError: The truth is not one-dimensional.
        OptionError: An accuracy or the width is out of range.
    """
    values = as_vector(truth, "truth")
    if not 0 < width <= 1:
        raise OptionError(f"the bin width is a fraction in (0, 1], got {width}")
    outside = values[(values < 0) | (values > 1)]
    if outside.size:
        raise OptionError(
            f"sparse tau needs accuracies in [0, 1], got {outside[0]:g}; divide percent by 100"
        )
    bins: FloatArray = np.floor(values / width + _EDGE)
    return bins


def sparse_kendall_tau(
    predicted: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    width: float = 0.001,
    variant: SparseVariant = "pairwise",
) -> float:
    """Return Kendall's tau-b of the predictions against binned truth.

    ``pairwise`` is tau-b of each arch's prediction and bin. ``paper`` is what the published code
    computes: the bins in order of truth against the bins in order of prediction, paired by
    position; archs with equal predictions stay in the given order.

    Args:
        predicted: Scores, shape (arch,); larger is better.
        truth: Accuracies in [0, 1] of the same archs, shape (arch,).
        width: Bin width, as a fraction of 1.
        variant: Which of the two definitions.

    Returns:
        A number in [-1, 1]; nan for fewer than 2 archs, or where all fall into one bin or, for
        ``pairwise``, all predictions are equal.

    Raises:
        ShapeError: The vectors are not one-dimensional or differ in length.
        OptionError: A value, the width or the variant is out of range.
    """
    scores, accuracies = as_pair(predicted, truth)
    bins = bin_accuracies(accuracies, width)
    if variant == "pairwise":
        return kendall_tau(scores, bins)
    if variant == "paper":
        return kendall_tau(np.sort(bins), bins[np.argsort(scores, kind="stable")])
    raise OptionError(f"no sparse tau variant named {variant!r}; known: pairwise, paper")
