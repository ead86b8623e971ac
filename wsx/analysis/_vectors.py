"""What every measure does with its inputs: one place for shape and value checks.

All measures take plain vectors in which larger is better. Callers drop failed archs first: a value
that is not finite is an error here, because leaving it out silently would change what is measured.
"""

import numpy as np
import numpy.typing as npt

from wsx.errors import OptionError, ShapeError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def as_vector(values: npt.ArrayLike, name: str) -> FloatArray:
    """Return values as float64, shape (arch,).

    Args:
        values: Numbers, shape (arch,).
        name: What the values are, for messages.

    Raises:
        ShapeError: The values are not one-dimensional.
        OptionError: The values are not real numbers, or some are not finite.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise OptionError(f"{name} must be real numbers, got dtype {array.dtype}")
    if array.ndim != 1:
        raise ShapeError(f"{name} must have shape (arch,), got {array.shape}")
    vector = array.astype(np.float64)
    n_bad = int(np.count_nonzero(~np.isfinite(vector)))
    if n_bad:
        raise OptionError(
            f"{n_bad} of {vector.size} values of {name} are not finite; drop failed archs first"
        )
    return vector


def as_pair(
    predicted: npt.ArrayLike, truth: npt.ArrayLike, names: tuple[str, str] = ("predicted", "truth")
) -> tuple[FloatArray, FloatArray]:
    """Return two vectors over the same archs as float64.

    Raises:
        ShapeError: A vector is not one-dimensional, or their lengths differ.
        OptionError: Some values are not finite real numbers.
    """
    first, second = as_vector(predicted, names[0]), as_vector(truth, names[1])
    if first.size != second.size:
        raise ShapeError(
            f"{names[0]} has {first.size} archs and {names[1]} has {second.size}; "
            "both must list the same archs in the same order"
        )
    return first, second


def check_count(value: int, name: str, *, at_most: int) -> None:
    """Check that a count lies in 1..at_most.

    Raises:
        OptionError: It does not.
    """
    if not 1 <= value <= at_most:
        raise OptionError(f"{name} must lie in 1..{at_most}, got {value}")


def top_count(fraction: float, n_archs: int) -> int:
    """Return how many archs the top fraction holds: the nearest integer, at least 1.

    Raises:
        OptionError: The fraction lies outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise OptionError(f"a top fraction must lie in (0, 1], got {fraction}")
    return max(1, round(fraction * n_archs))
