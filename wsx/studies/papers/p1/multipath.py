"""One arch a step or several? P1's multi-path training, plain and fair, at equally many updates of archs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsx.analysis.uncertainty import Spread
from wsx.errors import OptionError
from wsx.report.findings import Claim, Findings, Plot, ResultTable
from wsx.spaces import SPACES
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.nasbench201 import P1, nasbench201_settings
from wsx.studies.papers.seeds import claim_over_seeds, points
from wsx.studies.papers.variants import (
    COLUMNS,
    RankedSettings,
    Variant,
    accuracy_of,
    columns_heads,
    columns_of,
    columns_table_row,
    difference,
    variant_steps,
)
from wsx.training import RECIPES
from wsx.training.recipes import Recipe

CODE = f"{P1}, multipath of the released code; its outcome is not known to us"
DRAWN = ("kendall_tau", "spearman", "surpass_random")


@dataclass(frozen=True)
class MultipathSettings(RankedSettings):
    """Numbers of this study.

    Attributes:
        n_paths: Archs of a step where there are several.
        paths_clip: Largest norm of the summed gradients; 0 does not clip.
    """

    n_paths: int = 5
    paths_clip: float = 5.0


class Multipath(Study):
    """Supernets trained with one arch a step, with several at random, and with every operation once."""

    paper = f"{P1}, multi-path training"
    summary = "does training several archs a step, their gradients summed, rank archs better?"
    starts_from = "p1-nasbench201"

    def settings(self, scale: str) -> MultipathSettings:
        """Return the numbers of a scale."""
        values = nasbench201_settings(scale, self.starts_from)
        epochs = {"tiny": 5, "small": 40, "paper": 2_000}[scale]
        recipe = replace(values.pop("recipe"), epochs=epochs, checkpoint_epochs=epochs)
        published = RECIPES["p1-nasbench201-multipath"]
        clip = published.clip if scale == "paper" else recipe.clip
        return MultipathSettings(
            **values, recipe=recipe, n_paths=published.n_paths, paths_clip=clip
        )

    def steps(self, settings: MultipathSettings, folder: Path) -> Sequence[Step]:
        """Train in three ways, and score the same archs after each."""
        texts, _ = settings.archs()
        return variant_steps(_variants(settings), settings, texts)

    def findings(self, settings: MultipathSettings, folder: Path) -> Findings:
        """Compare the three."""
        texts, truth = settings.archs()
        columns = {
            one.name: columns_of(
                accuracy_of(one, settings, folder, texts)[:, -1], truth, settings.top_k
            )
            for one in _variants(settings)
        }
        return Findings(
            "One arch a step or several?",
            f"{len(settings.seeds)} supernets of each kind on {settings.data.spec}, equally many updates of "
            f"archs: {settings.recipe.epochs} epochs with one arch a step. {len(texts)} archs of "
            f"{settings.space}.",
            _claims(columns),
            [_table(settings, columns)],
            [_plot(settings, columns)],
            {**settings.as_dict(), "published": P1},
        )


def _variants(settings: MultipathSettings) -> list[Variant]:
    """Return the three ways to train; epochs go down as archs of a step go up."""
    single = settings.recipe
    summed = replace(single, gradients="sum", clip=settings.paths_clip)
    n_fair = max(SPACES[settings.space].n_options)
    paths = _shorter(replace(summed, n_paths=settings.n_paths), settings.n_paths)
    fair = _shorter(replace(summed, sampler="fair"), n_fair)
    labels = {
        "single": ("one arch a step", single),
        "paths": (f"{settings.n_paths} archs a step", paths),
        "fair": (f"{n_fair} archs a step, every operation once", fair),
    }
    return [
        Variant(name, label, settings.run_config(recipe, 0), settings.bn)
        for name, (label, recipe) in labels.items()
    ]


def _shorter(recipe: Recipe, n_paths: int) -> Recipe:
    if recipe.epochs % n_paths:
        raise OptionError(
            f"{recipe.epochs} epochs are no multiple of {n_paths} archs a step, so that archs cannot get "
            "equally many updates; set recipe.epochs or n_paths"
        )
    epochs = recipe.epochs // n_paths
    return replace(recipe, epochs=epochs, checkpoint_epochs=epochs)


def _claims(columns: dict[str, dict[str, Spread]]) -> list[Claim]:
    rho = {name: found["spearman"] for name, found in columns.items()}

    def claim(text: str, source: str, one: str, other: str) -> Claim:
        what = f"Spearman {rho[one].mean:.3f} against {rho[other].mean:.3f}: difference"
        return claim_over_seeds(text, source, difference(rho[one], rho[other]), what)

    return [
        claim("Several archs a step rank better than one at a time.", CODE, "paths", "single"),
        claim(
            "Several archs a step rank better where every operation is used once than where archs are drawn "
            "freely.",
            f"arXiv 1907.01845 (FairNAS); {CODE}",
            "fair",
            "paths",
        ),
        claim(
            "Strictly fair steps rank better than one arch at a time.",
            f"arXiv 1907.01845 (FairNAS); {CODE}",
            "fair",
            "single",
        ),
    ]


def _table(settings: MultipathSettings, columns: dict[str, dict[str, Spread]]) -> ResultTable:
    return ResultTable(
        "What trainings end with",
        columns_heads("archs a step"),
        [columns_table_row(one.label, columns[one.name]) for one in _variants(settings)],
        "Published figures are not known to us. Fair steps combine operations freely, so that one arch in "
        "fifty has an output that hears nothing of its input; the others draw from those that do.",
    )


def _plot(settings: MultipathSettings, columns: dict[str, dict[str, Spread]]) -> Plot:
    variants = _variants(settings)
    labels = [one.label for one in variants]
    series = [
        points(COLUMNS[name], labels, [columns[one.name][name] for one in variants])
        for name in DRAWN
    ]
    return Plot(
        "multipath",
        "Ranking by archs a step",
        "archs a step",
        "correlation, or share",
        "marks",
        series,
        "Means over seeds with 95 % limits, at equally many updates of archs.",
    )


STUDIES.register("multipath")(Multipath())
