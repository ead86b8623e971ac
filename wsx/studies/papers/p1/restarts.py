"""One cosine or several? P1's warm restarts of the learning rate, compared at the end of each cycle."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import spearman, spread
from wsx.errors import OptionError
from wsx.report.findings import Claim, Findings, Plot, ResultTable
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.nasbench201 import P1, nasbench201_settings
from wsx.studies.papers.seeds import claim_over_seeds, curve
from wsx.studies.papers.variants import (
    RankedSettings,
    Variant,
    accuracy_of,
    columns_heads,
    columns_of,
    columns_table_row,
    difference,
    variant_steps,
)

Array = NDArray[np.float64]
CODE = f"{P1}, cosine_restart of the released code; its outcome is not known to us"


@dataclass(frozen=True)
class RestartsSettings(RankedSettings):
    """Numbers of this study.

    Attributes:
        restart_epochs: The rate starts anew every so many epochs; a divisor of the epochs.
    """

    restart_epochs: int = 500


class Restarts(Study):
    """Supernets under one cosine, and under several short ones."""

    paper = f"{P1}, cosine_restart"
    summary = "do warm restarts of the learning rate rank archs better than one cosine?"
    starts_from = "p1-nasbench201"

    def settings(self, scale: str) -> RestartsSettings:
        """Return the numbers of a scale."""
        values = nasbench201_settings(scale, self.starts_from)
        epochs, every = {"tiny": (4, 2), "small": (32, 8), "paper": (2_000, 500)}[scale]
        recipe = replace(values.pop("recipe"), epochs=epochs)
        if scale == "small":
            values |= {"seeds": tuple(range(5)), "n_archs": 150}
        return RestartsSettings(**values, recipe=recipe, restart_epochs=every)

    def steps(self, settings: RestartsSettings, folder: Path) -> Sequence[Step]:
        """Train under both schedules, and score the same archs where a cycle ends."""
        texts, _ = settings.archs()
        return variant_steps(_variants(settings), settings, texts)

    def findings(self, settings: RestartsSettings, folder: Path) -> Findings:
        """Compare both at the ends of cycles."""
        texts, truth = settings.archs()
        variants = _variants(settings)
        scores = {v.name: accuracy_of(v, settings, folder, texts) for v in variants}
        rho = {
            name: np.array([[spearman(row, truth) for row in rows] for rows in found])
            for name, found in scores.items()
        }
        every, epochs = settings.restart_epochs, settings.recipe.epochs
        return Findings(
            "One cosine or several?",
            f"{len(settings.seeds)} supernets of each kind, {epochs} epochs on {settings.data.spec}, restarts "
            f"every {every}. {len(texts)} archs of {settings.space}.",
            _claims(rho, every, epochs),
            [_table(settings, scores, truth)],
            [_plot(variants, rho, range(every, epochs + 1, every))],
            {**settings.as_dict(), "published": P1},
        )


def _variants(settings: RestartsSettings) -> list[Variant]:
    every, epochs = settings.restart_epochs, settings.recipe.epochs
    if every < 1 or epochs % every or every == epochs:
        raise OptionError(
            f"restart_epochs is {every}; it must divide the {epochs} epochs, and be smaller"
        )
    once = replace(settings.recipe, checkpoint_epochs=every, restart_epochs=0)
    recipes = {
        "once": ("one cosine", once),
        "restarts": (f"restarts every {every} epochs", replace(once, restart_epochs=every)),
    }
    return [
        Variant(
            name,
            label,
            settings.run_config(recipe, 0),
            settings.bn,
            checkpoints="epochs",
            n_checkpoints=epochs // every,
        )
        for name, (label, recipe) in recipes.items()
    ]


def _claims(rho: dict[str, Array], every: int, epochs: int) -> list[Claim]:
    def claim(text: str, checkpoint: int, epoch: int) -> Claim:
        restarted, once = rho["restarts"][:, checkpoint], rho["once"][:, checkpoint]
        gain = spread(restarted - once, "gain by restarts")
        means = [spread(values, "Spearman").mean for values in (restarted, once)]
        what = f"Spearman after {epoch} epochs {means[0]:.3f} with restarts, {means[1]:.3f} without: difference"
        return claim_over_seeds(text, CODE, gain, what)

    return [
        claim("Supernets trained with warm restarts end up ranking better.", -1, epochs),
        claim("A rate that has been brought down ranks better early in training.", 0, every),
    ]


def _table(settings: RestartsSettings, scores: dict[str, Array], truth: Array) -> ResultTable:
    columns = {
        name: columns_of(found[:, -1], truth, settings.top_k) for name, found in scores.items()
    }
    labels = {one.name: one.label for one in _variants(settings)}
    rows = [columns_table_row(labels[name], found) for name, found in columns.items()]
    gains = {
        name: difference(columns["restarts"][name], one) for name, one in columns["once"].items()
    }
    return ResultTable(
        "What trainings end with",
        columns_heads("learning rate"),
        [*rows, columns_table_row("gain by restarts", gains)],
        "Published figures are not known to us; the released code has restarts on NAS-Bench-101 only, and no "
        "period.",
    )


def _plot(variants: Sequence[Variant], rho: dict[str, Array], epochs: Sequence[int]) -> Plot:
    return Plot(
        "restarts",
        "Correlation with truth where cycles end",
        "epochs",
        "Spearman correlation with truth",
        "lines",
        [curve(one.label, epochs, rho[one.name]) for one in variants],
        "Means over seeds with 95 % limits. The rate is near zero at each point of the restarted one, and of "
        "the other at the last alone.",
    )


STUDIES.register("restarts")(Restarts())
