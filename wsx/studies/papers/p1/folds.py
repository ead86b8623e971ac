"""Trained on a fold of the archs, what is ranked well? P1's random, structured and sorted folds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import spearman, spread
from wsx.errors import OptionError
from wsx.report.findings import Cell, Claim, Findings, Plot, ResultTable, limits
from wsx.spaces import SPACES
from wsx.spaces.folds import random_folds, structured_folds, truth_folds
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.nasbench201 import P1, nasbench201_settings
from wsx.studies.papers.p1.parts import Part, is_inside, last_accuracies, parsed, part_steps
from wsx.studies.papers.seeds import claim_over_seeds, points
from wsx.studies.papers.variants import RankedSettings

Array = NDArray[np.float64]
Inside = Mapping[str, NDArray[np.bool_]]
CODE = f"{P1}, train_split of the released code; its outcome is not known to us"
WHOLE = "whole"
KINDS = {
    "random": "random folds",
    "structured": "folds with one operation on one edge",
    "sorted": "folds sorted by truth",
}
FOLDS_SEED = 42


@dataclass(frozen=True)
class FoldsSettings(RankedSettings):
    """Numbers of this study.

    Attributes:
        n_folds: Into how many parts archs are split at random and by truth.
        trained: Which of the folds of each kind are trained on; of sorted ones, 0 is the best.
        edge: Decision whose operation tells structured folds apart.
    """

    n_folds: int = 5
    trained: tuple[int, ...] = (0, 1, 2, 3, 4)
    edge: str = "0->1"


class Folds(Study):
    """Supernets trained on one fold of the archs, beside those trained on all."""

    paper = f"{P1}, train_split"
    summary = "does a supernet rank archs that it was not trained on, and those that it was better?"
    starts_from = "p1-nasbench201"

    def settings(self, scale: str) -> FoldsSettings:
        """Return the numbers of a scale."""
        values = nasbench201_settings(scale, self.starts_from)
        if scale == "tiny":
            return FoldsSettings(**values | {"n_archs": 40}, trained=(0,))
        if scale == "small":
            return FoldsSettings(**values, trained=(0, 2, 4))
        return FoldsSettings(**values | {"n_archs": 1_000})

    def steps(self, settings: FoldsSettings, folder: Path) -> Sequence[Step]:
        """Write lists of archs, train on each, and score the same archs after each."""
        return part_steps(_parts(settings), settings, folder, settings.archs()[0])

    def findings(self, settings: FoldsSettings, folder: Path) -> Findings:
        """Compare correlations on each fold and on all archs."""
        texts, truth = settings.archs()
        parts = _parts(settings)
        inside = is_inside(parts, settings, texts)
        scores = last_accuracies(parts, settings, folder, texts)
        readings = {part.name: _readings(part.name, scores, inside, truth) for part in parts}
        return Findings(
            "What does a supernet rank that was trained on a fold?",
            f"{len(settings.seeds)} supernets of each fold and of all {len(parts[0].archs)} archs, "
            f"{settings.recipe.epochs} epochs on {settings.data.spec}; {len(texts)} archs of {settings.space} "
            "scored.",
            _claims(readings),
            [_table(parts, readings, inside)],
            [_plot(parts, readings)],
            {**settings.as_dict(), "folds_seed": FOLDS_SEED, "published": P1},
        )


def _parts(settings: FoldsSettings) -> list[Part]:
    """Return all archs, then the folds of each kind that are trained on."""
    texts, truth = settings.known_archs()
    archs = parsed(settings, texts)
    space, n = SPACES[settings.space], settings.n_folds
    split = {
        "random": {
            f"random fold {i}": fold
            for i, fold in enumerate(random_folds(archs, n, seed=FOLDS_SEED))
        },
        "structured": {
            f"{option} on {settings.edge}": fold
            for option, fold in structured_folds(archs, space, settings.edge).items()
        },
        "sorted": {
            f"fold {i} by truth": fold for i, fold in enumerate(truth_folds(archs, truth, n))
        },
    }
    parts = [Part(WHOLE, "all archs", archs)]
    for kind, folds in split.items():
        listed = list(folds.items())
        if not set(settings.trained) <= set(range(len(listed))):
            raise OptionError(
                f"trained is {settings.trained}; {KINDS[kind]} go from 0 to {len(listed) - 1}"
            )
        parts += [Part(f"{kind}-{i}", *listed[i]) for i in settings.trained]
    return parts


@dataclass(frozen=True, eq=False)
class Readings:
    """Spearman correlations with truth, over seeds, each of shape (seed,).

    Attributes:
        own: Of archs of the fold, by the supernets trained on it.
        own_by_whole: Of the same archs, by the supernets trained on all archs.
        outside: Of the archs that are not in the fold.
        all: Of all archs.
    """

    own: Array
    own_by_whole: Array
    outside: Array
    all: Array


def _readings(part: str, scores: Mapping[str, Array], inside: Inside, truth: Array) -> Readings:
    def rho(trained_on: str, mask: NDArray[np.bool_]) -> Array:
        return np.array([spearman(row[mask], truth[mask]) for row in scores[trained_on]])

    own, every = inside[part], np.ones(truth.size, dtype=bool)
    return Readings(rho(part, own), rho(WHOLE, own), rho(part, ~own), rho(part, every))


def _by_kind(readings: Mapping[str, Readings], kind: str, name: str) -> Array:
    """Return the mean over the folds of a kind, (seed,)."""
    chosen = [getattr(one, name) for part, one in readings.items() if part.startswith(f"{kind}-")]
    return np.asarray(np.mean(chosen, axis=0))


def _claims(readings: Mapping[str, Readings]) -> list[Claim]:
    outside = _by_kind(readings, "random", "outside")
    alike, unlike = (_by_kind(readings, kind, "all") for kind in ("random", "structured"))
    whole = readings[WHOLE].all
    return [
        claim_over_seeds(
            "Archs that were never trained are ranked better than chance.",
            CODE,
            spread(outside, "Spearman outside"),
            "Spearman of archs outside random folds",
        ),
        claim_over_seeds(
            "All archs are ranked better after training on all than on a random fold.",
            CODE,
            spread(whole - alike, "gain by more archs"),
            f"Spearman of all archs {whole.mean():.3f}, after training on a random fold {alike.mean():.3f}: "
            "difference",
        ),
        claim_over_seeds(
            "Folds of like archs say less about the others: all archs are ranked better after training on a "
            "random fold.",
            CODE,
            spread(alike - unlike, "random less structured"),
            f"Spearman of all archs {alike.mean():.3f} after random folds, {unlike.mean():.3f} after "
            "structured ones: difference",
        ),
        *(_own_claim(readings, kind) for kind in KINDS),
    ]


def _own_claim(readings: Mapping[str, Readings], kind: str) -> Claim:
    own, whole = (_by_kind(readings, kind, name) for name in ("own", "own_by_whole"))
    source = f"arXiv 2006.06863; {CODE}" if kind == "structured" else CODE
    return claim_over_seeds(
        f"Supernets trained on {KINDS[kind]} rank these archs better than supernets trained on all archs do.",
        source,
        spread(own - whole, "gain by specialising"),
        f"Spearman inside {own.mean():.3f} after training on the fold, {whole.mean():.3f} on all: difference",
    )


def _table(parts: Sequence[Part], readings: Mapping[str, Readings], inside: Inside) -> ResultTable:
    rows: list[list[Cell]] = []
    for part in parts:
        one = readings[part.name]
        cells: list[Cell] = [part.label, len(part.archs), int(inside[part.name].sum())]
        for values in (one.own, one.own_by_whole, one.all):
            found = spread(values, "Spearman")
            cells += [found.mean, limits(found.low, found.high)]
        rows.append(cells)
    heads = [
        head
        for name in ("its archs", "its archs, trained on all", "all archs")
        for head in (name, "95 %")
    ]
    return ResultTable(
        "Spearman correlation with truth",
        ["trained on", "archs", "of them scored", *heads],
        rows,
        "Limits are over seeds of the supernets; folds are the same for all. Published figures are not known "
        "to us.",
    )


def _plot(parts: Sequence[Part], readings: Mapping[str, Readings]) -> Plot:
    labels = [part.label for part in parts]
    names = {"own": "its archs", "own_by_whole": "its archs, trained on all", "all": "all archs"}
    series = [
        points(label, labels, [spread(getattr(readings[part.name], name), label) for part in parts])
        for name, label in names.items()
    ]
    return Plot(
        "folds",
        "What is ranked by what was trained",
        "trained on",
        "Spearman correlation with truth",
        "marks",
        series,
        "Means over seeds with 95 % limits.",
    )


STUDIES.register("folds")(Folds())
