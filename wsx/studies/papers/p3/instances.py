"""Do independent supernets rank alike? P3's tables 1 and 2 and figure 3, on its cell of 64 archs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import bottom_overlap, top_overlap
from wsx.analysis.baselines import each_against_others
from wsx.analysis.stability import Stability, random_s_tau, s_tau, truth_stability
from wsx.analysis.trajectories import rank_distributions
from wsx.analysis.uncertainty import Spread, spread
from wsx.report.findings import Cell, Claim, Findings, Plot, ResultTable, Series, judged, limits
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.p3.cell64 import SOURCE, Cell64Settings, cell64_settings, seeds_of
from wsx.studies.papers.seeds import claim_over_seeds
from wsx.studies.papers.steps import ScoreCheckpoints, TrainSupernets, panel_of
from wsx.training.run import RunConfig

KINDS = {
    "seeds": "seeds (initialisation and order of images)",
    "orders": "order of archs, one for each supernet",
    "reshuffled": "order of archs, reshuffled every pass",
}
# S-Tau, its largest and smallest, and GT-Tau mean and deviation (divisor n), T1R, T3R: tables 1 and 2.
PUBLISHED = {
    "seeds": (0.5415, 0.7977, 0.2471, 0.4567, 0.1478, 18.5, 17.6),
    "orders": (0.3930, 0.7021, -0.0129, 0.4625, 0.0993, 16.9, 11.5),
    "reshuffled": (0.4403, 0.7163, 0.0764, 0.5108, 0.0665, 15.6, 11.2),
    "alone": (0.7120, 0.8191, 0.6650, 0.7985, 0.0257, 4.8, 1.6),
    "random": (0.0382, 0.2181, -0.1552, None, None, None, None),
}
QUARTER = 0.25
ONE_START = (
    "Supernets that differ in the order of archs share one initialisation and one order of images, and their "
    "intervals hold for these alone."
)


class Instances(Study):
    """Supernets that differ in seeds or in the order of archs only, beside stand-alone trainings."""

    paper = f"{SOURCE}, tables 1 and 2, figure 3"
    summary = "do supernets that differ by chance alone rank archs alike?"

    def settings(self, scale: str) -> Cell64Settings:
        """Return the numbers of a scale."""
        return Cell64Settings(**cell64_settings(scale))

    def steps(self, settings: Cell64Settings, folder: Path) -> Sequence[Step]:
        """Train supernets, score their last checkpoints, train archs alone."""
        runs = {
            f"{kind}-{seed}": _config(settings, kind, seed)
            for kind in KINDS
            for seed in settings.seeds
        }
        any_config = next(iter(runs.values()))
        return [
            TrainSupernets("train", runs),
            ScoreCheckpoints("score", any_config, tuple(runs), "last", 1, settings.scoring),
            *settings.truth_steps(),
        ]

    def findings(self, settings: Cell64Settings, folder: Path) -> Findings:
        """Compare rankings with one another and with truth."""
        truth = settings.load_truth(folder)
        scores = _scores(settings, folder, truth.texts)
        true, alone = truth.accuracy, seeds_of(truth)
        stable = {kind: s_tau(found) for kind, found in scores.items()}
        stable["alone"] = s_tau(alone)
        stable["random"] = random_s_tau(len(settings.seeds), len(true))
        return Findings(
            "Do independent supernets rank alike?",
            f"{len(settings.seeds)} supernets of each kind, {len(true)} archs of {settings.space}, "
            f"{alone.shape[0]} stand-alone trainings of each arch, {settings.data.spec}.",
            _claims(stable, scores, true),
            [
                _stability_table(stable),
                _truth_table({**scores, "alone": alone}, true),
                _ends_table({kind: _ends(found, true) for kind, found in scores.items()}),
            ],
            [_rank_plot(scores["seeds"], truth.texts, true)],
            {**settings.as_dict(), "published": SOURCE},
        )


def _config(settings: Cell64Settings, kind: str, seed: int) -> RunConfig:
    """Return one supernet's training."""
    if kind == "seeds":
        return settings.run_config(settings.recipe, seed)
    order = "shuffled" if kind == "orders" else "reshuffled"
    recipe = replace(settings.recipe, order=order, order_seed=seed)
    return settings.run_config(recipe, settings.seeds[0])


