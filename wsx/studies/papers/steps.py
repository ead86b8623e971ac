"""The steps that studies are made of: train supernets, score checkpoints, fine-tune, train archs alone."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from wsx.errors import StudyError
from wsx.evaluators.layout import n_cores
from wsx.exporters.batchnorm import BatchNormMode
from wsx.spaces import SPACES
from wsx.spaces.choice import ArchChoice
from wsx.store import ScoreKey
from wsx.studies.finetune import finetune_then_score
from wsx.studies.images import ImageChoice
from wsx.studies.panel import Panel, read_panel
from wsx.studies.papers._base import Machine, Step, Update, Work
from wsx.studies.papers.rates import n_trained_images, score_rate, split_sizes, train_rate
from wsx.studies.processes import training_processes
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import ScoringOptions
from wsx.studies.timeline import evaluate_checkpoints
from wsx.studies.train_supernets import train_supernets
from wsx.studies.truth import make_truth
from wsx.training.finetune import Finetuning
from wsx.training.run import Run, RunConfig, open_run

RUNS, SCORES, TRUTH = "runs", "scores.h5", "truth.parquet"


def run_of(folder: Path, name: str) -> Run:
    """Return a run that a study trained.

    Raises:
        CheckpointError: It is not there.
    """
    return open_run(folder / RUNS / name)


def panel_of(
    folder: Path,
    runs: Collection[str],
    archs: Sequence[str] | None = None,
    *,
    bn: str | None = None,
    checkpoint: str | None = None,
    out: str = SCORES,
    is_finetuned: bool = False,
) -> Panel:
    """Return the scores of some of a study's runs, archs in an order; of one BatchNorm mode or checkpoint if told.

    Raises:
        StoreError: Scores are missing.
    """

    def is_wanted(key: ScoreKey, info: Mapping[str, Any]) -> bool:
        is_there = checkpoint in (None, info["checkpoint"])
        return info["run"] in runs and bn in (None, key.bn) and is_there

    return read_panel(folder / out, keeps=is_wanted, archs=archs, is_finetuned=is_finetuned)


@dataclass(frozen=True)
class TrainSupernets(Step):
    """Train supernets, several at once where they train on CPUs.

    Attributes:
        name: Of the step.
        configs: What to train, by name of the run.
    """

    name: str
    configs: Mapping[str, RunConfig]

    def work(self) -> Work:
        """Return images times epochs; the rate has all archs of a step in it."""
        n_images = {run: n_trained_images(config) for run, config in self.configs.items()}
        seconds = sum(n * train_rate(self.configs[run]) for run, n in n_images.items())
        n_all = sum(n_images.values())
        n_at_once = min(n_cores(), len(n_images))
        return Work(
            n_trainings=len(n_images),
            n_train_images=n_all,
            seconds_per_train_image=seconds / n_all / n_at_once,
        )

    def run(self, folder: Path, machine: Machine, update: Update) -> None:
        """Train, or go on."""
        train_supernets(
            {folder / RUNS / name: config for name, config in self.configs.items()},
            device=machine.torch_device,
            n_workers=machine.n_workers or n_cores(),
            on_progress=update,
        )


@dataclass(frozen=True)
class Scoring:
    """What is scored, and on what.

    Attributes:
        choice: Which archs.
        bn: BatchNorm mode.
        images: Which images.
        batch_size: Needed in BatchNorm mode ``batch``.
    """

    choice: ArchChoice
    bn: str
    images: ImageChoice
    batch_size: int | None = None

    def work(self, config: RunConfig, n_times: int) -> Work:
        """Return what scoring a number of times costs."""
        n = len(self.choice.archs(config.archs)) * n_times
        rate = score_rate(config)
        n_images = self.images.n or split_sizes(config.data)[self.images.split]
        n_all = n_images + BatchNormMode.parse(self.bn).n_images
        per_image_s = rate.per_image_s + rate.per_subnet_s / n_all
        return Work(
            n_scores=n, n_scored_images=n * n_all, seconds_per_scored_image=per_image_s / n_cores()
        )


@dataclass(frozen=True)
class ScoreCheckpoints(Step):
    """Score the same archs at checkpoints of runs.

    Attributes:
        name: Of the step.
        config: Of one of the runs.
        runs: Names of the runs.
        checkpoints: Which of each run, see ``choose_checkpoints``.
        n_checkpoints: How many these are, for the plan.
        scoring: What is scored.
        out: Name of the score file.
    """

    name: str
    config: RunConfig
    runs: tuple[str, ...]
    checkpoints: str
    n_checkpoints: int
    scoring: Scoring
    out: str = SCORES

    def work(self) -> Work:
        """Return archs times checkpoints times runs."""
        return self.scoring.work(self.config, len(self.runs) * self.n_checkpoints)

    def run(self, folder: Path, machine: Machine, update: Update) -> None:
        """Score what is missing."""
        report = evaluate_checkpoints(
            [run_of(folder, name) for name in self.runs],
            self.checkpoints,
            folder / self.out,
            choice=self.scoring.choice,
            bn=self.scoring.bn,
            images=self.scoring.images,
            device=machine.device,
            options=ScoringOptions(batch_size=self.scoring.batch_size),
            on_progress=update,
        )
        if report.failures:
            first, why = next(iter(report.failures.items()))
            raise StudyError(
                f"{len(report.failures)} checkpoints are of no use, first {first}: {why}"
            )


@dataclass(frozen=True)
class FineTune(Step):
    """Fine-tune subnets of runs alone, and score them after some numbers of batches.

    Attributes:
        name: Of the step.
        config: Of one of the runs.
        runs: Names of the runs.
        starts: How subnets are trained, by the name of the checkpoint that they start from.
        n_batches: After how many batches they are scored.
        scoring: What is scored.
        out: Name of the score file.
    """

    name: str
    config: RunConfig
    runs: tuple[str, ...]
    starts: Mapping[str, Finetuning]
    n_batches: tuple[int, ...]
    scoring: Scoring
    out: str = SCORES

    def work(self) -> Work:
        """Return the scores, and archs times batches times runs and checkpoints."""
        n_times = len(self.runs) * len(self.starts)
        n_trainings = len(self.scoring.choice.archs(self.config.archs)) * n_times
        scores = self.scoring.work(self.config, len(self.n_batches) * n_times)
        return replace(
            scores,
            n_trainings=n_trainings,
            n_train_images=n_trainings * max(self.n_batches) * self.config.recipe.batch_size,
            seconds_per_train_image=train_rate(self.config) / n_cores(),
        )

    def run(self, folder: Path, machine: Machine, update: Update) -> None:
        """Train and score what is missing."""
        n_workers = machine.n_workers or n_cores()
        with training_processes(n_workers, SPACES[self.config.space]) as executor:
            for name, (checkpoint, settings) in product(self.runs, self.starts.items()):

                def on_scored(
                    n: int, n_all: int, arch: str, where: str = f"{name} {checkpoint}"
                ) -> None:
                    update(n, n_all, f"{where} {arch}")

                finetune_then_score(
                    RunSubnets(run_of(folder, name), self.scoring.bn, checkpoint),
                    folder / self.out,
                    choice=self.scoring.choice,
                    settings=settings,
                    n_batches=self.n_batches,
                    executor=executor,
                    images=self.scoring.images,
                    batch_size=self.scoring.batch_size,
                    on_progress=on_scored,
                )


@dataclass(frozen=True)
class TrainAlone(Step):
    """Train archs alone, each with several seeds: the truth of the study's own data.

    Attributes:
        name: Of the step.
        config: Space, recipe and data.
        choice: Which archs.
        seeds: One training each per arch.
        split: What the truth is measured on.
    """

    name: str
    config: RunConfig
    choice: ArchChoice
    seeds: Sequence[int]
    split: str = "test"

    def work(self) -> Work:
        """Return images times epochs times archs times seeds."""
        n = len(self.choice.archs(self.config.archs)) * len(self.seeds)
        return Work(
            n_trainings=n,
            n_train_images=n * n_trained_images(self.config),
            seconds_per_train_image=train_rate(self.config) / n_cores(),
        )

    def run(self, folder: Path, machine: Machine, update: Update) -> None:
        """Train what is missing, and write the table."""
        make_truth(
            self.config,
            self.choice,
            self.seeds,
            folder / TRUTH,
            split=self.split,
            n_workers=machine.n_workers or n_cores(),
            on_score=lambda n_done, n_all: update(n_done, n_all, "trained alone"),
        )
