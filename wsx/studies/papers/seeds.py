"""Numbers that each of several seeds has: as claims, and as points with limits over seeds."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsx.analysis.uncertainty import Spread, spread
from wsx.report.findings import Claim, Series, judged, limits


def claim_over_seeds(text: str, source: str, gain: Spread, what: str) -> Claim:
    """Return a claim that holds where a number lies above 0, judged by its 95 % limits over seeds.

    Seeds that all have the same number, as coarse measures of few archs do, leave it open.

    Args:
        text: The claim.
        source: Where it was made.
        gain: The number in each seed, shape (seed,).
        what: The number in words, for the evidence.
    """
    n = int(np.isfinite(gain.values).sum())
    if math.isnan(gain.low):
        return Claim(text, source, "open", f"{what}: {n} seeds with a value give no interval")
    evidence = f"{what} {gain.mean:+.3f} {limits(gain.low, gain.high)} (95 % over {n} seeds)"
    return judged(text, source, gain.low, gain.high, evidence)


def points(name: str, x: Sequence[float | str], spreads: Sequence[Spread]) -> Series:
    """Return means over seeds with their limits, one for each x."""
    return Series(
        name,
        list(x),
        [one.mean for one in spreads],
        [one.low for one in spreads],
        [one.high for one in spreads],
    )


def curve(name: str, epochs: Sequence[int], values: NDArray[np.float64]) -> Series:
    """Return a number over epochs, values of shape (seed, checkpoint), as means with limits over seeds."""
    return points(name, epochs, [spread(column, name) for column in values.T])
