"""Which measure of a supernet foretells what a search ends with? P2's figure over many trainings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import Effect, MetricCorrelations, Resampling, metric_correlations, spearman
from wsx.analysis.resample import interval
from wsx.report.findings import Cell, Claim, Findings, Plot, ResultTable, Series, judged, limits
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.nasbench201 import P2, nasbench201_settings
from wsx.studies.papers.variants import (
    COLUMNS,
    RankedSettings,
    Variant,
    accuracy_of,
    columns_of,
    variant_steps,
)

Array = NDArray[np.float64]
METRICS = ("accuracy", "kendall_tau", "sparse_tau")
QUOTED = f"{P2}, as a third party quotes it"
PUBLISHED = {"accuracy": 0.52}
CLAIMS = (
    "Sparse tau foretells what a search ends with better than supernet accuracy does.",
    "On this space supernet accuracy says something about what a search ends with.",
)
N_RESAMPLES = 1000


@dataclass(frozen=True)
class MetricsSettings(RankedSettings):
    """Numbers of the study: trainings with all combinations of rates, epochs, channels and seeds.

    Attributes:
        rates: Learning rates.
        epochs: Lengths of training.
        channels: Channels of the first stage.
        min_accuracy: Mean accuracy below which a supernet did not train, and does not count.
    """

    rates: tuple[float, ...] = (0.01, 0.025, 0.1)
    epochs: tuple[int, ...] = (100, 400)
    channels: tuple[int, ...] = (8, 16)
    min_accuracy: float = 0.15


class Metrics(Study):
    """Many trainings of all sorts, and what a search would end with after each."""

    paper = f"{P2}, its study of metrics"
    summary = "which measure of a supernet foretells what a search ends with?"
    starts_from = "p2-nasbench201"

    def settings(self, scale: str) -> MetricsSettings:
        """Return the numbers of a scale; the paper takes all of its trainings, which are not known to us."""
        values = nasbench201_settings(scale, self.starts_from)
        if scale == "tiny":
            # In seconds nothing trains, so all count.
            return MetricsSettings(
                **values, rates=(0.02, 0.1), epochs=(1, 4), channels=(4,), min_accuracy=0.0
            )
        if scale == "small":
            values["seeds"] = (0, 1)
            return MetricsSettings(
                **values, rates=(0.01, 0.05, 0.2), epochs=(5, 12, 25), channels=(4, 8)
            )
        return MetricsSettings(**values)

    def steps(self, settings: MetricsSettings, folder: Path) -> Sequence[Step]:
        """Train with all combinations, and score the same archs after each."""
        texts, _ = settings.archs()
        return variant_steps(_variants(settings), settings, texts)

    def findings(self, settings: MetricsSettings, folder: Path) -> Findings:
        """Correlate each measure with what a search ends with, over trainings."""
        texts, truth = settings.archs()
        variants = _variants(settings)
        columns = _columns(
            [accuracy_of(one, settings, folder, texts)[:, -1] for one in variants],
            truth,
            settings.top_k,
        )
        found = metric_correlations(
            {name: columns[name].ravel() for name in METRICS},
            columns["final"].ravel(),
            columns["accuracy"].ravel(),
            min_accuracy=settings.min_accuracy,
            groups=np.repeat(np.arange(len(variants)), len(settings.seeds)),
            resampling=Resampling(n_resamples=N_RESAMPLES),
        )
        return Findings(
            "Which measure of a supernet foretells what a search ends with?",
            f"{found.n_trainings} trainings with {len(variants)} combinations of learning rate, epochs and "
            f"channels, {len(texts)} archs of {settings.space}, {settings.data.spec}; {found.n_untrained} "
            "more did not train.",
            _claims(columns, found, settings),
            [_correlations(found), _trainings(columns, variants, settings)],
            [_scatter(name, columns, settings) for name in METRICS],
            {**settings.as_dict(), "published": P2},
        )


def _variants(settings: MetricsSettings) -> list[Variant]:
    found = []
    for (number, rate), epochs, channels in product(
        enumerate(settings.rates), settings.epochs, settings.channels
    ):
        recipe = replace(
            settings.recipe,
            lr=rate,
            epochs=epochs,
            checkpoint_epochs=epochs,
            supernet={**settings.recipe.supernet, "channels": channels},
        )
        found.append(
            Variant(
                f"rate-{number}-epochs-{epochs}-channels-{channels}",
                f"rate {rate:g}, {epochs} epochs, {channels} channels",
                settings.run_config(recipe, settings.seeds[0]),
                settings.bn,
            )
        )
    return found


def _columns(accuracies: Sequence[Array], truth: Array, top_k: int) -> dict[str, Array]:
    """Return the numbers of all trainings by name, each of shape (combination, seed)."""
    found = [columns_of(accuracy, truth, top_k) for accuracy in accuracies]
    return {name: np.array([one[name].values for one in found]) for name in COLUMNS}


def _claims(
    columns: Mapping[str, Array], found: MetricCorrelations, settings: MetricsSettings
) -> list[Claim]:
    gap = _gap(columns, settings.min_accuracy)
    rho = {name: found.correlations[name]["spearman"] for name in METRICS}
    alone = rho["accuracy"].intervals.get("groups")
    low, high = (math.nan, math.nan) if alone is None else (alone.low, alone.high)
    if math.isnan(gap.value):
        # What has no value has no digits to show either.
        return [Claim(text, QUOTED, "open", "too few trainings trained") for text in CLAIMS]
    return [
        judged(
            CLAIMS[0],
            QUOTED,
            gap.low,
            gap.high,
            f"Spearman {rho['sparse_tau'].value:.3f} of sparse tau, {rho['accuracy'].value:.3f} of supernet "
            f"accuracy: difference {gap.value:+.3f} {limits(gap.low, gap.high)} (95 % over combinations, "
            "drawn again with their seeds)",
        ),
        judged(
            CLAIMS[1],
            QUOTED,
            low,
            high,
            f"Spearman {rho['accuracy'].value:.3f} {limits(low, high)} (95 % over combinations, drawn again with "
            f"their seeds) over {found.n_trainings} trainings; published {PUBLISHED['accuracy']}",
        ),
    ]


def _gap(columns: Mapping[str, Array], min_accuracy: float) -> Effect:
    """Return by how much sparse tau correlates more than accuracy, with limits over combinations.

    Seeds of a combination are alike, so they are drawn together.
    """
    three = np.stack([columns[name] for name in ("sparse_tau", "accuracy", "final")])

    def value(picked: NDArray[np.integer]) -> float:
        tau, accuracy, final = three[:, picked].reshape(3, -1)
        counts = (accuracy >= min_accuracy) & np.isfinite(tau)
        if counts.sum() < 2:
            return float("nan")
        return spearman(tau[counts], final[counts]) - spearman(accuracy[counts], final[counts])

    n, rng = three.shape[1], np.random.default_rng(0)
    samples = [value(rng.integers(n, size=(n,))) for _ in range(N_RESAMPLES)]
    ours = value(np.arange(n))
    between = interval(samples, level=0.95, value=ours)
    return Effect(ours, between.low, between.high)


def _correlations(found: MetricCorrelations) -> ResultTable:
    rows: list[list[Cell]] = []
    kinds = ("spearman", "kendall_tau", "pearson")
    for name, by_kind in found.correlations.items():
        row: list[Cell] = [COLUMNS[name]]
        for kind in kinds:
            between = by_kind[kind].intervals.get("groups")
            row += [
                by_kind[kind].value,
                "" if between is None else limits(between.low, between.high),
            ]
        rows.append([*row, PUBLISHED.get(name)])
    heads = [
        head
        for kind in ("Spearman", "Kendall tau", "Pearson")
        for head in (kind, "95 % over combinations")
    ]
    return ResultTable(
        "What goes with the truth of the top K",
        ["measure", *heads, "published"],
        rows,
        "The published figure is quoted by a third party, who does not say which correlation it is; those of "
        "the other measures are not known to us. Intervals draw combinations again, with all of their seeds. "
        "Measures and ends come from the same archs: the "
        "correlations with truth are closer to the ends by that alone.",
    )


def _trainings(
    columns: Mapping[str, Array], variants: Sequence[Variant], settings: MetricsSettings
) -> ResultTable:
    rows: list[list[Cell]] = [
        [one.label, seed, *(float(columns[name][i, j]) for name in (*METRICS, "final"))]
        for i, one in enumerate(variants)
        for j, seed in enumerate(settings.seeds)
    ]
    heads = [COLUMNS[name] for name in (*METRICS, "final")]
    return ResultTable("All trainings", ["training", "seed", *heads], rows)


def _scatter(name: str, columns: Mapping[str, Array], settings: MetricsSettings) -> Plot:
    is_trained = columns["accuracy"] >= settings.min_accuracy
    groups = np.broadcast_to(
        np.repeat(np.tile(settings.epochs, len(settings.rates)), len(settings.channels))[:, None],
        is_trained.shape,
    )
    series = [
        Series(
            f"{epochs} epochs",
            columns[name][is_trained & (groups == epochs)].tolist(),
            columns["final"][is_trained & (groups == epochs)].tolist(),
        )
        for epochs in settings.epochs
    ]
    title = COLUMNS[name][0].upper() + COLUMNS[name][1:]
    return Plot(
        name.replace("_", "-"),
        f"{title} and what a search ends with",
        COLUMNS[name],
        COLUMNS["final"],
        "marks",
        series,
        "One mark for each training.",
    )


STUDIES.register("metrics")(Metrics())
