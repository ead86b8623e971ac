"""Where a ranking is good: at the top, at the bottom, and for pruning; P1's readings of one checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import (
    Pruned,
    Resampling,
    best_rank_at,
    bottom_overlap,
    pruning_value,
    spread,
    tau_in_top,
    top_overlap,
)
from wsx.analysis.uncertainty import Spread
from wsx.report.findings import Cell, Claim, Plot, ResultTable, Series, limits
from wsx.studies.papers.nasbench201 import P1
from wsx.studies.papers.seeds import claim_over_seeds, points

Array = NDArray[np.float64]
PICKS = (1, 5, 10, 20, 50, 100)
KEPT = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
HALF = 0.5
# What one-shot scores of all archs, published with arXiv 2006.06863, give by the same formulae.
FEW_SHOT = {
    "top 1 %": 0.0,
    "top 10 %": 0.10,
    "bottom 10 %": 0.73,
    "tau 50 %": -0.05,
    "tau 10 %": -0.23,
}
LABELS = {
    "top 1 %": "overlap of the top 1 %",
    "top 10 %": "overlap of the top 10 %",
    "bottom 10 %": "overlap of the bottom 10 %",
    "tau 50 %": "Kendall tau inside the true top 50 %",
    "tau 10 %": "Kendall tau inside the true top 10 %",
}


@dataclass(frozen=True, eq=False)
class Ranking:
    """Rankings of the same archs by supernets of several seeds, beside truth and size.

    Attributes:
        scores: Supernet accuracies, shape (seed, arch).
        truth: Stand-alone accuracies, shape (arch,).
        sizes: Counts by name, each of shape (arch,).
    """

    scores: Array
    truth: Array
    sizes: Mapping[str, Array]

    def count(self, fraction: float) -> int:
        """Return how many archs a fraction is, the nearest count, at least 1."""
        return max(1, round(fraction * self.truth.size))

    def reading(self, name: str, predicted: Array) -> float:
        """Return one of the numbers of ``LABELS`` for predictions of shape (arch,)."""
        kind, share, _ = name.split(" ")
        fraction = int(share) / 100
        if kind == "tau":
            return tau_in_top(predicted, self.truth, fraction)
        overlap = top_overlap if kind == "top" else bottom_overlap
        return overlap(predicted, self.truth, self.count(fraction))

    def readings(self, name: str) -> Spread:
        """Return one of the numbers of ``LABELS`` over seeds."""
        return spread([self.reading(name, row) for row in self.scores], LABELS[name])

    def chance(self, name: str) -> float:
        """Return what a random ranking has on average."""
        kind, share, _ = name.split(" ")
        return 0.0 if kind == "tau" else self.count(int(share) / 100) / self.truth.size


def top_claims(ranking: Ranking) -> list[Claim]:
    """Return what P1 says about the two ends of the ranking."""
    top, bottom, best = (ranking.readings(n) for n in ("top 10 %", "bottom 10 %", "top 1 %"))
    abstract = f"{P1}, abstract"
    return [
        claim_over_seeds(
            "Bad archs are told apart better than good ones.",
            abstract,
            spread(bottom.values - top.values, "bottom less top"),
            f"overlap of the bottom 10 % {bottom.mean:.3f}, of the top 10 % {top.mean:.3f}: difference",
        ),
        claim_over_seeds(
            "Relatively good archs, the top 10 %, are found.",
            abstract,
            spread(top.values - ranking.chance("top 10 %"), "overlap above chance"),
            f"overlap of the top 10 % {top.mean:.3f}, less {ranking.chance('top 10 %'):.3f} at random:",
        ),
        claim_over_seeds(
            "The best archs are missed: most of the top 1 % is not in the predicted top 1 %.",
            abstract,
            spread(HALF - best.values, "half less the overlap"),
            f"overlap of the top 1 % ({ranking.count(0.01)} archs) {best.mean:.3f}; one half less that:",
        ),
        _pruning_claim(ranking),
    ]


def _pruning_claim(ranking: Ranking) -> Claim:
    kept = _kept(ranking)
    half = KEPT.index(HALF)
    # No share is kept exactly where archs are few: at random it is the exact one.
    gain = spread(kept["supernet"][:, half] - kept["random"][half], "share kept above chance")
    others = ", ".join(f"{kept[name][half]:.3f} by {name}" for name in ranking.sizes)
    return claim_over_seeds(
        "Cutting the half that a supernet ranks lower keeps more of the good archs than cutting at random.",
        f"{P1}, abstract",
        gain,
        f"of the true top 10 % {kept['supernet'][:, half].mean():.3f} are kept, {others}; more than at random by",
    )


def top_table(ranking: Ranking) -> ResultTable:
    """Return overlaps and correlations at the ends, beside size and the published scores."""
    rows: list[list[Cell]] = []
    for name, label in LABELS.items():
        found = ranking.readings(name)
        sizes: list[Cell] = [ranking.reading(name, size) for size in ranking.sizes.values()]
        ours: list[Cell] = [found.mean, limits(found.low, found.high), ranking.chance(name)]
        rows.append([label, *ours, *sizes, FEW_SHOT[name]])
    return ResultTable(
        "Top and bottom of the ranking",
        ["of", "supernet", "95 % over seeds", "at random", *ranking.sizes, "published one-shot"],
        rows,
        "Published: from the scores of all 15,625 archs by the one-shot supernet that came with arXiv "
        "2006.06863 (600 epochs). P1's own figures are not known to us.",
    )


def picks_table(ranking: Ranking) -> ResultTable:
    """Return what the n archs ranked highest hold."""
    n_all = ranking.truth.size
    rows: list[list[Cell]] = []
    for n in (n for n in PICKS if n <= n_all):
        ranks = np.array([best_rank_at(row, ranking.truth, n) for row in ranking.scores])
        share = spread(100 * ranks / n_all, "rank of the best, % of archs")
        holds: list[Cell] = [
            f"{int((ranks <= ranking.count(f)).sum())} of {len(ranks)}" for f in (0.01, 0.1)
        ]
        at_random = 100 * (n_all + 1) / (n + 1) / n_all
        rows.append([str(n), *holds, share.mean, limits(share.low, share.high, 1), at_random])
    heads = ["seeds with one of the top 1 %", "with one of the top 10 %"]
    others = ["true rank of the best, % of archs", "95 % over seeds", "at random"]
    return ResultTable(
        "What the picked archs hold",
        ["picked", *heads, *others],
        rows,
        "The published one-shot scores pick first an arch of rank 7,590 of 15,625 (48.6 %).",
    )


def _pruned(predicted: Array, ranking: Ranking, sizes: Mapping[str, Array]) -> list[Pruned]:
    return pruning_value(
        predicted,
        ranking.truth,
        keep_fractions=KEPT,
        top_fraction=0.1,
        sizes=sizes,
        resampling=Resampling(n_resamples=0),
    )


def _kept(ranking: Ranking) -> dict[str, Array]:
    """Return the share of the true top 10 % that is kept, (seed, share) for ``supernet``, else (share,)."""
    first = _pruned(ranking.scores[0], ranking, ranking.sizes)
    kept = {
        name: np.array([one.top_kept.value for one in first if one.criterion == name])
        for name in ("random", *ranking.sizes)
    }
    by_seed = [
        [one.top_kept.value for one in _pruned(row, ranking, {}) if one.criterion == "predicted"]
        for row in ranking.scores
    ]
    return {"supernet": np.array(by_seed), **kept}


def pruning_plot(ranking: Ranking) -> Plot:
    """Return how much of the true top survives pruning, by what is kept."""
    kept = _kept(ranking)
    x: Sequence[float] = [100 * share for share in KEPT]
    spreads = [spread(column, "kept") for column in kept.pop("supernet").T]
    return Plot(
        "pruning",
        "What pruning keeps",
        "archs kept, %",
        "share of the true top 10 % kept",
        "lines",
        [
            points("supernet", x, spreads),
            *(Series(name, x, values.tolist()) for name, values in kept.items()),
        ],
        "Means over seeds with 95 % limits; by size the largest archs are kept.",
    )
