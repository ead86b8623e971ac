"""Do a few steps alone restore the ranking? P3's figure 4: every arch fine-tuned by itself from a snapshot."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis.stability import gt_tau, s_tau
from wsx.analysis.uncertainty import spread
from wsx.errors import OptionError
from wsx.report.findings import Cell, Claim, Findings, Plot, ResultTable, limits
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.p3.cell64 import SOURCE, Cell64Settings, cell64_settings
from wsx.studies.papers.seeds import claim_over_seeds, points
from wsx.studies.papers.steps import FineTune, TrainSupernets, panel_of
from wsx.training.finetune import Finetuning
from wsx.training.run import RunConfig

FIGURE = f"{SOURCE}, figure 4"
# Read from the figure, by the share of the training that the snapshot has seen.
PUBLISHED = {0.5: "about .6 after some 10 batches", 1.0: "close to .8; needs about 5 batches"}


@dataclass(frozen=True)
class Snapshot:
    """A state of a supernet that subnets are fine-tuned from.

    Attributes:
        epoch: How long the supernet was trained.
        lr: Learning rate of fine-tuning.
    """

    epoch: int
    lr: float

    @property
    def checkpoint(self) -> str:
        """Name of the checkpoint."""
        return f"epoch-{self.epoch:04d}"


@dataclass(frozen=True)
class FinetuneSettings(Cell64Settings):
    """Numbers of the study of fine-tuning.

    Attributes:
        n_batches: After how many batches subnets are scored; 0 is the supernet's own score.
        n_few: What counts as a few of them.

    Raises:
        OptionError: There is no score before the first batch, or none after a few.
    """

    n_batches: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32, 64)
    n_few: int = 8

    def __post_init__(self) -> None:
        if not {0, self.n_few} <= set(self.n_batches) or self.n_few < 1 or self.recipe.epochs < 2:
            raise OptionError(
                f"n_batches is {self.n_batches}, n_few {self.n_few}, epochs {self.recipe.epochs}; n_batches must "
                "have 0 and n_few in it, n_few be at least 1 and epochs at least 2"
            )

    @property
    def snapshots(self) -> tuple[Snapshot, Snapshot]:
        """Half of the training and all of it, with the rate that the cosine has come to, as in the public code."""
        return self._snapshot(self.recipe.epochs // 2), self._snapshot(self.recipe.epochs)

    def _snapshot(self, epoch: int) -> Snapshot:
        recipe = self.recipe
        left = (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2
        return Snapshot(epoch, recipe.lr_min + (recipe.lr - recipe.lr_min) * left)

    def runs(self) -> dict[str, RunConfig]:
        """Return the trainings by name, one for each seed."""
        return self.supernets(checkpoint_epochs=self.recipe.epochs // 2)


class FinetuneStudy(Study):
    """Supernets, and all of their subnets trained alone for some batches from half and full training."""

    paper = FIGURE
    summary = "do a few steps of each arch alone restore the ranking?"

    def settings(self, scale: str) -> FinetuneSettings:
        """Return the numbers of a scale."""
        values = cell64_settings(scale)
        if scale == "tiny":
            values |= {"recipe": replace(values["recipe"], epochs=2), "seeds": (0, 1)}
            return FinetuneSettings(**values, n_batches=(0, 1, 4), n_few=4)
        if scale == "small":
            return FinetuneSettings(**values)
        return FinetuneSettings(**values, n_batches=(0, 1, 2, 4, 5, 10, 16, 32, 64), n_few=10)

    def steps(self, settings: FinetuneSettings, folder: Path) -> Sequence[Step]:
        """Train supernets, fine-tune all archs from each snapshot, train archs alone."""
        runs = settings.runs()
        config, names = next(iter(runs.values())), tuple(runs)
        starts = {one.checkpoint: Finetuning(one.lr) for one in settings.snapshots}
        return [
            TrainSupernets("train", runs),
            FineTune("finetune", config, names, starts, settings.n_batches, settings.scoring),
            *settings.truth_steps(),
        ]

    def findings(self, settings: FinetuneSettings, folder: Path) -> Findings:
        """Compare rankings before and after fine-tuning with truth."""
        truth = settings.load_truth(folder)
        names = tuple(settings.runs())
        tuned = []
        for one in settings.snapshots:
            panel = panel_of(
                folder, names, truth.texts, checkpoint=one.checkpoint, is_finetuned=True
            )
            tuned.append(_Tuned(one, panel.n_batches.tolist(), panel.accuracy, truth.accuracy))
        return Findings(
            "Do a few steps alone restore the ranking?",
            f"{len(names)} supernets, {len(truth.texts)} archs of {settings.space}, each fine-tuned alone for up "
            f"to {max(settings.n_batches)} batches of {settings.recipe.batch_size} images from epochs "
            f"{' and '.join(str(one.epoch) for one in settings.snapshots)}, {settings.data.spec}.",
            _claims(tuned, settings.n_few),
            [_table(tuned, settings)],
            [_plot(tuned)],
            {**settings.as_dict(), "published": SOURCE},
        )


@dataclass(frozen=True, eq=False)
class _Tuned:
    """Accuracies after fine-tuning from a snapshot, (seed, number of batches, arch)."""

    snapshot: Snapshot
    n_batches: list[int]
    accuracy: NDArray[np.float64]
    true: NDArray[np.float64]

    def gt_tau(self, n: int) -> NDArray[np.float64]:
        """Return GT-Tau after a number of batches, (seed,)."""
        return gt_tau(self.accuracy[:, self.n_batches.index(n)], self.true)

    def gain(self, n: int) -> NDArray[np.float64]:
        """Return GT-Tau after a number of batches less that before the first, (seed,)."""
        return self.gt_tau(n) - self.gt_tau(0)

    def s_tau(self, n: int) -> float | None:
        """Return how far supernets agree after a number of batches, None for one alone."""
        rankings = self.accuracy[:, self.n_batches.index(n)]
        return s_tau(rankings).s_tau.value if len(rankings) > 1 else None


def _claims(tuned: Sequence[_Tuned], n_few: int) -> list[Claim]:
    restored = [
        claim_over_seeds(
            f"A few steps of each arch alone bring the ranking closer to truth, from epoch {one.snapshot.epoch}.",
            FIGURE,
            spread(one.gain(n_few), "gain of GT-Tau"),
            f"GT-Tau {one.gt_tau(0).mean():.3f} before, {one.gt_tau(n_few).mean():.3f} after {n_few} batches; "
            "gained",
        )
        for one in tuned
    ]
    early, late = tuned
    most = max(early.n_batches)
    return [
        *restored,
        claim_over_seeds(
            "Fine-tuning ends closer to truth from a supernet that was trained longer.",
            FIGURE,
            spread(late.gt_tau(most) - early.gt_tau(most), "difference of GT-Tau"),
            f"GT-Tau after {most} batches from epoch {late.snapshot.epoch} less that from epoch "
            f"{early.snapshot.epoch}",
        ),
    ]


def _table(tuned: Sequence[_Tuned], settings: FinetuneSettings) -> ResultTable:
    rows: list[list[Cell]] = []
    for one in tuned:
        for n in one.n_batches:
            tau, gain = spread(one.gt_tau(n), "GT-Tau"), spread(one.gain(n), "gain")
            share = one.snapshot.epoch / settings.recipe.epochs
            published = PUBLISHED.get(share) if n == settings.n_few else None
            ours: list[Cell] = [tau.mean, limits(tau.low, tau.high)]
            ours += [gain.mean, limits(gain.low, gain.high)] if n else [None, None]
            rows.append([f"epoch {one.snapshot.epoch}", n, *ours, one.s_tau(n), published])
    heads = ["from", "batches", "GT-Tau", "95 % over seeds", "gained", "95 % over seeds"]
    return ResultTable(
        "Rankings after fine-tuning",
        [*heads, "S-Tau between supernets", "published GT-Tau"],
        rows,
        "Published figures are read from a figure, for batches of 256 images from epochs 100 and 200.",
    )


def _plot(tuned: Sequence[_Tuned]) -> Plot:
    lines = [
        points(
            f"from epoch {one.snapshot.epoch}",
            one.n_batches,
            [spread(one.gt_tau(n), "GT-Tau") for n in one.n_batches],
        )
        for one in tuned
    ]
    return Plot(
        "gt-tau",
        "Agreement with truth after fine-tuning each arch alone",
        "batches",
        "GT-Tau",
        "lines",
        lines,
        "Means over supernets with 95 % limits over seeds; 0 batches are the shared weights themselves.",
    )


STUDIES.register("finetune")(FinetuneStudy())
