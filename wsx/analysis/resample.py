"""Bootstrap: how far a statistic moves when other archs or other images had been drawn.

A *draw* is a pair (predicted, truth) as it might have come out. Each source of chance is one
generator of draws (over archs, over images, over both); ``bootstrap`` computes statistics on them,
``interval`` turns the values into limits. A further source, such as training runs, is one more
generator here.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from wsx.analysis._vectors import FloatArray, IntArray, as_pair, as_vector
from wsx.errors import OptionError, ShapeError

Draw = tuple[FloatArray, FloatArray]
IntervalKind = Literal["percentile", "basic"]

# Float32 blocks of at most this many values bound the memory of the image bootstrap (64 MiB each).
_MAX_BLOCK = 2**24


@dataclass(frozen=True)
class Interval:
    """Limits between which a statistic lies in a share ``level`` of the resamples.

    Attributes:
        kind: ``percentile`` or ``basic``, see ``interval``.
        low: Lower limit; nan where no resample has a value.
        high: Upper limit; nan where no resample has a value.
        level: Share of the resamples between the limits.
        n_resamples: How many resamples were drawn.
        n_undefined: How many of them have no value and are left out.
    """

    kind: IntervalKind
    low: float
    high: float
    level: float
    n_resamples: int
    n_undefined: int


def draw_archs(
    predicted: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    n_resamples: int,
    rng: np.random.Generator,
) -> Iterator[Draw]:
    """Yield draws of as many archs, with replacement.

    Args:
        predicted: Scores, shape (arch,).
        truth: Scores of the same archs, shape (arch,).
        n_resamples: How many draws.
        rng: Source of chance.

    Raises:
        ShapeError: The vectors are not one-dimensional, differ in length, or are empty.
        OptionError: Some values are not finite.
    """
    scores, values = as_pair(predicted, truth)
    if not scores.size:
        raise ShapeError("cannot resample 0 archs")
    for _ in range(n_resamples):
        picked = rng.integers(scores.size, size=scores.size)
        yield scores[picked], values[picked]


def draw_images(
    outcomes: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    n_resamples: int,
    rng: np.random.Generator,
) -> Iterator[Draw]:
    """Yield draws whose accuracies are measured on as many images, drawn with replacement.

    All archs see the same images in one draw, as they do in an evaluation.

    Args:
        outcomes: True where an arch classifies an image correctly, shape (arch, image).
        truth: Scores of the same archs, shape (arch,).
        n_resamples: How many draws.
        rng: Source of chance.

    Raises:
        ShapeError: The shapes do not fit, or there are no images.
        OptionError: Outcomes are not boolean.
    """
    values = as_vector(truth, "truth")
    is_correct = as_outcomes(outcomes, n_archs=values.size)
    n_images = is_correct.shape[1]
    for n_correct in resample_correct(is_correct, n_resamples=n_resamples, rng=rng):
        yield n_correct / n_images, values


def draw_both(
    outcomes: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    n_resamples: int,
    rng: np.random.Generator,
) -> Iterator[Draw]:
    """Yield draws of other archs measured on other images, the two drawn independently.

    Args:
        outcomes: True where an arch classifies an image correctly, shape (arch, image).
        truth: Scores of the same archs, shape (arch,).
        n_resamples: How many draws.
        rng: Source of chance.

    Raises:
        ShapeError: The shapes do not fit, or there are no archs or images.
        OptionError: Outcomes are not boolean.
    """
    for scores, values in draw_images(outcomes, truth, n_resamples=n_resamples, rng=rng):
        yield from draw_archs(scores, values, n_resamples=1, rng=rng)


def resample_correct(
    outcomes: npt.NDArray[np.bool_], *, n_resamples: int, rng: np.random.Generator
) -> IntArray:
    """Return how many images each arch gets right in each resample of the images.

    A resample is a vector of how often each image was drawn, so all counts are one matrix product.

    Args:
        outcomes: True where an arch is right, shape (arch, image), with at least one image.
        n_resamples: How many resamples.
        rng: Source of chance.

    Returns:
        Counts in 0..image, shape (resample, arch).
    """
    n_archs, n_images = outcomes.shape
    n_correct = np.empty((n_resamples, n_archs), dtype=np.int64)
    n_rows = max(1, _MAX_BLOCK // n_images)
    for start in range(0, n_resamples, n_rows):
        rows = slice(start, min(start + n_rows, n_resamples))
        weights = image_weights(n_images, n_resamples=rows.stop - start, rng=rng)
        for first in range(0, n_archs, n_rows):
            archs = slice(first, first + n_rows)
            # Exact: every partial sum is an integer of at most n_images, below 2^24 in practice.
            n_correct[rows, archs] = weights @ outcomes[archs].T.astype(np.float32)
    return n_correct


def image_weights(
    n_images: int, *, n_resamples: int, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return how often each image occurs in each resample, shape (resample, image)."""
    weights = np.empty((n_resamples, n_images), dtype=np.float32)
    for row in weights:
        row[:] = np.bincount(rng.integers(n_images, size=n_images), minlength=n_images)
    return weights


