"""All parts of one campaign beside its truth."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import SummaryOptions
from wsx.report.findings import Part
from wsx.spaces import SPACES, Decision
from wsx.studies.parts.bias import bias_part
from wsx.studies.parts.making import OnPart, make_parts
from wsx.studies.parts.picks import picks_part
from wsx.studies.parts.pruning import pruning_part

Array = NDArray[np.float64]


def campaign_parts(
    space: str,
    archs: NDArray[np.int16],
    predicted: Array,
    truth: Array,
    *,
    params: NDArray[np.int64],
    flops: NDArray[np.int64],
    options: SummaryOptions,
    truth_runs: Array | None = None,
    on_part: OnPart | None = None,
) -> list[Part]:
    """Return bias, pruning and picks; nothing for fewer than two archs, which have no ranks.

    Args:
        space: Name of the space; one that wsx does not know has numbers for names.
        archs: Options, shape (arch, decision).
        predicted: What archs are ranked by, shape (arch,); larger is better.
        truth: Truth of the same archs, shape (arch,).
        params: Parameter counts, shape (arch,), -1 where unknown.
        flops: Operation counts, shape (arch,), -1 where unknown.
        options: Level, resamples, seed, and which true top counts as good.
        truth_runs: Single trainings of the truth, shape (run, arch), nan where there was none; None without.
        on_part: Told of parts done, parts in all, and the part that comes next.

    Raises:
        ShapeError: The inputs list different archs.
        OptionError: Some values are not finite.
    """
    if truth.size < 2:
        return []
    sizes = known_sizes(params, flops)
    decisions, good = decisions_of(space, archs), options.good_fraction
    makers: dict[str, Callable[[], Part]] = {
        "bias": lambda: bias_part(
            decisions,
            archs,
            predicted,
            truth,
            sizes,
            resampling=options,
            depths=depths_of(space, archs),
            truth_runs=truth_runs,
        ),
        "pruning": lambda: pruning_part(
            predicted,
            truth,
            sizes,
            top_fraction=good,
            resampling=options,
            truth_runs=truth_runs,
        ),
        "picks": lambda: picks_part(
            predicted, truth, sizes, resampling=options, truth_runs=truth_runs
        ),
    }
    return make_parts(makers, on_part)


def known_sizes(params: NDArray[np.int64], flops: NDArray[np.int64]) -> dict[str, Array]:
    """Return the counts that are known of all archs and differ between them, by name."""
    counts = {"params": params, "FLOPs": flops}
    return {
        name: count.astype(np.float64)
        for name, count in counts.items()
        if (count > 0).all() and (count != count[0]).any()
    }


def depths_of(space: str, archs: NDArray[np.int16]) -> NDArray[np.int64] | None:
    """Return the depth of each arch, None where the space does not say or all are alike."""
    known = SPACES.get(space)
    found = [] if known is None else [known.depth(tuple(map(int, arch))) for arch in archs]
    depths = [depth for depth in found if depth is not None]
    if len(depths) < len(archs) or len(set(depths)) < 2:
        return None
    return np.array(depths, dtype=np.int64)


def decisions_of(space: str, archs: NDArray[np.int16]) -> Sequence[Decision]:
    """Return the decisions behind the columns of archs, numbered where the space is not known."""
    known = SPACES.get(space)
    if known is not None and len(known.decisions) == archs.shape[1]:
        return known.decisions
    return [
        Decision(f"decision {i}", tuple(str(option) for option in range(int(column.max()) + 1)))
        for i, column in enumerate(archs.T)
    ]