def _scores(
    settings: Cell64Settings, folder: Path, texts: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Return accuracies (run, arch) by kind, archs in the order of the truth."""
    found = {}
    for kind in KINDS:
        names = frozenset(f"{kind}-{seed}" for seed in settings.seeds)
        found[kind] = panel_of(folder, names, texts).accuracy[:, -1]
    return found


def _stability_table(stable: dict[str, Stability]) -> ResultTable:
    rows: list[list[Cell]] = []
    for kind, found in stable.items():
        interval = found.s_tau.intervals.get("rankings")
        between = "" if interval is None else limits(interval.low, interval.high)
        ours: list[Cell] = [found.s_tau.value, between, found.highest, found.lowest]
        rows.append([_label(kind), *ours, *PUBLISHED[kind][:3]])
    heads = ["what differs", "S-Tau", "95 % over rankings", "largest", "smallest"]
    return ResultTable(
        "Agreement of rankings (S-Tau)",
        [*heads, "published", "published largest", "published smallest"],
        rows,
        f"Published figures are of 10 supernets trained for 200 epochs on CIFAR-10. {ONE_START}",
    )


def _truth_table(scores: dict[str, NDArray[np.float64]], true: NDArray[np.float64]) -> ResultTable:
    rows = []
    for kind, table in scores.items():
        # One training against the mean of the others: a mean that has it inside would agree too well.
        found = _leave_one_out(table) if kind == "alone" else truth_stability(table, true)
        tau = found["gt_tau"]
        ours: list[Any] = [tau.mean, limits(tau.low, tau.high), _deviation(tau)]
        ours += [found[f"best_rank@{n}"].mean for n in (1, 3)]
        rows.append([_label(kind), *ours, *PUBLISHED[kind][3:]])
    heads = ["what differs", "GT-Tau", "95 % over rankings", "deviation", "T1R", "T3R"]
    published = [f"published {name}" for name in ("GT-Tau", "deviation", "T1R", "T3R")]
    return ResultTable(
        "Agreement with truth (GT-Tau)",
        [*heads, *published],
        rows,
        f"Deviations have the divisor n, as published ones. {ONE_START}",
    )


def _deviation(found: Spread) -> float:
    """Return the standard deviation with divisor n; nan where no run has a value."""
    known = found.values[np.isfinite(found.values)]
    return float(known.std()) if known.size else float("nan")


@dataclass(frozen=True)
class _Ends:
    """How much of the true bottom and top quarter supernets find.

    Attributes:
        k: Archs in a quarter.
        bottom: Share of the true bottom found, over supernets.
        top: Share of the true top found.
        gap: The former less the latter, supernet by supernet.
    """

    k: int
    bottom: Spread
    top: Spread
    gap: Spread


def _ends(scores: NDArray[np.float64], true: NDArray[np.float64]) -> _Ends:
    k = max(1, round(QUARTER * len(true)))
    bottom = spread([bottom_overlap(row, true, k) for row in scores], "bottom found")
    top = spread([top_overlap(row, true, k) for row in scores], "top found")
    return _Ends(k, bottom, top, spread(bottom.values - top.values, "bottom less top"))


def _ends_table(ends: dict[str, _Ends]) -> ResultTable:
    rows: list[list[Cell]] = []
    for kind, found in ends.items():
        between = limits(found.gap.low, found.gap.high)
        rows.append([_label(kind), found.bottom.mean, found.top.mean, found.gap.mean, between])
    return ResultTable(
        "Both ends of the ranking",
        ["what differs", "bottom quarter found", "top quarter found", "difference", "95 %"],
        rows,
        ONE_START,
    )


def _leave_one_out(alone: NDArray[np.float64]) -> Any:
    rows = [truth_stability(one[None], others) for one, others, _ in each_against_others(alone)]
    return {
        name: spread([row[name].values[0] for row in rows], rows[0][name].label) for name in rows[0]
    }


def _claims(
    stable: dict[str, Stability], scores: dict[str, NDArray[np.float64]], true: NDArray[np.float64]
) -> list[Claim]:
    return [
        _less_stable(stable),
        _better_than_chance(scores["seeds"], true),
        _bottom_over_top(_ends(scores["seeds"], true)),
    ]


def _less_stable(stable: dict[str, Stability]) -> Claim:
    text = (
        "Supernets that differ in seeds agree less with one another than stand-alone trainings do."
    )
    ours, alone = stable["seeds"].s_tau, stable["alone"].s_tau
    between = ours.intervals.get("rankings"), alone.intervals.get("rankings")
    if between[0] is None or between[1] is None:
        return Claim(text, f"{SOURCE}, table 1", "open", "too few rankings for an interval")
    low, high = between[1].low - between[0].high, between[1].high - between[0].low
    evidence = (
        f"S-Tau {ours.value:.3f} {limits(between[0].low, between[0].high)} of supernets, "
        f"{alone.value:.3f} {limits(between[1].low, between[1].high)} alone"
    )
    return judged(text, f"{SOURCE}, table 1", low, high, evidence)


def _better_than_chance(scores: NDArray[np.float64], true: NDArray[np.float64]) -> Claim:
    tau = truth_stability(scores, true)["gt_tau"]
    return claim_over_seeds(
        "A supernet's ranking agrees with truth better than chance.",
        f"{SOURCE}, table 2",
        tau,
        f"deviation {_deviation(tau):.3f} (divisor n), GT-Tau",
    )


def _bottom_over_top(ends: _Ends) -> Claim:
    return claim_over_seeds(
        "Bad archs are found reliably, good ones are not: prune with shared weights, do not select.",
        f"{SOURCE}, figure 3",
        ends.gap,
        f"supernets that differ in seeds find {ends.bottom.mean:.3f} of the true bottom {ends.k} and "
        f"{ends.top.mean:.3f} of the top {ends.k}: difference",
    )


def _rank_plot(
    scores: NDArray[np.float64], texts: Sequence[str], true: NDArray[np.float64]
) -> Plot:
    found = rank_distributions(scores, probabilities=(0, 1))
    order = np.argsort(-true, kind="stable")
    ranks = Series(
        "rank under the supernets",
        [texts[i] for i in order],
        found.mean[order].tolist(),
        found.quantiles[0, order].tolist(),
        found.quantiles[1, order].tolist(),
    )
    return Plot(
        "ranks",
        "Rank of each arch over supernets",
        "arch, best alone first",
        "rank under the supernets (1 is best)",
        "marks",
        [ranks],
        "Means; lines go from the best to the worst rank over supernets that differ in seeds.",
    )


def _label(kind: str) -> str:
    others = {"alone": "stand-alone trainings", "random": "random rankings"}
    return KINDS.get(kind) or others[kind]


STUDIES.register("instances")(Instances())
