"""How much of a space can be cut by a ranking, at what loss of the best.

"Deeper Insights into Weight Sharing" (arXiv 2001.01431) and "How Does Weight Sharing Help in Neural
Architecture Search?" (arXiv 2010.08219) both find that supernets prune well and select badly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsx.analysis._vectors import FloatArray, as_pair, top_count
from wsx.analysis.metrics import Metric
from wsx.analysis.summary import Estimate, estimate_metrics
from wsx.analysis.top import precision_at, regret_at
from wsx.analysis.uncertainty import Resampling
from wsx.errors import OptionError

RANDOM = "random"
PREDICTED = "predicted"


@dataclass(frozen=True)
class Pruned:
    """What is left when the best part by some criterion is kept.

    Attributes:
        criterion: ``predicted``, ``random``, or the name of a size.
        keep_fraction: Share of the archs that is kept.
        n_kept: How many archs that is, the nearest count, at least 1.
        best_truth: Largest truth among the kept archs.
        loss: Largest truth of all minus that, with an interval over archs.
        top_kept: Share of the true top archs that is kept, with an interval over archs.
    """

    criterion: str
    keep_fraction: float
    n_kept: int
    best_truth: float
    loss: Estimate
    top_kept: Estimate


def pruning_value(
    predicted: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    keep_fractions: Sequence[float] = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9),
    top_fraction: float = 0.01,
    sizes: Mapping[str, npt.ArrayLike] | None = None,
    resampling: Resampling | None = None,
) -> list[Pruned]:
    """Return what pruning by predictions keeps, beside pruning at random and by size.

    Random pruning is the exact mean over all ways to keep so many archs. Archs tied at a cut are kept with
    equal chance, and the numbers are the means of that. Sizes keep the largest archs.

    Args:
        predicted: Scores, shape (arch,); larger is better.
        truth: Scores of the same archs, shape (arch,).
        keep_fractions: Shares of the archs that are kept, in (0, 1].
        top_fraction: Which true top fraction should survive, in (0, 1].
        sizes: Parameter or operation counts by name, shape (arch,).
        resampling: How archs are drawn again.

    Returns:
        By criterion, then by fraction, in the order given.

    Raises:
        ShapeError: The vectors differ in length.
        OptionError: Some values are not finite, there are no archs, a fraction is out of range, or a size
            has the name of another criterion.
    """
    scores, values = as_pair(predicted, truth)
    if not values.size:
        raise OptionError("there are no archs to prune")
    criteria = {PREDICTED: scores, RANDOM: np.zeros_like(scores)}
    for name, size in (sizes or {}).items():
        if name in criteria:
            raise OptionError(f"a size cannot be named {name!r}, which is a criterion of its own")
        criteria[name] = as_pair(size, values, (name, "truth"))[0]
    options = resampling or Resampling()
    found = []
    for name, criterion in criteria.items():
        measures = [m for f in keep_fractions for m in _measures(f, top_fraction, values.size)]
        estimates = iter(estimate_metrics(measures, criterion, values, options).values())
        for fraction in keep_fractions:
            loss, kept = next(estimates), next(estimates)
            best = float(values.max()) - loss.value
            n_kept = top_count(fraction, values.size)
            found.append(Pruned(name, fraction, n_kept, best, loss, kept))
    return found


def _measures(keep_fraction: float, top_fraction: float, n_archs: int) -> list[Metric]:
    k, n_top = top_count(keep_fraction, n_archs), top_count(top_fraction, n_archs)
    kept, top = f"{100 * keep_fraction:.4g} %", f"{100 * top_fraction:.4g} %"

    def share(predicted: FloatArray, truth: FloatArray) -> float:
        return precision_at(predicted, truth, k, n_good=n_top) * k / n_top

    return [
        Metric(
            f"loss@{keep_fraction:g}",
            f"loss of the best when {kept} are kept",
            "accuracy",
            lambda predicted, truth: regret_at(predicted, truth, k),
            _always,
        ),
        Metric(
            f"top_kept@{keep_fraction:g}",
            f"share of the true top {top} among the {kept} kept",
            "share",
            share,
            _always,
        ),
    ]


def _always(predicted: FloatArray, truth: FloatArray) -> None:
    return None
