"""Does fixing one branch after another lead to better archs? P1's progressive pruning by three scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import BRANCH_SCORES, mean_truth_at, spread
from wsx.analysis.uncertainty import Spread
from wsx.errors import OptionError
from wsx.report.findings import Cell, Claim, Findings, Plot, ResultTable, limits
from wsx.spaces import SPACES
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.nasbench201 import P1, nasbench201_settings
from wsx.studies.papers.p1.fixing import (
    FREE,
    RANDOM,
    WAYS,
    Fixed,
    FixingSettings,
    Scores,
    TrainPart,
    fixed_before,
    is_left,
    run_name,
    table_of,
)
from wsx.studies.papers.seeds import claim_over_seeds, curve

Array = NDArray[np.float64]
N_RANDOM = 1000
CODE = f"{P1}, focus_branch of the released code; its outcome is not known to us"
LABELS = {
    "accuracy": "mean accuracy",
    "nondominated": "pairs that are smaller and better",
    "lstsq": "accuracy calibrated by size",
    RANDOM: "at random",
    FREE: "nothing fixed",
}


class Branches(Study):
    """Supernets whose space is narrowed down by one operation after each part of the training."""

    paper = f"{P1}, focus_branch"
    summary = "does fixing the best operation again and again leave better archs?"

    def settings(self, scale: str) -> FixingSettings:
        """Return the numbers of a scale."""
        values = nasbench201_settings(scale, "p1-nasbench201")
        recipe = values.pop("recipe")
        if scale == "tiny":
            return FixingSettings(**values, recipe=recipe, n_parts=2, min_archs=3)
        epochs = {"small": 24, "paper": 2_000}[scale]
        return FixingSettings(**values | {"n_archs": 150}, recipe=replace(recipe, epochs=epochs))

    def steps(self, settings: FixingSettings, folder: Path) -> Sequence[Step]:
        """Train part by part, each after the branches that the scores of the one before fix."""
        n = settings.n_parts
        if n < 2 or settings.recipe.epochs % n:
            raise OptionError(
                f"n_parts is {n}; it must be at least 2 and divide the {settings.recipe.epochs} epochs"
            )
        texts, _ = replace(settings, n_archs=len(settings.known_archs()[0])).archs()
        return [TrainPart(f"part-{part}", settings, part, texts) for part in range(1, n + 1)]

    def findings(self, settings: FixingSettings, folder: Path) -> Findings:
        """Compare what is left, and what is picked from it."""
        texts, truth = settings.known_archs()
        scores = Scores(folder)
        chains = {
            way: [chain_of(settings, scores, way, seed) for seed in settings.seeds] for way in WAYS
        }
        archs = table_of(SPACES[settings.space], texts)
        ends = _ends(settings, texts, archs, truth, chains)
        at_random = random_left(archs, truth, settings.n_parts - 1)
        return Findings(
            "Does fixing branches lead to better archs?",
            f"{len(settings.seeds)} supernets of each kind, {settings.n_parts} parts of "
            f"{settings.recipe.epochs // settings.n_parts} epochs on {settings.data.spec}, a branch fixed "
            f"after each but the last by the scores of up to {settings.n_archs} archs of {settings.space}.",
            _claims(ends, at_random),
            [_table(settings, ends, at_random), _fixed_table(settings, chains)],
            [_plot(settings, ends)],
            {**settings.as_dict(), "published": P1},
        )


@dataclass(frozen=True, eq=False)
class Chain:
    """A training in parts.

    Attributes:
        fixed: Branches that were fixed, one after each part but the last.
        texts: Archs scored after the last part.
        accuracy: Their accuracies, shape (arch,).
    """

    fixed: Fixed
    texts: Sequence[str]
    accuracy: Array


def chain_of(settings: FixingSettings, scores: Scores, way: str, seed: int) -> Chain:
    """Return what was trained and scored in one way with one seed.

    Raises:
        StoreError: A part was not scored.
    """
    fixed = fixed_before(settings, scores, way, seed, settings.n_parts)
    panel = scores[run_name(seed, settings.n_parts, fixed)]
    return Chain(fixed, panel.archs, panel.accuracy[0, -1])


@dataclass(frozen=True, eq=False)
class Ends:
    """What one way leads to, over seeds.

    Attributes:
        left: Mean truth of the archs that each part leaves, shape (seed, part).
        best_rank: True rank of the best arch that is left at the end, 1 for the best of all.
        picked: Mean truth of the archs ranked highest at the end.
    """

    left: Array
    best_rank: Spread
    picked: Spread

    @property
    def last(self) -> Spread:
        """Mean truth of the archs that are left at the end."""
        return spread(self.left[:, -1], "mean truth of what is left")


def _ends(
    settings: FixingSettings,
    texts: Sequence[str],
    archs: NDArray[np.int64],
    truth: Array,
    chains: Mapping[str, Sequence[Chain]],
) -> dict[str, Ends]:
    true_of = dict(zip(texts, truth.tolist(), strict=True))

    def picked(chain: Chain) -> float:
        true = np.array([true_of[text] for text in chain.texts])
        return mean_truth_at(chain.accuracy, true, min(settings.top_k, true.size))

    ends = {}
    for way, found in chains.items():
        masks = [
            [is_left(archs, chain.fixed[:n]) for n in range(settings.n_parts)] for chain in found
        ]
        left = np.array([[truth[mask].mean() for mask in row] for row in masks])
        ranks = [1 + int((truth > truth[row[-1]].max()).sum()) for row in masks]
        picks = [picked(chain) for chain in found]
        ends[way] = Ends(left, spread(ranks, "rank"), spread(picks, "truth of the picks"))
    return ends


def random_left(archs: NDArray[np.int64], truth: Array, n_fixed: int) -> float:
    """Return the mean truth of what is left where branches are fixed at random, over many draws.

    Args:
        archs: Options, shape (arch, decision).
        truth: Stand-alone accuracies, shape (arch,).
        n_fixed: Branches that are fixed one after another, each on a decision that is open.
    """
    rng = np.random.default_rng(0)
    means = []
    for _ in range(N_RANDOM):
        mask = np.ones(len(archs), dtype=bool)
        for place in rng.permutation(archs.shape[1])[:n_fixed]:
            # Of options that some arch still has; those that none has cannot be fixed.
            mask &= archs[:, place] == rng.choice(np.unique(archs[mask, place]))
        means.append(float(truth[mask].mean()))
    return float(np.mean(means))


def _claims(ends: Mapping[str, Ends], at_random: float) -> list[Claim]:
    claims = []
    free = ends[FREE].picked
    for way in BRANCH_SCORES:
        last, picked = ends[way].last, ends[way].picked
        claims += [
            claim_over_seeds(
                f"Fixing the best branch by {LABELS[way]} leaves better archs than random fixing does on average.",
                CODE,
                spread(last.values - at_random, "gain over random"),
                f"mean truth of what is left {last.mean:.4f}, at random {at_random:.4f}: difference",
            ),
            claim_over_seeds(
                f"Search ends with better archs where branches were fixed by {LABELS[way]} than where none was.",
                f"{P1}, abstract of its first version; {CODE}",
                spread(picked.values - free.values, "gain over the whole space"),
                f"mean truth of the picks {picked.mean:.4f}, from the whole space {free.mean:.4f}: difference",
            ),
        ]
    return claims


def _table(settings: FixingSettings, ends: Mapping[str, Ends], at_random: float) -> ResultTable:
    rows: list[list[Cell]] = []
    for way, found in ends.items():
        cells: list[Cell] = [LABELS[way]]
        for one, digits in ((found.last, 4), (found.best_rank, 1), (found.picked, 4)):
            cells += [one.mean, limits(one.low, one.high, digits)]
        rows.append(cells)
    rows.append([f"at random, mean of {N_RANDOM} draws", at_random, *("", None, "", None, "")])
    names = (
        "mean truth of what is left",
        "rank of the best left",
        f"truth of the top {settings.top_k}",
    )
    return ResultTable(
        "What is left and what is picked",
        ["branches fixed by", *(head for name in names for head in (name, "95 % over seeds"))],
        rows,
        "Picks are among equally many scored archs, or all that are left. Published figures are not known to "
        "us; the released code does this on NAS-Bench-101.",
    )


def _fixed_table(settings: FixingSettings, chains: Mapping[str, Sequence[Chain]]) -> ResultTable:
    decisions = SPACES[settings.space].decisions
    rows: list[list[Cell]] = []
    for way, found in chains.items():
        for seed, chain in zip(settings.seeds, found, strict=True):
            names = [f"{decisions[p].name}={decisions[p].options[o]}" for p, o in chain.fixed]
            rows.append([LABELS[way], str(seed), ", ".join(names)])
    return ResultTable("Branches fixed", ["branches fixed by", "seed", "in this order"], rows)


def _plot(settings: FixingSettings, ends: Mapping[str, Ends]) -> Plot:
    fixed = range(settings.n_parts)
    return Plot(
        "branches",
        "Truth of the archs that are left",
        "branches fixed",
        "mean accuracy alone of the archs that are left",
        "lines",
        [curve(LABELS[way], fixed, found.left) for way, found in ends.items()],
        "Means over seeds with 95 % limits.",
    )


STUDIES.register("branches")(Branches())
