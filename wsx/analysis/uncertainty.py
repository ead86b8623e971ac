"""How every analysis states its uncertainty: what is drawn again, numbers over runs, permutation tests."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from wsx.analysis._vectors import FloatArray
from wsx.analysis.resample import Interval, image_weights, interval
from wsx.errors import OptionError


@dataclass(frozen=True)
class Resampling:
    """How often something is drawn again, and how sure an interval is.

    Attributes:
        level: Share of the resamples inside each interval, in (0, 1).
        n_resamples: Resamples behind each interval and permutations behind each p-value; 0 leaves both out.
        seed: Seed of the resampling.

    Raises:
        OptionError: A value is out of range.
    """

    level: float = 0.95
    n_resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        check_level(self.level)
        if self.n_resamples < 0:
            raise OptionError(f"n_resamples must be 0 or more, got {self.n_resamples}")

    def rngs(self, n_streams: int) -> list[np.random.Generator]:
        """Return independent sources of chance, so that asking for more does not change the others."""
        seeds = np.random.SeedSequence(self.seed).spawn(n_streams)
        return [np.random.default_rng(seed) for seed in seeds]

    def weights(self, n_things: int, rng: np.random.Generator) -> FloatArray:
        """Return how often each thing occurs in each resample, shape (resample, thing)."""
        drawn = image_weights(n_things, n_resamples=self.n_resamples, rng=rng)
        return drawn.astype(np.float64)

    def intervals(self, source: str, samples: npt.ArrayLike, value: float) -> dict[str, Interval]:
        """Return the percentile interval by what was drawn again; nothing without resamples or value."""
        if not self.n_resamples or np.isnan(value):
            return {}
        return {source: interval(samples, level=self.level, value=value)}


@dataclass(frozen=True, eq=False)
class Spread:
    """One number in several independent runs: mean, standard deviation, and limits of the mean.

    The limits are Student's t, which stay honest for three runs, where a bootstrap has only ten
    different samples to draw; they hold for values that are close to normal.

    Attributes:
        label: The number in words.
        values: The number in each run, shape (run,); nan where it has no value.
        mean: Mean of those that have one; nan where none has.
        std: Standard deviation between runs (divisor n - 1); nan below 2 runs.
        low: Lower limit of the expected number; nan below 2 runs.
        high: Upper limit of the expected number; nan below 2 runs.
        level: How sure the limits are.
        n_undefined: Runs without a value, which are left out.
        reason: Why some of the numbers are nan, else None.
    """

    label: str
    values: FloatArray
    mean: float
    std: float
    low: float
    high: float
    level: float
    n_undefined: int
    reason: str | None


def spread(values: npt.ArrayLike, label: str, *, level: float = 0.95) -> Spread:
    """Return mean, standard deviation and limits of a number that each of several runs has.

    Args:
        values: The number in each run, shape (run,); nan where it has no value.
        label: The number in words.
        level: How sure the limits are, in (0, 1).

    Raises:
        OptionError: The level is out of range.
    """
    check_level(level)
    numbers = np.asarray(values, dtype=np.float64)
    defined = numbers[np.isfinite(numbers)]
    n, nan = defined.size, float("nan")
    n_undefined = numbers.size - n
    if n < 2:
        mean = float(defined[0]) if n else nan
        what = "no run has a value" if not n else "one run says nothing about another"
        reason = f"{what}: {n} of {numbers.size} have one"
        return Spread(label, numbers, mean, nan, nan, nan, level, n_undefined, reason)
    mean, std = float(defined.mean()), float(defined.std(ddof=1))
    half = student_error(std, n, level)
    return Spread(label, numbers, mean, std, mean - half, mean + half, level, n_undefined, None)


def student_error(std: float, n: int, level: float) -> float:
    """Return half the width of Student's interval for the mean of n values with that deviation."""
    return float(stats.t.ppf((1 + level) / 2, n - 1)) * std / float(np.sqrt(n))


def pair_sums(weights: FloatArray, table: FloatArray) -> FloatArray:
    """Return the sum of a table over pairs of different things, each pair as often as it is drawn.

    Args:
        weights: How often each thing is drawn, shape (resample, thing).
        table: A number for each pair, shape (thing, thing); the diagonal does not count.

    Returns:
        Shape (resample,): the sum over i != j of weight_i weight_j table_ij.
    """
    pairs = table.copy()
    np.fill_diagonal(pairs, 0)
    sums: FloatArray = ((weights @ pairs) * weights).sum(axis=1)
    return sums


def permutation_p(value: float, permuted: npt.ArrayLike) -> float:
    """Return the share of permutations that reach the value, the data themselves among them.

    (1 + reached) / (1 + permutations), so never 0 (Phipson and Smyth 2010); nan without permutations.

    Args:
        value: The statistic of the data; larger speaks against chance.
        permuted: The statistic under each permutation, shape (permutation,).
    """
    samples = np.asarray(permuted, dtype=np.float64)
    if not samples.size or np.isnan(value):
        return float("nan")
    # Sums in another order differ in the last digits; such a tie has reached the value.
    n_reached = np.count_nonzero(samples >= value - 1e-9 * abs(value))
    return float((1 + n_reached) / (1 + samples.size))


def check_level(level: float) -> None:
    """Check that a level lies in (0, 1).

    Raises:
        OptionError: It does not.
    """
    if not 0 < level < 1:
        raise OptionError(f"level must lie in (0, 1), got {level}")
