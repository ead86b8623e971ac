"""Training in parts between which one branch of the space is fixed: the steps of P1's progressive pruning."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import BRANCH_SCORES, branch_scores
from wsx.errors import StudyError
from wsx.evaluators.layout import n_cores
from wsx.spaces import SPACES, Space
from wsx.spaces.choice import ArchChoice
from wsx.studies.images import ImageChoice
from wsx.studies.panel import Panel
from wsx.studies.papers._base import Machine, Step, Update, Work
from wsx.studies.papers.rates import n_trained_images, train_rate
from wsx.studies.papers.steps import RUNS, SCORES, Scoring, panel_of, run_of
from wsx.studies.papers.variants import RankedSettings
from wsx.studies.timeline import evaluate_checkpoints
from wsx.studies.train_supernets import train_supernets
from wsx.training.branches import Branch, best_branch, next_config
from wsx.training.run import RunConfig

FREE, RANDOM = "free", "random"
WAYS = (*BRANCH_SCORES, RANDOM, FREE)
"""What decides about the branch that is fixed; ``free`` fixes none."""

Fixed = tuple[Branch, ...]
"""Branches in the order in which they were fixed."""


@dataclass(frozen=True)
class FixingSettings(RankedSettings):
    """Numbers of a training in parts.

    Attributes:
        n_parts: Equal parts that the epochs are cut into; a branch is fixed after each but the last.
        min_archs: Branches that fewer of the scored archs have are not considered.
    """

    n_parts: int = 4
    min_archs: int = 10


def run_name(seed: int, part: int, fixed: Fixed) -> str:
    """Return the name of a run; ways that have fixed the same branches share it."""
    return "-".join([f"seed-{seed}-part-{part}", *(f"{place}.{option}" for place, option in fixed)])


class Scores:
    """The scores of a study's runs, each read once.

    Args:
        folder: Of the study.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._panels: dict[str, Panel] = {}

    def __getitem__(self, name: str) -> Panel:
        """Return the scores of a run.

        Raises:
            StoreError: There are none.
        """
        if name not in self._panels:
            self._panels[name] = panel_of(self.folder, (name,))
        return self._panels[name]


def fixed_before(settings: FixingSettings, scores: Scores, way: str, seed: int, part: int) -> Fixed:
    """Return the branches that a way has fixed when a part begins, by the scores of the parts before.

    Raises:
        CheckpointError: A part was not trained.
        OptionError: Too few archs were scored to decide.
        StoreError: A part was not scored.
    """
    fixed: Fixed = ()
    for before in range(1, part if way != FREE else 1):
        name = run_name(seed, before, fixed)
        found = _branches(settings, scores[name], way, (seed, before))
        fixed = (*fixed, best_branch(run_of(scores.folder, name).config, found))
    return fixed


def _branches(
    settings: FixingSettings, panel: Panel, way: str, seed: tuple[int, int]
) -> dict[Branch, float]:
    found = branch_scores(
        panel.decisions,
        panel.accuracy[0, -1],
        panel.params,
        score="accuracy" if way == RANDOM else way,
        min_arch=settings.min_archs,
    )
    if way != RANDOM:
        return found
    drawn = np.random.default_rng(seed).random(len(found))
    return dict(zip(found, drawn.tolist(), strict=True))


def is_left(archs: NDArray[np.int64], fixed: Fixed) -> NDArray[np.bool_]:
    """Return which archs of shape (arch, decision) have all branches, shape (arch,)."""
    mask = np.ones(len(archs), dtype=bool)
    for place, option in fixed:
        mask &= archs[:, place] == option
    return mask


def table_of(space: Space, texts: Sequence[str]) -> NDArray[np.int64]:
    """Return archs by their texts, shape (arch, decision)."""
    return np.array([space.parse(text) for text in texts], np.int64)


def first_part(settings: FixingSettings, seed: int) -> RunConfig:
    """Return the training of the whole space that all ways start from."""
    epochs = settings.recipe.epochs // settings.n_parts
    recipe = replace(settings.recipe, epochs=epochs, checkpoint_epochs=epochs)
    return settings.run_config(recipe, seed)


@dataclass(frozen=True)
class TrainPart(Step):
    """Fix a branch by the scores of the part before, train on, and score archs that remain.

    Attributes:
        name: Of the step.
        settings: Numbers of the study.
        part: Which part, from 1.
        texts: Archs that may be scored, in a random order.
    """

    name: str
    settings: FixingSettings
    part: int
    texts: tuple[str, ...]

    @property
    def _ways(self) -> tuple[str, ...]:
        return WAYS[:1] if self.part == 1 else WAYS

    @property
    def _scoring(self) -> Scoring:
        archs = ArchChoice(texts=self.texts[: self.settings.n_archs])
        return Scoring(archs, self.settings.bn, ImageChoice(n=self.settings.n_images or None))

    def work(self) -> Work:
        """Return what trainings and scores cost, of the whole space, as if nothing were fixed."""
        config = first_part(self.settings, 0)
        n = len(self._ways) * len(self.settings.seeds)
        return replace(
            self._scoring.work(config, n),
            n_trainings=n,
            n_train_images=n * n_trained_images(config),
            seconds_per_train_image=train_rate(config) / min(n_cores(), n),
        )

    def run(self, folder: Path, machine: Machine, update: Update) -> None:
        """Train and score what is missing; ways that have fixed the same branches are one training."""
        # Whole, since runs keep what they started from.
        folder = folder.resolve()
        scores = Scores(folder)
        trainings: dict[str, tuple[Fixed, RunConfig]] = {}
        for seed in self.settings.seeds:
            for way in self._ways:
                fixed = fixed_before(self.settings, scores, way, seed, self.part)
                name = run_name(seed, self.part, fixed)
                trainings[name] = (fixed, self._config(folder, seed, way, fixed))
        train_supernets(
            {folder / RUNS / name: config for name, (_, config) in trainings.items()},
            device=machine.torch_device,
            n_workers=machine.n_workers or n_cores(),
            on_progress=update,
        )
        archs = table_of(SPACES[self.settings.space], self.texts)
        for n_done, (name, (fixed, _)) in enumerate(trainings.items(), 1):
            left = [
                text for text, is_in in zip(self.texts, is_left(archs, fixed), strict=True) if is_in
            ]
            self._score(folder, name, tuple(left[: self.settings.n_archs]), machine.device)
            update(n_done, len(trainings), f"{name} scored")

    def _config(self, folder: Path, seed: int, way: str, fixed: Fixed) -> RunConfig:
        if self.part == 1:
            return first_part(self.settings, seed)
        before = fixed if way == FREE else fixed[:-1]
        run = run_of(folder, run_name(seed, self.part - 1, before))
        if way == FREE:
            return replace(run.config, init_from=str(run.checkpoint_path())).pinned()
        return next_config(run, {fixed[-1]: 1.0})

    def _score(self, folder: Path, name: str, texts: tuple[str, ...], device: str) -> None:
        report = evaluate_checkpoints(
            [run_of(folder, name)],
            "last",
            folder / SCORES,
            choice=ArchChoice(texts=texts),
            bn=self.settings.bn,
            images=self._scoring.images,
            device=device,
        )
        if report.failures:
            raise StudyError(f"{name} cannot be scored: {next(iter(report.failures.values()))}")
