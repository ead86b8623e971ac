"""What a supernet's ranking has to beat, and what it cannot beat.

Ranking archs by size alone often correlates with truth at .5 to .6, and truth itself moves between
training seeds; a correlation means little without both beside it.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import numpy.typing as npt

from wsx.analysis.ranks import kendall_tau, pearson, spearman
from wsx.errors import ShapeError

CORRELATIONS: dict[str, Callable[[npt.ArrayLike, npt.ArrayLike], float]] = {
    "kendall_tau": kendall_tau,
    "spearman": spearman,
    "pearson": pearson,
}


def noise_ceiling(truth_runs: npt.ArrayLike) -> dict[str, float]:
    """Return how well trainings of the same archs agree: the mean correlation over pairs of runs.

    Args:
        truth_runs: Stand-alone accuracies, shape (run, arch), one row per training seed.

    Returns:
        Kendall's tau-b, Spearman's rho and Pearson's r, each nan where a pair has no value.

    Raises:
        ShapeError: There are fewer than 2 runs or not two dimensions.
        OptionError: Some values are not finite.
    """
    runs = np.asarray(truth_runs)
    if runs.ndim != 2 or runs.shape[0] < 2:
        raise ShapeError(
            f"a noise ceiling needs shape (run, arch) with 2 or more runs, got {runs.shape}"
        )
    return {
        name: float(np.mean([correlation(a, b) for a, b in combinations(runs, 2)]))
        for name, correlation in CORRELATIONS.items()
    }
