"""Ways to train beside each other: the same seeds, archs and images, and what search would end with after each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import (
    best_rank_at,
    kendall_tau,
    mean_truth_at,
    sparse_kendall_tau,
    spearman,
    surpass_random,
)
from wsx.analysis.uncertainty import Spread, spread
from wsx.errors import StudyError
from wsx.report.findings import Cell, limits
from wsx.spaces import SPACES
from wsx.spaces.choice import ArchChoice
from wsx.spaces.lists import pinned
from wsx.spaces.restricted import parse_restriction, restricted
from wsx.studies.images import ImageChoice
from wsx.studies.papers._base import Settings, Step
from wsx.studies.papers.steps import ScoreCheckpoints, Scoring, TrainSupernets, panel_of
from wsx.training.run import RunConfig
from wsx.truth import TruthTable, load_truth

COLUMNS = {
    "accuracy": "supernet accuracy",
    "kendall_tau": "Kendall tau",
    "sparse_tau": "sparse tau",
    "spearman": "Spearman",
    "surpass_random": "P > random",
    "final": "truth of the top K",
}
"""What a training is worth, by name; P2's four columns, and the correlations beside sparse tau."""


@dataclass(frozen=True)
class RankedSettings(Settings):
    """Numbers of a study whose archs have a public truth.

    Attributes:
        n_archs: Archs scored, drawn from those that the truth knows.
        archs_seed: Seed of the draw.
        top_k: Archs that a search would end with.
    """

    n_archs: int = 200
    archs_seed: int = 42
    top_k: int = 10

    def load_truth(self) -> TruthTable:
        """Return the truth.

        Raises:
            StudyError: None is given.
            TruthError: It cannot be read.
        """
        if not self.truth:
            raise StudyError(
                f"there is no truth of {self.space} on {self.data.spec} here; give a table by --set truth=PATH"
            )
        return load_truth(self.truth)

    def known_archs(self) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Return all archs that are trained and have a truth, in the table's order, and their truth (arch,).

        Raises:
            StudyError: There is no truth.
            TruthError: It cannot be read.
        """
        truth = self.load_truth()
        # Those that are trained: archs whose output hears nothing of the input are in tables, too.
        known = _trained(self.space, self.restriction, pinned(self.recipe.measure))
        rows = [i for i, text in enumerate(truth.texts) if known is None or text in known]
        return tuple(truth.texts[i] for i in rows), np.asarray(truth.goodness[rows])

    def archs(self) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Return the archs to score, in a random order, and their truth (arch,).

        Raises:
            StudyError: There is no truth.
            TruthError: It cannot be read.
        """
        texts, truth = self.known_archs()
        drawn = np.random.default_rng(self.archs_seed).permutation(len(texts))[: self.n_archs]
        if len(drawn) < max(self.top_k, 2):
            raise StudyError(
                f"{self.truth} has {len(drawn)} archs of {self.space} that are trained; a top {self.top_k} "
                "is asked for"
            )
        return tuple(texts[i] for i in drawn), truth[drawn]


@cache
def _trained(name: str, restriction: tuple[str, ...], measure: str) -> frozenset[str] | None:
    """Return the texts of the archs that a measure draws from, None for all."""
    space = SPACES[name]
    archs = restricted(space, parse_restriction(restriction, space)).population(measure)
    return None if archs is None else frozenset(map(space.format, archs))


@dataclass(frozen=True)
class Variant:
    """One way to train supernets, and to score them.

    Attributes:
        name: Letters, digits and dashes, unique within the study.
        label: In the report.
        config: What is trained; seeds are the study's.
        bn: BatchNorm mode of its scores.
        batch_size: Images per batch, in BatchNorm mode ``batch``.
        trained_as: Name of the variant whose supernets it scores; empty for its own.
        checkpoints: Which are scored, see ``choose_checkpoints``.
        n_checkpoints: How many these are.
    """

    name: str
    label: str
    config: RunConfig
    bn: str
    batch_size: int | None = None
    trained_as: str = ""
    checkpoints: str = "last"
    n_checkpoints: int = 1

    def runs(self, seeds: Sequence[int]) -> dict[str, RunConfig]:
        """Return the trainings by name, one for each seed."""
        name = self.trained_as or self.name
        return {f"{name}-{seed}": replace(self.config, seed=seed) for seed in seeds}


def variant_steps(
    variants: Sequence[Variant], settings: Settings, texts: tuple[str, ...]
) -> list[Step]:
    """Return the steps that train all variants with all seeds, and score the same archs after each."""
    steps = [train_step(variants, settings)]
    return steps + [score_step(one, settings, texts) for one in variants]


def train_step(variants: Sequence[Variant], settings: Settings) -> Step:
    """Return the step that trains all variants with all seeds."""
    runs = {k: v for variant in variants for k, v in variant.runs(settings.seeds).items()}
    return TrainSupernets("train", runs)


def score_step(one: Variant, settings: Settings, texts: tuple[str, ...]) -> Step:
    """Return the step that scores archs after a variant's trainings."""
    images = ImageChoice(n=settings.n_images or None)
    scoring = Scoring(ArchChoice(texts=texts), one.bn, images, one.batch_size)
    names = tuple(one.runs(settings.seeds))
    return ScoreCheckpoints(
        f"score-{one.name}", one.config, names, one.checkpoints, one.n_checkpoints, scoring
    )


def accuracy_of(
    variant: Variant, settings: Settings, folder: Path, texts: Sequence[str]
) -> NDArray[np.float64]:
    """Return the accuracies of a variant's supernets (seed, checkpoint, arch).

    Raises:
        StoreError: Scores are missing.
    """
    panel = panel_of(folder, tuple(variant.runs(settings.seeds)), texts, bn=variant.bn)
    order = [panel.seeds.tolist().index(seed) for seed in settings.seeds]
    return panel.accuracy[order]


def columns_of(
    accuracy: NDArray[np.float64], truth: NDArray[np.float64], top_k: int
) -> dict[str, Spread]:
    """Return what trainings are worth, by the names of ``COLUMNS``, with limits over seeds.

    Args:
        accuracy: Supernet accuracies, shape (seed, arch).
        truth: Stand-alone accuracies, shape (arch,).
        top_k: Archs that a search ends with.
    """
    values = {
        "accuracy": accuracy.mean(axis=1),
        "kendall_tau": [kendall_tau(row, truth) for row in accuracy],
        "sparse_tau": [sparse_kendall_tau(row, truth) for row in accuracy],
        "spearman": [spearman(row, truth) for row in accuracy],
        "surpass_random": [
            surpass_random(best_rank_at(row, truth, top_k), truth.size, top_k) for row in accuracy
        ],
        "final": [mean_truth_at(row, truth, top_k) for row in accuracy],
    }
    return {name: spread(np.asarray(values[name]), label) for name, label in COLUMNS.items()}


def difference(one: Spread, other: Spread) -> Spread:
    """Return how much more one has than the other, seed by seed."""
    return spread(one.values - other.values, f"difference of {one.label}")


def columns_table_row(
    label: str, columns: Mapping[str, Spread], names: Sequence[str] = tuple(COLUMNS)
) -> list[Cell]:
    """Return a row of a table: the label, then mean and limits over seeds of each column."""
    cells: list[Cell] = [label]
    for name in names:
        cells += [columns[name].mean, limits(columns[name].low, columns[name].high)]
    return cells


def columns_heads(first: str, names: Sequence[str] = tuple(COLUMNS)) -> list[str]:
    """Return the heads of a table of such rows."""
    return [first, *(head for name in names for head in (COLUMNS[name], "95 % over seeds"))]
