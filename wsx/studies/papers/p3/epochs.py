"""Does one supernet's ranking settle? P3's figure 2, and what its tables 1 and 2 say of epochs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis.stability import Stability, gt_tau, gt_tau_window, s_tau, truth_stability
from wsx.analysis.uncertainty import Resampling, Spread, spread
from wsx.errors import OptionError
from wsx.report.findings import Cell, Claim, Findings, Plot, ResultTable, Series, judged, limits
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.p3.cell64 import SOURCE, Cell64Settings, cell64_settings, seeds_of
from wsx.studies.papers.seeds import claim_over_seeds
from wsx.studies.papers.steps import ScoreCheckpoints, TrainSupernets, panel_of
from wsx.truth import TruthTable

STILL = 0.5
"""Rankings that move by less than this share of what they moved halfway have begun to settle."""
# S-Tau, its largest and smallest: table 1. GT-Tau, its deviation, T1R and T3R: table 2.
PUBLISHED_S_TAU = {"end": (0.5310, 0.8752, 0.0918), "alone": (0.7120, 0.8191, 0.6650)}
PUBLISHED_GT_TAU = {"end": (0.5053, 0.1399, 15.2, 13.2)}


@dataclass(frozen=True)
class EpochsSettings(Cell64Settings):
    """Numbers of the study of epochs.

    Attributes:
        every: One of so many epochs is scored.
        n_last: Epochs up to half training, and up to its end, that are all scored.

    Raises:
        OptionError: The training is too short for both, or they are too short to see a change.
    """

    every: int = 1
    n_last: int = 10

    def __post_init__(self) -> None:
        if self.every < 1 or not 2 <= self.n_last <= self.recipe.epochs // 2:
            raise OptionError(
                f"every is {self.every} and n_last {self.n_last} of {self.recipe.epochs} epochs; every must be at "
                "least 1, n_last at least 2 and at most half of the epochs"
            )

    @property
    def windows(self) -> dict[str, range]:
        """The epochs up to half training and up to its end, all of which are scored."""
        ends = {"half": self.recipe.epochs // 2, "end": self.recipe.epochs}
        return {name: range(end - self.n_last + 1, end + 1) for name, end in ends.items()}

    @property
    def scored_epochs(self) -> list[int]:
        """All epochs that are scored."""
        spread_out = range(self.recipe.epochs, 0, -self.every)
        return sorted({*spread_out, *self.windows["half"], *self.windows["end"]})


@dataclass(frozen=True, eq=False)
class _Window:
    """Accuracies over consecutive epochs, (seed, epoch, arch), and what they are worth."""

    accuracy: NDArray[np.float64]
    true: NDArray[np.float64]

    def gt_tau(self) -> tuple[Spread, Spread]:
        """Return mean and deviation over epochs of GT-Tau, over seeds."""
        window = gt_tau_window(self.accuracy, self.true, self.accuracy.shape[1])
        return window.mean, window.std

    def moves(self) -> NDArray[np.float64]:
        """Return the mean change of GT-Tau from one epoch to the next, (seed,)."""
        changes = np.abs(np.diff(gt_tau(self.accuracy, self.true), axis=1))
        mean: NDArray[np.float64] = changes.mean(axis=1)
        return mean

    def s_tau(self) -> list[Stability]:
        """Return how far the epochs of each supernet agree."""
        # Epochs of one run are not independent: no interval over them.
        return [s_tau(run, resampling=Resampling(n_resamples=0)) for run in self.accuracy]

    def best_rank(self, n: int) -> Spread:
        """Return TnR, the mean over epochs, over seeds."""
        name = f"best_rank@{n}"
        means = [truth_stability(run, self.true, ks=(n,))[name].mean for run in self.accuracy]
        return spread(means, f"T{n}R")


class Epochs(Study):
    """Supernets that differ in seeds, scored again and again while they are trained."""

    paper = f"{SOURCE}, figure 2, tables 1 and 2"
    summary = "does one supernet's ranking settle from epoch to epoch?"

    def settings(self, scale: str) -> EpochsSettings:
        """Return the numbers of a scale."""
        values = cell64_settings(scale)
        if scale == "tiny":
            values |= {"recipe": replace(values["recipe"], epochs=4), "seeds": (0, 1)}
            return EpochsSettings(**values, every=2, n_last=2)
        if scale == "small":
            # At nine steps an epoch, 30 epochs are four rounds over the archs.
            return EpochsSettings(**values, every=30, n_last=30)
        return EpochsSettings(**values, every=5)

    def steps(self, settings: EpochsSettings, folder: Path) -> Sequence[Step]:
        """Train supernets, score them over epochs, train archs alone."""
        runs = settings.supernets(checkpoint_epochs=1)
        epochs = settings.scored_epochs
        names = ",".join(f"epoch-{epoch:04d}" for epoch in epochs)
        config = next(iter(runs.values()))
        return [
            TrainSupernets("train", runs),
            ScoreCheckpoints("score", config, tuple(runs), names, len(epochs), settings.scoring),
            *settings.truth_steps(),
        ]

    def findings(self, settings: EpochsSettings, folder: Path) -> Findings:
        """Compare epochs with one another, with truth, and the end with the middle."""
        truth = settings.load_truth(folder)
        panel = panel_of(folder, tuple(settings.supernets()), truth.texts)
        epochs, true = panel.epochs[0], truth.accuracy
        windows = {
            name: _Window(panel.accuracy[:, np.isin(epochs, list(window))], true)
            for name, window in settings.windows.items()
        }
        alone = _stand_alone(truth)
        names = {
            "half": f"{settings.n_last} epochs up to half training",
            "end": f"last {settings.n_last} epochs",
        }
        return Findings(
            "Does one supernet's ranking settle?",
            f"{len(panel.seeds)} supernets, {len(true)} archs of {settings.space}, {settings.recipe.epochs} "
            f"epochs of {settings.data.spec}; windows of {settings.n_last} consecutive epochs.",
            _claims(windows, alone),
            [_agreement_table(names, windows, alone), _truth_table(names, windows)],
            _plots(epochs.tolist(), panel.seeds.tolist(), panel.accuracy, true),
            {**settings.as_dict(), "published": SOURCE},
        )


def _stand_alone(truth: TruthTable) -> Stability | None:
    """Return how far stand-alone trainings agree, None where the truth does not keep two of them apart."""
    if truth.per_seed is None or truth.per_seed.shape[1] < 2:
        return None
    return s_tau(seeds_of(truth))


def _claims(windows: dict[str, _Window], alone: Stability | None) -> list[Claim]:
    half, end = windows["half"], windows["end"]
    moves = end.moves() - STILL * half.moves()
    gain = end.gt_tau()[0].values - half.gt_tau()[0].values
    where = f"{SOURCE}, figure 2"
    return [
        claim_over_seeds(
            "GT-Tau of one supernet goes on moving from epoch to epoch instead of settling.",
            where,
            spread(moves, "change of GT-Tau"),
            f"mean change of GT-Tau from one epoch to the next {end.moves().mean():.3f} at the end and "
            f"{half.moves().mean():.3f} at half training; the former less {STILL:g} of the latter",
        ),
        claim_over_seeds(
            "More training raises the agreement with truth.",
            where,
            spread(gain, "gain of GT-Tau"),
            "GT-Tau over the last epochs less that over those up to half training",
        ),
        _less_stable(end, alone),
    ]


def _less_stable(end: _Window, alone: Stability | None) -> Claim:
    text = "Epochs of one supernet agree less with one another than stand-alone trainings do."
    where = f"{SOURCE}, table 1"
    ours = spread([one.s_tau.value for one in end.s_tau()], "S-Tau")
    between = None if alone is None else alone.s_tau.intervals.get("rankings")
    if alone is None or between is None:
        return Claim(
            text, where, "open", "too few stand-alone trainings are kept apart for an interval"
        )
    evidence = (
        f"S-Tau of the last epochs {ours.mean:.3f} {limits(ours.low, ours.high)} (95 % over "
        f"{ours.values.size} seeds), of stand-alone trainings {alone.s_tau.value:.3f} "
        f"{limits(between.low, between.high)} (95 % over trainings)"
    )
    return judged(text, where, between.low - ours.high, between.high - ours.low, evidence)


def _agreement_table(
    names: dict[str, str], windows: dict[str, _Window], alone: Stability | None
) -> ResultTable:
    rows: list[list[Cell]] = []
    for name, window in windows.items():
        found = window.s_tau()
        mean = spread([one.s_tau.value for one in found], "S-Tau")
        highest = float(np.max([one.highest for one in found]))
        lowest = float(np.min([one.lowest for one in found]))
        ours: list[Cell] = [mean.mean, limits(mean.low, mean.high), highest, lowest]
        rows.append([names[name], *ours, *PUBLISHED_S_TAU.get(name, (None, None, None))])
    if alone is not None:
        between = alone.s_tau.intervals.get("rankings")
        shown = "" if between is None else limits(between.low, between.high)
        ours = [alone.s_tau.value, shown, alone.highest, alone.lowest]
        rows.append(["stand-alone trainings", *ours, *PUBLISHED_S_TAU["alone"]])
    heads = ["rankings of", "S-Tau", "95 % over seeds", "largest", "smallest"]
    return ResultTable(
        "Agreement of epochs with one another (S-Tau)",
        [*heads, "published", "published largest", "published smallest"],
        rows,
        "Within each supernet, then the mean over supernets. Published figures are of one supernet trained for "
        "200 epochs on CIFAR-10; in the figure S-Tau over its last 10 epochs lies between .39 and .63.",
    )


def _truth_table(names: dict[str, str], windows: dict[str, _Window]) -> ResultTable:
    rows: list[list[Cell]] = []
    for name, window in windows.items():
        mean, std = window.gt_tau()
        ours: list[Cell] = [mean.mean, limits(mean.low, mean.high)]
        ours += [std.mean, limits(std.low, std.high)]
        ours += [window.best_rank(1).mean, window.best_rank(3).mean]
        rows.append([names[name], *ours, *PUBLISHED_GT_TAU.get(name, (None,) * 4)])
    heads = ["rankings of", "GT-Tau", "95 % over seeds", "deviation", "95 % over seeds"]
    published = [f"published {name}" for name in ("GT-Tau", "deviation", "T1R", "T3R")]
    return ResultTable(
        "Agreement with truth over epochs (GT-Tau)",
        [*heads, "T1R", "T3R", *published],
        rows,
        "The deviation is over the epochs of one supernet. In the published figure GT-Tau of one supernet swings "
        "between .1 and .7.",
    )


def _plots(
    epochs: list[int], seeds: list[int], accuracy: NDArray[np.float64], true: NDArray[np.float64]
) -> list[Plot]:
    lines = [
        Series(f"seed {seed}", epochs, row.tolist())
        for seed, row in zip(seeds, gt_tau(accuracy, true), strict=True)
    ]
    plots = [
        Plot(
            "gt-tau",
            "Agreement with truth while supernets are trained",
            "epoch",
            "GT-Tau",
            "lines",
            lines,
            "A line for each supernet.",
        )
    ]
    return plots if len(seeds) < 2 else [*plots, _seeds_plot(epochs, accuracy)]


def _seeds_plot(epochs: list[int], accuracy: NDArray[np.float64]) -> Plot:
    found = [s_tau(accuracy[:, i]).s_tau for i in range(len(epochs))]
    between = [one.intervals.get("rankings") for one in found]
    line = Series(
        "supernets of different seeds",
        epochs,
        [one.value for one in found],
        [float("nan") if one is None else one.low for one in between],
        [float("nan") if one is None else one.high for one in between],
    )
    return Plot(
        "s-tau",
        "Agreement of supernets with one another while they are trained",
        "epoch",
        "S-Tau between seeds",
        "lines",
        [line],
        "Lines are 95 % intervals over supernets. In the published figure S-Tau oscillates between .3 and .7.",
    )


STUDIES.register("epochs")(Epochs())
