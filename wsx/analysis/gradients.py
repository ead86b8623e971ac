"""Whether the gradients of archs agree on the weights that they share.

After "Analyzing and Mitigating Interference in Neural Architecture Search" (arXiv 2108.12821). Where two gradients
point apart, a step on one arch undoes to shared weights what a step on the other did.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsx.analysis._tables import as_table
from wsx.analysis._vectors import FloatArray, IntArray
from wsx.analysis.summary import Estimate
from wsx.analysis.uncertainty import Resampling, pair_sums
from wsx.errors import OptionError, ShapeError

# Numbers that are float64 at once.
_BLOCK = 1 << 22


@dataclass(frozen=True, eq=False)
class WeightGradients:
    """Gradients of some weights, such as those of one parameter, for the archs that use any of them.

    Attributes:
        archs: Number of each row's arch, int64 (row,); none twice.
        values: float32 (row, weight); 0 where an arch does not use a weight.
        is_used: Whether an arch uses a weight, bool (row, weight); None where all rows use all weights.

    Raises:
        ShapeError: The arrays do not fit together.
    """

    archs: IntArray
    values: npt.NDArray[np.float32]
    is_used: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        shape = self.values.shape
        used = shape if self.is_used is None else self.is_used.shape
        if len(shape) != 2 or self.archs.shape != shape[:1] or used != shape:
            raise ShapeError(
                f"gradients must have shape (row, weight), got {shape}, with archs {self.archs.shape} "
                f"and is_used {used}"
            )


@dataclass(frozen=True, eq=False)
class GradientCosines:
    """How the gradients of two archs agree.

    Attributes:
        cosine: Over the weights that both use, float64 (arch, arch); nan where they share none, or where one of
            the gradients is 0 on all that they share.
        n_weights: How many weights both use, int64 (arch, arch); on the diagonal, how many the arch uses.
    """

    cosine: FloatArray
    n_weights: IntArray


def gradient_cosines(gradients: Iterable[WeightGradients], n_archs: int) -> GradientCosines:
    """Return the cosine of the gradients of every two archs, over the weights that both use.

    Sums are float64, one block of weights after another.

    Args:
        gradients: All weights, in parts.
        n_archs: How many archs there are.

    Raises:
        OptionError: A gradient is not finite, or an arch is out of range or in a part twice.
    """
    dots, squares = np.zeros((n_archs, n_archs)), np.zeros((n_archs, n_archs))
    n_weights = np.zeros((n_archs, n_archs), dtype=np.int64)
    for part in gradients:
        _check(part, n_archs)
        place = np.ix_(part.archs, part.archs)
        n_rows, n_all = part.values.shape
        n_columns = max(1, _BLOCK // max(1, n_rows))
        for start in range(0, n_all, n_columns):
            columns = slice(start, start + n_columns)
            values = part.values[:, columns].astype(np.float64)
            dots[place] += values @ values.T
            if part.is_used is None:
                # Of each row, whichever the other arch is.
                squares[place] += (values**2).sum(axis=1)[:, None]
                n_weights[place] += values.shape[1]
            else:
                used = part.is_used[:, columns].astype(np.float64)
                squares[place] += values**2 @ used.T
                n_weights[place] += (used @ used.T).astype(np.int64)
    lengths = np.sqrt(squares)
    norms = lengths * lengths.T
    cosine = dots / np.where(norms > 0, norms, np.nan)
    return GradientCosines(np.clip(cosine, -1, 1), n_weights)


def _check(part: WeightGradients, n_archs: int) -> None:
    archs = part.archs
    if archs.size and (archs.min() < 0 or archs.max() >= n_archs):
        raise OptionError(f"archs run from {archs.min()} to {archs.max()}; there are {n_archs}")
    if np.unique(archs).size != archs.size:
        raise OptionError(f"archs {archs.tolist()!s:.120} name one twice")
    is_finite = np.isfinite(part.values).all(axis=1)
    if not is_finite.all():
        raise OptionError(f"the gradient of arch {archs[~is_finite][0]} is not finite")


def mean_over_pairs(values: npt.ArrayLike, *, resampling: Resampling | None = None) -> Estimate:
    """Return the mean of a number over pairs of different archs, with an interval over archs.

    Args:
        values: A number per pair, shape (arch, arch); nan where unknown; the diagonal is not used.
        resampling: How many resamples; pairs of an arch with itself are left out of them.

    Raises:
        ShapeError: The shape is not square.
    """
    table = _square(values)
    is_pair = _pairs(table)
    label = "mean over pairs of archs"
    if not is_pair.any():
        return Estimate(label, "correlation", float("nan"), "no pair of archs has a value")
    options = resampling or Resampling()
    mean = float(table[is_pair].mean())
    weights = options.weights(len(table), options.rngs(1)[0])
    n_pairs = pair_sums(weights, is_pair.astype(np.float64))
    sums = pair_sums(weights, np.where(is_pair, table, 0.0))
    samples = sums / np.where(n_pairs > 0, n_pairs, np.nan)
    return Estimate(label, "correlation", mean, None, options.intervals("archs", samples, mean))


def means_by_shared(values: npt.ArrayLike, shared: npt.ArrayLike) -> dict[int, float]:
    """Return the mean of a number over pairs of different archs, by what they share, ascending.

    Args:
        values: A number per pair, shape (arch, arch); nan where unknown; the diagonal is not used.
        shared: How much two archs share, whole numbers, shape (arch, arch).

    Returns:
        Means by what is shared; nan where no pair that shares so much has a value.

    Raises:
        ShapeError: The shapes differ, or are not square.
        OptionError: Some of ``shared`` are not finite.
    """
    table = _square(values)
    other = as_table(shared, "shared", ("arch", "arch"))
    if table.shape != other.shape:
        raise ShapeError(f"both must have shape (arch, arch), got {table.shape} and {other.shape}")
    is_pair, is_other = _pairs(table), ~np.eye(len(table), dtype=bool)
    means = {}
    for n in np.unique(other[is_other]):
        chosen = table[is_pair & (other == n)]
        means[int(n)] = float(chosen.mean()) if chosen.size else float("nan")
    return means


def _square(values: npt.ArrayLike) -> FloatArray:
    table = np.array(values, dtype=np.float64)
    if table.ndim != 2 or len(table) != table.shape[1]:
        raise ShapeError(f"values must have shape (arch, arch), got {table.shape}")
    return table


def _pairs(table: FloatArray) -> npt.NDArray[np.bool_]:
    return np.isfinite(table) & ~np.eye(len(table), dtype=bool)