def bootstrap(
    statistics: Callable[[FloatArray, FloatArray], FloatArray], draws: Iterable[Draw]
) -> FloatArray:
    """Return statistics of every draw, shape (resample, statistic).

    Args:
        statistics: Function of (predicted, truth) that returns shape (statistic,); nan is no value.
        draws: Draws from one of the generators of this module.
    """
    return np.array([statistics(predicted, truth) for predicted, truth in draws], dtype=np.float64)


def interval(
    samples: npt.ArrayLike,
    *,
    level: float,
    value: float,
    kind: IntervalKind = "percentile",
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """Return the bootstrap interval of one statistic.

    ``percentile`` takes the quantiles of the samples (Efron 1979). ``basic`` mirrors them at the
    value, [2 value - high, 2 value - low] (Davison and Hinkley 1997, 5.2), which also takes out the
    shift that resampling adds to a statistic of noisy measurements; it may pass the end of the
    statistic's range.

    Args:
        samples: The statistic in each resample, shape (resample,); nan where it has no value.
        level: Share of the resamples inside, in (0, 1).
        value: The statistic of the data themselves.
        kind: Which of the two.
        bounds: Range of the statistic, at which a basic interval is cut off.

    Raises:
        ShapeError: The samples are not one-dimensional.
        OptionError: The level or the kind is out of range.
    """
    values = np.asarray(samples, dtype=np.float64)
    if values.ndim != 1:
        raise ShapeError(f"samples must have shape (resample,), got {values.shape}")
    if not 0 < level < 1:
        raise OptionError(f"an interval's level must lie in (0, 1), got {level}")
    if kind not in {"percentile", "basic"}:
        raise OptionError(f"no interval kind named {kind!r}; known: basic, percentile")
    defined = values[~np.isnan(values)]
    n_undefined = values.size - defined.size
    if not defined.size:
        return Interval(kind, float("nan"), float("nan"), level, values.size, n_undefined)
    low, high = (float(q) for q in np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]))
    if kind == "basic":
        low, high = max(bounds[0], 2 * value - high), min(bounds[1], 2 * value - low)
    return Interval(kind, low, high, level, values.size, n_undefined)


def as_outcomes(outcomes: npt.ArrayLike, *, n_archs: int) -> npt.NDArray[np.bool_]:
    """Return per-image outcomes after checking them, shape (arch, image).

    Raises:
        ShapeError: The shape is not (n_archs, image), or there are no images.
        OptionError: They are not boolean.
    """
    array = np.asarray(outcomes)
    if array.dtype != np.bool_:
        raise OptionError(
            f"outcomes must be boolean, got dtype {array.dtype}; unpack bits with numpy.unpackbits"
        )
    if array.ndim != 2 or array.shape[0] != n_archs or array.shape[1] == 0:
        raise ShapeError(f"outcomes must have shape ({n_archs}, image), got {array.shape}")
    return array
