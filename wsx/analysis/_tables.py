"""Checks of inputs with more than one axis; vectors over archs are checked in ``_vectors``."""

import numpy as np
import numpy.typing as npt

from wsx.analysis._vectors import FloatArray, IntArray, as_vector
from wsx.errors import OptionError, ShapeError


def as_table(values: npt.ArrayLike, name: str, axes: tuple[str, ...]) -> FloatArray:
    """Return finite values as float64 with the given axes.

    Raises:
        ShapeError: The number of axes differs, or an axis is empty.
        OptionError: The values are not real numbers, or some are not finite.
    """
    array = _shaped(values, name, axes)
    return as_vector(array.ravel(), name).reshape(array.shape)


def as_rankings(values: npt.ArrayLike, name: str, axes: tuple[str, ...]) -> FloatArray:
    """Return scores of several rankings as float64; a ranking that is not finite throughout is nan.

    A supernet whose training failed is one ranking without a value and must not take the others with it.

    Args:
        values: Scores whose last axis is arch.
        name: What the scores are, for messages.
        axes: Names of all axes, for messages.

    Raises:
        ShapeError: The number of axes differs, or an axis is empty.
        OptionError: The values are not real numbers.
    """
    array = _shaped(values, name, axes)
    if array.dtype.kind not in "biuf":
        raise OptionError(f"{name} must be real numbers, got dtype {array.dtype}")
    table: FloatArray = array.astype(np.float64)
    table[~np.isfinite(table).all(axis=-1)] = np.nan
    return table


def as_archs(archs: npt.ArrayLike) -> IntArray:
    """Return archs as whole numbers, shape (arch, decision).

    Raises:
        ShapeError: There are not two axes, or one is empty.
        OptionError: They are not whole numbers.
    """
    table = as_table(archs, "archs", ("arch", "decision"))
    whole = table.astype(np.int64)
    if (whole != table).any():
        raise OptionError("archs must be whole numbers, one option per decision")
    return whole


def check_archs(values: FloatArray, n_archs: int, name: str) -> None:
    """Check that the last axis lists as many archs as the other input.

    Raises:
        ShapeError: It does not.
    """
    if values.shape[-1] != n_archs:
        raise ShapeError(
            f"{name} has {values.shape[-1]} archs and the other input has {n_archs}; "
            "both must list the same archs in the same order"
        )


def _shaped(values: npt.ArrayLike, name: str, axes: tuple[str, ...]) -> npt.NDArray[np.generic]:
    array = np.asarray(values)
    if array.ndim != len(axes) or not array.size:
        raise ShapeError(f"{name} must have shape ({', '.join(axes)}), got {array.shape}")
    return array
