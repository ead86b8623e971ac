"""What one training alone would reach in the place of a supernet, for measures that are tables."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsx.analysis.baselines import each_against_others

Array = NDArray[np.float64]
ALONE = "one training alone"
ALONE_NOTE = (
    "One training alone: each training of the truth ranks, against the mean of the others; means over "
    "trainings."
)


def alone_rankings(truth_runs: Array | None) -> list[tuple[Array, Array, NDArray[np.bool_]]]:
    """Return each training as a ranking: its scores, the mean of the others, and which archs these are.

    Args:
        truth_runs: Single trainings of the truth, shape (run, arch), nan where there was none; None without.
    """
    if truth_runs is None:
        return []
    return [one for one in each_against_others(truth_runs) if one[2].sum() >= 2]


def mean_known(values: Sequence[float]) -> float:
    """Return the mean of the values that are there, nan where none is."""
    known = np.asarray(values)[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
