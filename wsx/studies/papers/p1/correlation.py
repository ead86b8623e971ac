"""How well does a supernet rank, and where? P1's correlation over epochs, and its last checkpoint in detail."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import SummaryOptions, kendall_tau, spearman, spread, summarise
from wsx.analysis.summary import Estimate
from wsx.analysis.uncertainty import Spread
from wsx.report.findings import Cell, Claim, Findings, Plot, ResultTable, Series, limits
from wsx.spaces import SPACES
from wsx.spaces.choice import ArchChoice
from wsx.studies.images import ImageChoice
from wsx.studies.panel import Panel, read_panel
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.nasbench201 import P1, nasbench201_settings
from wsx.studies.papers.p1.operations import operation_bias
from wsx.studies.papers.p1.tops import Ranking, picks_table, pruning_plot, top_claims, top_table
from wsx.studies.papers.seeds import claim_over_seeds, curve
from wsx.studies.papers.steps import SCORES, ScoreCheckpoints, Scoring, TrainSupernets
from wsx.studies.papers.variants import RankedSettings
from wsx.training.run import RunConfig

Array = NDArray[np.float64]
N_RESAMPLES = 300


@dataclass(frozen=True)
class CorrelationSettings(RankedSettings):
    """Numbers of this study.

    Attributes:
        n_archs_early: Archs scored at every checkpoint, the first of those that the last one is scored on.
    """

    n_archs_early: int = 50


class Correlation(Study):
    """Supernets scored along their training, and the last checkpoint looked at from all sides."""

    paper = f"{P1}, correlation over epochs, top and bottom, pruning, bias"
    summary = "how well does a supernet rank archs, along training, at the top and at the bottom?"
    starts_from = "p1-nasbench201"

    def settings(self, scale: str) -> CorrelationSettings:
        """Return the numbers of a scale."""
        values = nasbench201_settings(scale, self.starts_from)
        recipe = values.pop("recipe")
        if scale == "tiny":
            recipe = replace(recipe, epochs=4, checkpoint_epochs=1)
            values |= {"n_archs": 40, "n_archs_early": 20}
        elif scale == "small":
            recipe = replace(recipe, epochs=50, checkpoint_epochs=5)
            values |= {"n_archs": 1_000, "n_archs_early": 300, "seeds": tuple(range(5))}
        else:
            recipe = replace(recipe, epochs=2_000)
            values |= {"n_archs": 1_000}
        return CorrelationSettings(**values, recipe=recipe)

    def steps(self, settings: CorrelationSettings, folder: Path) -> Sequence[Step]:
        """Train, score some archs at every checkpoint, and more at the last."""
        texts, _ = settings.archs()
        runs = _runs(settings)
        images = ImageChoice(n=settings.n_images or None)
        config = next(iter(runs.values()))
        n_checkpoints = -(-settings.recipe.epochs // settings.recipe.checkpoint_epochs)

        def step(name: str, checkpoints: str, n: int, archs: tuple[str, ...]) -> ScoreCheckpoints:
            scoring = Scoring(ArchChoice(texts=archs), settings.bn, images)
            return ScoreCheckpoints(name, config, tuple(runs), checkpoints, n, scoring)

        return [
            TrainSupernets("train", runs),
            step("score-epochs", "epochs", n_checkpoints, texts[: settings.n_archs_early]),
            step("score-last", "last", 1, texts),
        ]

    def findings(self, settings: CorrelationSettings, folder: Path) -> Findings:
        """Compare with truth over epochs, and at the last one in detail."""
        texts, truth = settings.archs()
        early, last = panels(settings, folder, texts)
        over = {
            name: _over_epochs(measure, early.accuracy, truth[: early.accuracy.shape[2]])
            for name, measure in {"Spearman": spearman, "Kendall": kendall_tau}.items()
        }
        sizes = {name: np.asarray(getattr(last, name), float) for name in ("flops", "params")}
        ranking = Ranking(last.accuracy[:, -1], truth, sizes)
        epochs = early.epochs[0].tolist()
        space = SPACES[settings.space]
        table, plot = operation_bias(space.decisions, last.decisions, ranking.scores, truth)
        return Findings(
            "How well does a supernet rank?",
            f"{len(settings.seeds)} supernets of {settings.recipe.epochs} epochs; {early.accuracy.shape[2]} "
            f"archs of {settings.space} scored at {len(epochs)} checkpoints, {truth.size} at the last; "
            f"{settings.data.spec}.",
            [*_epoch_claims(over["Spearman"], epochs), _beats_flops(ranking), *top_claims(ranking)],
            [
                _correlations(settings, texts, ranking),
                top_table(ranking),
                picks_table(ranking),
                table,
            ],
            [
                _epochs_plot(over, epochs),
                _scatter(ranking),
                pruning_plot(ranking),
                plot,
            ],
            {**settings.as_dict(), "published": P1},
        )


def _runs(settings: CorrelationSettings) -> dict[str, RunConfig]:
    return {f"seed-{seed}": settings.run_config(settings.recipe, seed) for seed in settings.seeds}


def panels(
    settings: CorrelationSettings, folder: Path, texts: Sequence[str]
) -> tuple[Panel, Panel]:
    """Return the scores of some archs at all checkpoints, and of all archs at the last.

    Raises:
        StoreError: Scores are missing.
    """
    name = f"epoch-{settings.recipe.epochs:04d}"
    early = read_panel(folder / SCORES, archs=texts[: settings.n_archs_early])
    last = read_panel(
        folder / SCORES, keeps=lambda key, info: info["checkpoint"] == name, archs=texts
    )
    return early, last


def _over_epochs(measure: Callable[..., float], accuracy: Array, truth: Array) -> Array:
    """Return a correlation with truth, (seed, checkpoint)."""
    return np.array([[measure(row, truth) for row in rows] for rows in accuracy])


def _epoch_claims(rho: Array, epochs: Sequence[int]) -> list[Claim]:
    first, last = rho[:, 0], rho[:, -1]
    half = np.array([np.interp((epochs[0] + epochs[-1]) / 2, epochs, row) for row in rho])
    early, late = half - first, last - half
    return [
        claim_over_seeds(
            "The ranking gets better with training.",
            f"{P1}, correlations after 1,000 and 2,000 epochs",
            spread(last - first, "gain"),
            f"Spearman {first.mean():.3f} after {epochs[0]} epochs, {last.mean():.3f} after {epochs[-1]}: gain",
        ),
        claim_over_seeds(
            "The gain saturates: the second half of training adds less than the first.",
            f"{P1}, correlations after 1,000 and 2,000 epochs",
            spread(early - late, "first less second half"),
            f"Spearman {early.mean():+.3f} in the first half, {late.mean():+.3f} in the second: difference",
        ),
    ]


def _beats_flops(ranking: Ranking) -> Claim:
    flops = spearman(ranking.sizes["flops"], ranking.truth)
    ours = np.array([spearman(row, ranking.truth) for row in ranking.scores])
    return claim_over_seeds(
        "A supernet ranks archs better than counting their operations does.",
        f"{P1}, whose tables of DARTS and ProxylessNAS operations rank at .58 and .56",
        spread(ours - flops, "gain over FLOPs"),
        f"Spearman {ours.mean():.3f}, of FLOPs {flops:.3f}: difference",
    )


def _correlations(
    settings: CorrelationSettings, texts: Sequence[str], ranking: Ranking
) -> ResultTable:
    options = SummaryOptions(top_fractions=(), top_ks=(), n_resamples=N_RESAMPLES)
    found = summarise(
        ranking.scores.mean(axis=0),
        ranking.truth,
        params=ranking.sizes["params"],
        flops=ranking.sizes["flops"],
        options=options,
    )
    seeds: list[Spread] = [
        spread([measure(row, ranking.truth) for row in ranking.scores], "correlation")
        for measure in (spearman, kendall_tau)
    ]
    rows: list[list[Cell]] = [
        [
            "one supernet",
            *(cell for s in seeds for cell in (s.mean, limits(s.low, s.high))),
            "seeds",
        ],
        ["mean accuracy of the supernets", *_pair(found.metrics), "archs"],
        *([name, *_pair(line), "archs"] for name, line in found.baselines.items()),
    ]
    ceiling = settings.load_truth().only(texts).seed_agreement()
    if ceiling is not None:
        rows.append(
            ["one training alone, against another", ceiling.spearman, "", ceiling.kendall, "", ""]
        )
    rows += [
        ["published: P1, 2,000 epochs", 0.701, "", None, "", ""],
        ["published: one-shot scores of arXiv 2006.06863", 0.677, "", 0.485, "", ""],
    ]
    return ResultTable(
        "Correlation with truth at the last checkpoint",
        ["ranked by", "Spearman", "95 %", "Kendall tau", "95 %", "limits over"],
        rows,
        "P1's figure is quoted by a third party, who does not say on which images; the other is recomputed "
        "from published scores of all archs.",
    )


def _pair(line: Any) -> list[Cell]:
    cells: list[Cell] = []
    for name in ("spearman", "kendall_tau"):
        one: Estimate = line[name]
        between = one.intervals.get("archs")
        cells += [one.value, "" if between is None else limits(between.low, between.high)]
    return cells


def _epochs_plot(over: dict[str, Array], epochs: Sequence[int]) -> Plot:
    return Plot(
        "epochs",
        "Correlation with truth over epochs",
        "epochs",
        "correlation with truth",
        "lines",
        [curve(name, epochs, values) for name, values in over.items()],
        "Means over seeds with 95 % limits.",
    )


def _scatter(ranking: Ranking) -> Plot:
    found = [spread(column, "accuracy") for column in ranking.scores.T]
    marks = Series("archs", [one.mean for one in found], ranking.truth.tolist())
    return Plot(
        "scatter",
        "Accuracy with shared weights and alone",
        "accuracy with shared weights, mean over seeds",
        "accuracy alone",
        "marks",
        [marks],
    )


STUDIES.register("correlation")(Correlation())
