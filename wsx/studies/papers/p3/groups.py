"""Who should share weights? P3's table 3a: archs share within groups only, random ones or similar ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis.stability import gt_tau
from wsx.analysis.uncertainty import Spread, spread
from wsx.errors import OptionError
from wsx.report.findings import Cell, Claim, Findings, Plot, ResultTable, limits
from wsx.spaces.folds import Fold, consecutive_folds, random_folds, similarity
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.p3.cell64 import ALL, SOURCE, cell64_settings
from wsx.studies.papers.p3.windows import HEADS, Windows, WindowSettings, read_windows, slopes
from wsx.studies.papers.seeds import claim_over_seeds, points
from wsx.studies.papers.variants import Variant

TABLE = f"{SOURCE}, table 3a"
KINDS = ("random", "similar")
# GT-Tau-Mean-64 and GT-Tau-Std-64 by kind and number of groups: table 3a.
PUBLISHED = {
    ("all", 1): (0.4988, 0.1497),
    ("random", 2): (0.4577, 0.1371),
    ("random", 4): (0.2736, 0.1340),
    ("random", 8): (0.2539, 0.1462),
    ("random", 16): (0.1658, 0.1255),
    ("random", 32): (0.2903, 0.1104),
    ("similar", 2): (0.3425, 0.1442),
    ("similar", 4): (0.7075, 0.0702),
    ("similar", 8): (0.6917, 0.0457),
    ("similar", 16): (0.7200, 0.0411),
    ("similar", 32): (0.7360, 0.0364),
    ("none", 64): (0.8032, 0.0151),
}
# Tau inside the groups, and inside the same groups where all archs share: the case study of 16 random groups.
PUBLISHED_INSIDE = {("random", 16): (0.2570, 0.5610)}


@dataclass(frozen=True)
class GroupsSettings(WindowSettings):
    """Numbers of the study of groups.

    Attributes:
        groups: Numbers of groups; 1 shares everything, as many as archs nothing.
        groups_seed: Seed of random groups.

    Raises:
        OptionError: Sharing everything is not among them, or nothing between that and sharing nothing is.
    """

    groups: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    groups_seed: int = 42

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.groups) != 1 or not self.between or max(self.groups) > self.n_archs:
            raise OptionError(
                f"groups is {self.groups}; it must have 1 in it, and numbers between that and {self.n_archs} archs"
            )

    @property
    def n_archs(self) -> int:
        """How many archs there are."""
        return len(self.texts)

    @property
    def between(self) -> list[int]:
        """Numbers of groups at which it matters who shares."""
        return sorted({m for m in self.groups if 1 < m < self.n_archs})

    @property
    def kinds(self) -> list[tuple[str, int]]:
        """What is trained, as kind and number of groups; the two ends are common to both kinds."""
        ends = [("none", self.n_archs)] if self.n_archs in self.groups else []
        return [("all", 1), *((kind, m) for kind in KINDS for m in self.between), *ends]

    def line(self, kind: str) -> list[tuple[str, int]]:
        """Return what is trained with groups of a kind, from sharing everything to sharing nothing."""
        return [one for one in self.kinds if one[0] in (kind, "all", "none")]

    def folds(self, kind: str, m: int) -> list[Fold]:
        """Return the archs of each group."""
        archs = sorted(ALL.archs(self.alone.archs))
        if kind == "random":
            return random_folds(archs, m, seed=self.groups_seed)
        return consecutive_folds(archs, m)

    def variant_of(self, kind: str, m: int) -> Variant:
        """Return the training with some groups, each of which is trained for all epochs of the recipe."""
        text = f"random:{m}:{self.groups_seed}" if kind == "random" else f"consecutive:{m}"
        sharing = {} if kind == "all" else {"groups": text}
        return self.variant(_name(kind, m), _label(kind), sharing, n_times=m)


def _name(kind: str, m: int) -> str:
    return f"{kind}-{m}"


class Groups(Study):
    """Supernets whose archs share weights in groups, from all in one to each by itself."""

    paper = TABLE
    summary = "does it matter more who shares weights than how many do?"

    def settings(self, scale: str) -> GroupsSettings:
        """Return the numbers of a scale."""
        values = cell64_settings(scale)
        if scale == "tiny":
            values |= {"recipe": replace(values["recipe"], epochs=2), "seeds": (0, 1)}
            return GroupsSettings(**values, groups=(1, 2, 8), n_steps=4, every=3)
        values["seeds"] = (0, 1, 2)
        if scale == "small":
            # Nine has no factor in common with the round of 64: steps on all kinds of archs are seen.
            values["every"] = 9
            values["groups"] = (1, 4, 16, 64)
            # As many as in the paper; archs of their own get all of them.
            values["recipe"] = replace(values["recipe"], epochs=200)
        return GroupsSettings(**values)

    def steps(self, settings: GroupsSettings, folder: Path) -> Sequence[Step]:
        """Train all groupings with all seeds, score the window of each, train archs alone."""
        return settings.window_steps([settings.variant_of(*one) for one in settings.kinds])

    def findings(self, settings: GroupsSettings, folder: Path) -> Findings:
        """Compare groups of both kinds with each other and with sharing everything."""
        truth = settings.load_truth(folder)
        variants = [settings.variant_of(*one) for one in settings.kinds]
        found = read_windows(variants, settings, folder, truth)
        places = {text: place for place, text in enumerate(truth.texts)}
        return Findings(
            "Who should share weights?",
            f"{len(settings.seeds)} supernets of each kind, {len(truth.texts)} archs of {settings.space}, "
            f"{settings.data.spec}; GT-Tau over {settings.window}.",
            _claims(settings, found),
            [_table(settings, found), _inside_table(settings, found, truth.accuracy, places)],
            _plots(settings, found),
            {**settings.as_dict(), "published": SOURCE},
        )


def _claims(settings: GroupsSettings, found: Windows) -> list[Claim]:
    random, similar = (
        found.mean([_name(kind, m) for m in settings.between]).mean(axis=0) for kind in KINDS
    )
    everything = found.mean([_name("all", 1)])[0]
    over = f"{', '.join(map(str, settings.between))} groups"
    return [
        claim_over_seeds(
            "Groups of similar archs rank better than random groups of the same size.",
            TABLE,
            spread(similar - random, "gain of GT-Tau"),
            f"GT-Tau {similar.mean():.3f} with similar groups, {random.mean():.3f} with random ones, means over "
            f"{over}; difference",
        ),
        claim_over_seeds(
            "Sharing in random groups ranks worse than sharing everything.",
            TABLE,
            spread(everything - random, "loss of GT-Tau"),
            f"GT-Tau {everything.mean():.3f} with everything shared, {random.mean():.3f} with random groups, mean "
            f"over {over}; difference",
        ),
        claim_over_seeds(
            "The less is shared, the steadier is the ranking over the last steps.",
            TABLE,
            _fall_of_deviation(settings, found),
            "fall of the deviation of GT-Tau over the window with each doubling of the groups, both kinds",
        ),
    ]


def _fall_of_deviation(settings: GroupsSettings, found: Windows) -> Spread:
    per_kind = []
    for kind in KINDS:
        line = settings.line(kind)
        std = found.std([_name(*one) for one in line])
        per_kind.append(-slopes(np.log2([m for _, m in line]), std, "fall").values)
    return spread(np.mean(per_kind, axis=0), "fall of the deviation")


def _table(settings: GroupsSettings, found: Windows) -> ResultTable:
    rows: list[list[Cell]] = []
    for kind, m in settings.kinds:
        alike = similarity(settings.folds(kind, m))
        published = PUBLISHED.get((kind, m)) if settings.n_archs == 64 else None
        rows.append([_label(kind), m, alike, *found.cells(_name(kind, m), published)])
    return ResultTable(
        "Agreement with truth, by groups",
        ["groups", "number", "operations in common", *HEADS],
        rows,
        f"Over {settings.window}. Published figures are of 200 epochs on CIFAR-10, over the last 64 steps. Each "
        f"group is trained for {settings.recipe.epochs} epochs, one step of a group after one of another: a "
        "training takes as many times as long as there are groups.",
    )


def _inside_table(
    settings: GroupsSettings, found: Windows, true: NDArray[np.float64], places: dict[str, int]
) -> ResultTable:
    space = settings.alone.archs
    rows: list[list[Cell]] = []
    for kind in KINDS:
        for m in settings.between:
            groups = [
                [places[space.format(arch)] for arch in fold] for fold in settings.folds(kind, m)
            ]
            inside = [
                spread(inside_tau(found.accuracy[name], true, groups), "tau inside groups")
                for name in (_name(kind, m), _name("all", 1))
            ]
            ours = [cell for one in inside for cell in (one.mean, limits(one.low, one.high))]
            published = PUBLISHED_INSIDE.get((kind, m)) if settings.n_archs == 64 else None
            rows.append([_label(kind), m, *ours, *(published or (None, None))])
    return ResultTable(
        "Agreement with truth inside groups",
        [
            "groups",
            "number",
            "GT-Tau inside",
            "95 % over seeds",
            "same groups, all shared",
            "95 % over seeds",
            "published",
            "published, all shared",
        ],
        rows,
        "Mean over groups of the tau of their own archs; the second number ranks the same archs by the supernet "
        "that shares everything.",
    )


def inside_tau(
    accuracy: NDArray[np.float64], true: NDArray[np.float64], groups: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """Return GT-Tau within groups, the mean over groups and checkpoints, (seed,); groups of one have none.

    Args:
        accuracy: Shape (seed, checkpoint, arch).
        true: Shape (arch,).
        groups: Archs of each group, as places.
    """
    tau = np.array([gt_tau(accuracy[..., group], true[group]) for group in map(list, groups)])
    by_seed = np.moveaxis(tau, 1, 0).reshape(len(accuracy), -1)
    known = [row[~np.isnan(row)] for row in by_seed]
    return np.array([row.mean() if row.size else np.nan for row in known])


def _plots(settings: GroupsSettings, found: Windows) -> list[Plot]:
    drawn = {"mean": "Agreement with truth (GT-Tau)", "deviation": "Deviation of GT-Tau over steps"}
    plots = []
    for key, title in drawn.items():
        lines = []
        for kind in KINDS:
            line = settings.line(kind)
            windows = [found.tau[_name(*one)] for one in line]
            spreads = [one.mean if key == "mean" else one.std for one in windows]
            lines.append(points(_label(kind), [str(m) for _, m in line], spreads))
        note = "Left everything is shared; limits are over seeds."
        plots.append(Plot(key, title, "number of groups", title, "lines", lines, note))
    return plots


def _label(kind: str) -> str:
    ends = {"all": "everything shared", "none": "nothing shared"}
    return ends.get(kind, kind)


STUDIES.register("groups")(Groups())
