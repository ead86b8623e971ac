"""How much does the learning rate decide? P2's curves of loss, accuracy and sparse tau, rate by rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import between_over_within
from wsx.report.findings import Cell, Claim, Findings, ResultTable, judged, limits
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.nasbench201 import P2, nasbench201_settings
from wsx.studies.papers.p2.curves import Curves, curve_plots, curves_of, n_kept
from wsx.studies.papers.variants import (
    RankedSettings,
    Variant,
    columns_heads,
    columns_of,
    columns_table_row,
    variant_steps,
)

Array = NDArray[np.float64]
SHOWN = ("accuracy", "kendall_tau", "sparse_tau", "surpass_random", "final")
QUOTED = f"{P2}, as a third party quotes it"
PUBLISHED = 0.025


@dataclass(frozen=True)
class LearningRateSettings(RankedSettings):
    """Numbers of the study.

    Attributes:
        rates: Learning rates at the start of the cosine.
    """

    rates: tuple[float, ...] = (0.005, 0.01, 0.025, 0.05, 0.1)


class LearningRate(Study):
    """The same training with several learning rates, several seeds each."""

    paper = f"{P2}, its study of learning rates"
    summary = "does the learning rate matter more than the seed?"
    starts_from = "p2-nasbench201"

    def settings(self, scale: str) -> LearningRateSettings:
        """Return the numbers of a scale; which rates the paper tried is not known to us."""
        values = nasbench201_settings(scale, self.starts_from)
        if scale == "paper":
            return LearningRateSettings(**values)
        every, rates = (
            (1, (0.02, 0.1, 0.5)) if scale == "tiny" else (4, (0.01, 0.03, 0.1, 0.3, 0.6))
        )
        values["recipe"] = replace(values["recipe"], checkpoint_epochs=every)
        n_archs = 12 if scale == "tiny" else 100
        return LearningRateSettings(**{**values, "n_archs": n_archs}, rates=rates)

    def steps(self, settings: LearningRateSettings, folder: Path) -> Sequence[Step]:
        """Train with every rate, and score the same archs over epochs."""
        texts, _ = settings.archs()
        return variant_steps(list(_variants(settings).values()), settings, texts)

    def findings(self, settings: LearningRateSettings, folder: Path) -> Findings:
        """Compare rates with one another, and with seeds."""
        texts, truth = settings.archs()
        found = {
            rate: curves_of(variant, settings, folder, texts)
            for rate, variant in _variants(settings).items()
        }
        return Findings(
            "Does the learning rate matter more than the seed?",
            f"{len(found)} learning rates, {len(settings.seeds)} seeds each, {len(texts)} archs of "
            f"{settings.space}, {settings.data.spec}.",
            _claims(found, truth, settings),
            [_table(found, truth, settings)],
            curve_plots({f"rate {rate:g}": one for rate, one in found.items()}, truth),
            {**settings.as_dict(), "published": P2},
        )


def _variants(settings: LearningRateSettings) -> dict[float, Variant]:
    return {
        rate: Variant(
            f"rate-{number}",
            f"{rate:g}",
            settings.run_config(replace(settings.recipe, lr=rate), settings.seeds[0]),
            settings.bn,
            checkpoints="epochs",
            n_checkpoints=n_kept(settings.recipe),
        )
        for number, rate in enumerate(settings.rates)
    }


def _claims(
    found: Mapping[float, Curves], truth: Array, settings: LearningRateSettings
) -> list[Claim]:
    ends: dict[str, Array] = {
        "sparse tau": np.array([c.taus(truth)[:, -1] for c in found.values()]),
        "truth of the top K": np.array([_final(c, truth, settings.top_k) for c in found.values()]),
    }
    return [_decides(name, values, found) for name, values in ends.items()]


def _final(curves: Curves, truth: Array, top_k: int) -> Array:
    return columns_of(curves.accuracy[:, -1], truth, top_k)["final"].values


def _decides(name: str, values: Array, rates: Mapping[float, Curves]) -> Claim:
    """Return whether a number, shape (rate, seed), varies more between rates than between seeds."""
    text = f"The learning rate is crucial: {name} varies more between rates than between seeds."
    if min(values.shape) < 2:
        return Claim(text, QUOTED, "open", "one rate or one seed has no variance")
    ratio = between_over_within(values)
    means = values.mean(axis=1)
    worst, best = (list(rates)[int(i)] for i in (means.argmin(), means.argmax()))
    evidence = (
        f"variance between rates {ratio.value:.2f} {limits(ratio.low, ratio.high, 2)} times that between seeds; "
        f"{means.max():.3f} at {best:g}, {means.min():.3f} at {worst:g}"
    )
    return judged(text, QUOTED, ratio.low, ratio.high, evidence, above=1.0)


def _table(
    found: Mapping[float, Curves], truth: Array, settings: LearningRateSettings
) -> ResultTable:
    rows: list[list[Cell]] = []
    for rate, curves in found.items():
        columns = columns_of(curves.accuracy[:, -1], truth, settings.top_k)
        loss = float(curves.loss[:, -1].mean())
        rows.append([*columns_table_row(f"{rate:g}", columns, SHOWN), loss])
    return ResultTable(
        "Each learning rate at the end of training",
        [*columns_heads("learning rate", SHOWN), "loss, nats"],
        rows,
        f"The paper's own figures are not known to us; the code of its follow-up takes {PUBLISHED} for this "
        "space, with batches of 256 images and 400 epochs.",
    )


STUDIES.register("learning-rate")(LearningRate())
