"""What does the last step do to the ranking? P3's figure 5: all archs scored after each of the last steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis.interference import (
    Interference,
    PairRelation,
    interference_effects,
    relate_pairs,
    shared_decisions,
    without_recency,
)
from wsx.analysis.stability import gt_tau, s_tau
from wsx.analysis.trajectories import Periodicity, periodicity, recency
from wsx.analysis.uncertainty import Resampling, spread
from wsx.errors import OptionError
from wsx.report.findings import Cell, Claim, Findings, Plot, ResultTable, Series, judged, limits
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.p3.cell64 import SOURCE, Cell64Settings, cell64_settings
from wsx.studies.papers.p3.gradients import CompareGradients, read_agreements
from wsx.studies.papers.seeds import claim_over_seeds, points
from wsx.studies.papers.steps import ScoreCheckpoints, TrainSupernets, panel_of
from wsx.training.run import RunConfig
from wsx.training.sampling import ArchSampler

FIGURE = f"{SOURCE}, figure 5"
SWING = 0.1
"""GT-Tau that moves by less within the last rounds counts as still: ways to train differ by about as much."""
# GT-Tau fluctuates between these within the last 128 steps: figure 5.
PUBLISHED_LOWEST, PUBLISHED_HIGHEST = 0.0, 0.6


@dataclass(frozen=True)
class InterferenceSettings(Cell64Settings):
    """Numbers of the study of interference.

    Attributes:
        n_rounds: Rounds over all archs, the last of each training, after each step of which all are scored.

    Raises:
        OptionError: There are fewer than two, or a step of the recipe trains several archs.
    """

    n_rounds: int = 2

    def __post_init__(self) -> None:
        if self.n_rounds < 2 or not self.recipe.has_one_arch_per_step:
            raise OptionError(
                f"n_rounds is {self.n_rounds} and the sampler {self.recipe.sampler}; at least 2 rounds and a "
                "sampler of one arch a step are needed"
            )

    @property
    def n_steps(self) -> int:
        """How many steps all archs are scored after."""
        return self.n_rounds * len(self.texts)

    def runs(self) -> dict[str, RunConfig]:
        """Return the trainings by name, one for each seed."""
        epochs = self.recipe.epochs
        return self.supernets(checkpoint_epochs=epochs, checkpoint_last_steps=self.n_steps)


@dataclass(frozen=True, eq=False)
class _Steps:
    """What was measured over the last steps, seed by seed.

    Attributes:
        seeds: int64 (seed,).
        steps: int64 (step,).
        accuracy: float64 (seed, step, arch).
        gt_tau: float64 (seed, step).
        periods: Of each seed.
        advantage: float64 (seed, lag), ranks gained by having been trained so many steps ago.
        effects: Of each seed.
        beyond_recency: Mean over seeds of the effects without what recency does, and of what archs share without
            what goes with recency, each (trained arch, evaluated arch).
    """

    seeds: list[int]
    steps: list[int]
    accuracy: NDArray[np.float64]
    gt_tau: NDArray[np.float64]
    periods: list[Periodicity]
    advantage: NDArray[np.float64]
    effects: list[Interference]
    beyond_recency: tuple[NDArray[np.float64], NDArray[np.float64]]

    @property
    def effect(self) -> NDArray[np.float64]:
        """Mean change of accuracy over seeds, (trained arch, evaluated arch)."""
        mean: NDArray[np.float64] = np.mean([one.effect for one in self.effects], axis=0)
        return mean

    @property
    def swing(self) -> NDArray[np.float64]:
        """Largest GT-Tau less the smallest, (seed,)."""
        range_: NDArray[np.float64] = np.ptp(self.gt_tau, axis=1)
        return range_


class InterferenceStudy(Study):
    """Supernets with all archs scored after each of the last steps."""

    paper = FIGURE
    summary = "what does training one arch do to the others, step by step?"

    def settings(self, scale: str) -> InterferenceSettings:
        """Return the numbers of a scale."""
        values = cell64_settings(scale)
        if scale == "tiny":
            values |= {"recipe": replace(values["recipe"], epochs=2), "seeds": (0, 1)}
        if scale == "small":
            # Every arch is scored 128 times for each seed.
            values |= {"bn": "calibrated:1x128"}
        return InterferenceSettings(**values)

    def steps(self, settings: InterferenceSettings, folder: Path) -> Sequence[Step]:
        """Train supernets, score them after each of the last steps, compare gradients, train archs alone."""
        runs = settings.runs()
        config, n_steps = next(iter(runs.values())), settings.n_steps
        return [
            TrainSupernets("train", runs),
            ScoreCheckpoints(
                "score", config, tuple(runs), f"last:{n_steps}", n_steps, settings.scoring
            ),
            CompareGradients("gradients", runs),
            *settings.truth_steps(),
        ]

    def findings(self, settings: InterferenceSettings, folder: Path) -> Findings:
        """Follow accuracies and ranks from step to step."""
        truth = settings.load_truth(folder)
        runs = settings.runs()
        panel = panel_of(folder, tuple(runs), truth.texts)
        by_seed = {config.seed: config for config in runs.values()}
        trained = [
            trained_archs(by_seed[seed], range(1, steps[-1] + 1), truth.texts)
            for seed, steps in zip(panel.seeds.tolist(), panel.steps.tolist(), strict=True)
        ]
        found = _measure(
            panel.seeds.tolist(),
            panel.steps[0].tolist(),
            panel.accuracy,
            gt_tau(panel.accuracy, truth.accuracy),
            trained,
            shared_decisions(panel.decisions),
        )
        sharing = relate_pairs(*found.beyond_recency)
        gradients = read_agreements(folder, tuple(runs), truth.texts)
        return Findings(
            "What does training one arch do to the others?",
            f"{len(runs)} supernets, {len(truth.texts)} archs of {settings.space}, all scored after each of the "
            f"last {len(found.steps)} steps, BatchNorm statistics {settings.bn}, {settings.data.spec}.",
            [*_claims(found), _sharing_claim(sharing), gradients.claim()],
            [_summary_table(found, sharing), _period_table(found), gradients.table()],
            [*_plots(found, truth.texts), gradients.plot()],
            {**settings.as_dict(), "published": SOURCE},
        )


def trained_archs(
    config: RunConfig, steps: Sequence[int], texts: Sequence[str]
) -> NDArray[np.int64]:
    """Return the arch that each step trained, as a place among texts, shape (step,).

    Args:
        config: A training with one arch a step.
        steps: Steps, counted from 1 as checkpoints do.
        texts: Archs.
    """
    space = config.archs
    sampler = ArchSampler(space, config.recipe, seed=config.seed)
    places = {text: place for place, text in enumerate(texts)}
    names = [space.format(sampler[step - 1][0]) for step in steps]
    return np.array([places[name] for name in names], dtype=np.int64)


def _measure(
    seeds: list[int],
    steps: list[int],
    accuracy: NDArray[np.float64],
    tau: NDArray[np.float64],
    trained: list[NDArray[np.int64]],
    shared: NDArray[np.int64],
) -> _Steps:
    n_archs = accuracy.shape[2]
    gains = []
    last = [order[-len(steps) :] for order in trained]
    for run, order in zip(accuracy, last, strict=True):
        by_lag = recency(run, order, lags=range(n_archs))
        gains.append([by_lag[lag].mean for lag in range(n_archs)])
    effects = [
        interference_effects(run[:-1], run[1:], order[1:])
        for run, order in zip(accuracy, last, strict=True)
    ]
    beyond = [
        _beyond_recency(run, order, shared) for run, order in zip(accuracy, trained, strict=True)
    ]
    beyond_recency = (
        np.mean([one[0] for one in beyond], axis=0),
        np.mean([one[1] for one in beyond], axis=0),
    )
    periods = [periodicity(run, n_archs) for run in accuracy]
    return _Steps(seeds, steps, accuracy, tau, periods, np.array(gains), effects, beyond_recency)


def _beyond_recency(
    accuracy: NDArray[np.float64], trained: NDArray[np.int64], shared: NDArray[np.int64]
) -> list[NDArray[np.float64]]:
    """Return effects and what is shared, (trained arch, evaluated arch), without their means at each lag.

    Args:
        accuracy: After each of the last steps of a run, shape (step, arch).
        trained: By all steps of the run, shape (all steps,).
        shared: What two archs share, shape (arch, arch).
    """
    change = np.diff(accuracy, axis=0)
    earlier, order = trained[: -len(change)], trained[-len(change) :]
    found = []
    for values in (change, shared[order]):
        left = without_recency(values, order, earlier=earlier)
        found.append(interference_effects(np.zeros_like(left), left, order).effect)
    return found


def _claims(found: _Steps) -> list[Claim]:
    beside = [one.share - _mean(list(one.neighbours.values())) for one in found.periods]
    return [
        claim_over_seeds(
            "Accuracies repeat with the period of the round over all archs.",
            FIGURE,
            spread(beside, "share of the variance"),
            f"share of the variance over steps that repeats every {found.periods[0].period} steps, less the mean "
            "share at the periods beside it",
        ),
        claim_over_seeds(
            "The arch that was trained last ranks higher than it does otherwise.",
            FIGURE,
            spread(found.advantage[:, 0], "ranks"),
            f"ranks gained, of {found.accuracy.shape[2]}",
        ),
        claim_over_seeds(
            f"GT-Tau swings by more than {SWING:g} within the last rounds.",
            FIGURE,
            spread(found.swing - SWING, "swing"),
            f"largest less smallest GT-Tau over {len(found.steps)} steps {found.swing.mean():.3f}; beyond "
            f"{SWING:g} by",
        ),
    ]


def _sharing_claim(sharing: PairRelation) -> Claim:
    text = "A step on one arch does more good, or less harm, to archs that share more operations with it."
    where = f"{SOURCE}, case study of groups"
    between = sharing.rho.intervals.get("archs")
    if between is None:
        return Claim(text, where, "open", f"no correlation: {sharing.rho.reason}")
    evidence = (
        f"rho {sharing.rho.value:+.3f} {limits(between.low, between.high)} (95 % over archs) between the effect "
        f"on accuracy and the operations shared, both less their means over archs trained as many steps ago; "
        f"{sharing.n_pairs} pairs, p {sharing.p_value:.3f} by permutation"
    )
    return judged(text, where, between.low, between.high, evidence)


def _summary_table(found: _Steps, sharing: PairRelation) -> ResultTable:
    # Steps of one run are not independent: no interval over them.
    alike = [s_tau(run, resampling=Resampling(n_resamples=0)) for run in found.accuracy]
    numbers: dict[str, tuple[Sequence[float] | NDArray[np.float64], float | None]] = {
        "GT-Tau, mean over steps": (found.gt_tau.mean(axis=1), None),
        "GT-Tau, largest": (found.gt_tau.max(axis=1), PUBLISHED_HIGHEST),
        "GT-Tau, smallest": (found.gt_tau.min(axis=1), PUBLISHED_LOWEST),
        "GT-Tau, deviation over steps": (found.gt_tau.std(axis=1), None),
        "S-Tau between steps": ([one.s_tau.value for one in alike], None),
        "ranks gained right after training": (found.advantage[:, 0], None),
        "accuracy gained by the arch trained, in points": (
            [100 * one.itself.mean for one in found.effects],
            None,
        ),
        "accuracy gained by the others, in points": (
            [100 * one.others.mean for one in found.effects],
            None,
        ),
    }
    rows: list[list[Cell]] = []
    for name, (values, published) in numbers.items():
        one = spread(values, name)
        rows.append([name, one.mean, limits(one.low, one.high), published])
    slope = sharing.slope_interval
    shown = "" if slope is None else limits(100 * slope.low, 100 * slope.high)
    per_shared = "points gained per operation shared (interval over archs)"
    rows.append([per_shared, 100 * sharing.slope, shown, None])
    return ResultTable(
        "What happens over the last steps",
        ["", "ours", "95 % over seeds", "published"],
        rows,
        "Published figures are read from a figure of one supernet, whose BatchNorm statistics are running "
        "averages; the others are not known.",
    )


def _period_table(found: _Steps) -> ResultTable:
    rows: list[list[Cell]] = []
    for seed, one in zip(found.seeds, found.periods, strict=True):
        chance = "" if one.by_chance is None else limits(one.by_chance.low, one.by_chance.high)
        beside = _mean(list(one.neighbours.values()))
        rows.append([f"seed {seed}", one.share, beside, chance, one.p_value])
    return ResultTable(
        "How much repeats from round to round",
        ["supernet", "share of variance", "at periods beside", "by chance", "p"],
        rows,
        "By chance: rounds turned by random numbers of steps.",
    )


def _plots(found: _Steps, texts: Sequence[str]) -> list[Plot]:
    lines = [
        Series(f"seed {seed}", found.steps, row.tolist())
        for seed, row in zip(found.seeds, found.gt_tau, strict=True)
    ]
    lags = [spread(column, "ranks") for column in found.advantage.T]
    return [
        Plot(
            "gt-tau",
            "Agreement with truth after each of the last steps",
            "step",
            "GT-Tau",
            "lines",
            lines,
            "A line for each supernet.",
        ),
        Plot(
            "recency",
            "Who was trained last",
            "steps since the arch was trained",
            "ranks gained",
            "marks",
            [points("all archs", list(range(len(lags))), lags)],
            "Above 0 an arch ranks better than it does on average; limits are over seeds.",
        ),
        _period_plot(found),
        _effect_plot(found, texts),
    ]


def _effect_plot(found: _Steps, texts: Sequence[str]) -> Plot:
    rows = [
        Series(text, texts, (100 * row).tolist())
        for text, row in zip(texts, found.effect, strict=True)
    ]
    return Plot(
        "effects",
        "Effect of a step on one arch on the accuracy of all",
        "arch scored",
        "arch trained",
        "heatmap",
        rows,
        "Change in percentage points, mean over steps and seeds.",
    )


def _period_plot(found: _Steps) -> Plot:
    shares = [{one.period: one.share, **one.neighbours} for one in found.periods]
    periods = sorted(set.intersection(*map(set, shares)))
    bars = [spread([of[period] for of in shares], "share") for period in periods]
    return Plot(
        "periods",
        "Share of the variance over steps that repeats",
        "period in steps",
        "share of the variance",
        "bars",
        [points("accuracies", [str(period) for period in periods], bars)],
        f"A round is {found.periods[0].period} steps; limits are over seeds.",
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


STUDIES.register("interference")(InterferenceStudy())
