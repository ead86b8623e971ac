"""What does sharing cost one arch? P1's probe: alone, as copies of itself, and inside the supernet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import spread
from wsx.report.findings import Cell, Claim, Findings, Plot, ResultTable, limits
from wsx.spaces import SPACES
from wsx.spaces.choice import ArchChoice
from wsx.spaces.restricted import only
from wsx.studies.images import ImageChoice
from wsx.studies.papers._base import STUDIES, Settings, Step, Study
from wsx.studies.papers.nasbench201 import P1, nasbench201_settings
from wsx.studies.papers.seeds import claim_over_seeds, curve
from wsx.studies.papers.steps import ScoreCheckpoints, Scoring, TrainSupernets, panel_of
from wsx.training.run import RunConfig

Array = NDArray[np.float64]
CODE = f"{P1}, augmented_space of the released code; its outcome is not known to us"
ARCH = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
KINDS = {
    "alone": "the arch alone",
    "copies": "copies of its operations",
    "shared": "inside the supernet",
}


@dataclass(frozen=True)
class CapacitySettings(Settings):
    """Numbers of this study.

    Attributes:
        arch: The arch, in text form.
        copies: Identical copies of each of its operations.
        n_combinations: Combinations of copies that are scored.
    """

    arch: str = ARCH
    copies: int = 5
    n_combinations: int = 20


class Capacity(Study):
    """One arch under one recipe: alone, as copies of itself, and inside the whole supernet."""

    paper = f"{P1}, augmented_space"
    summary = "how much accuracy does sampling cost one arch, and how much sharing with others?"

    def settings(self, scale: str) -> CapacitySettings:
        """Return the numbers of a scale."""
        values = nasbench201_settings(scale, "p1-nasbench201")
        for name in ("truth", "n_archs", "top_k"):
            values.pop(name, None)
        epochs, every = {"tiny": (2, 1), "small": (20, 2), "paper": (2_000, 200)}[scale]
        recipe = replace(values.pop("recipe"), epochs=epochs, checkpoint_epochs=every)
        values["seeds"] = (0, 1, 2)
        if scale == "tiny":
            return CapacitySettings(**values, recipe=recipe, n_combinations=4)
        if scale == "small":
            # Nothing is ranked here, so less will do.
            values |= {"data": replace(values["data"], n_train=10_000, n_test=2_000)}
            values |= {"n_images": 1_000}
            recipe = replace(recipe, batch_size=64)
        if scale == "paper":
            recipe = replace(recipe, lr=0.05)
        return CapacitySettings(**values, recipe=recipe)

    def steps(self, settings: CapacitySettings, folder: Path) -> Sequence[Step]:
        """Train in three ways, and score the arch at every checkpoint."""
        configs = _configs(settings)
        runs = {
            f"{kind}-{seed}": replace(config, seed=seed)
            for kind, config in configs.items()
            for seed in settings.seeds
        }
        one = ArchChoice(texts=(settings.arch,))
        some = ArchChoice(n=settings.n_combinations, measure="encodings")
        images = ImageChoice(n=settings.n_images or None)
        n_checkpoints = -(-settings.recipe.epochs // settings.recipe.checkpoint_epochs)
        scores = [
            ScoreCheckpoints(
                f"score-{kind}",
                config,
                tuple(f"{kind}-{seed}" for seed in settings.seeds),
                "epochs",
                n_checkpoints,
                Scoring(some if kind == "copies" else one, settings.bn, images),
            )
            for kind, config in configs.items()
        ]
        return [TrainSupernets("train", runs), *scores]

    def findings(self, settings: CapacitySettings, folder: Path) -> Findings:
        """Compare the arch's accuracy."""
        panels = {
            kind: panel_of(folder, tuple(f"{kind}-{seed}" for seed in settings.seeds))
            for kind in KINDS
        }
        scores = {kind: panel.accuracy for kind, panel in panels.items()}
        epochs = panels["alone"].epochs[0].tolist()
        return Findings(
            "What does sharing cost one arch?",
            f"{settings.arch} of {settings.space}: {len(settings.seeds)} trainings of each kind, "
            f"{settings.recipe.epochs} epochs on {settings.data.spec}, {settings.copies} copies of each "
            f"operation, {scores['copies'].shape[2]} combinations of them scored.",
            _claims(scores),
            [_table(scores, epochs)],
            [_plot(scores, epochs)],
            {**settings.as_dict(), "published": P1},
        )


def _configs(settings: CapacitySettings) -> dict[str, RunConfig]:
    """Return the three trainings, which differ in nothing but who shares the weights."""
    space = SPACES[settings.space]
    arch = space.parse(settings.arch)
    shared = settings.run_config(settings.recipe, 0)
    copied = replace(
        shared,
        recipe=replace(settings.recipe, measure="encodings"),
        sharing={"arch": settings.arch, "copies": settings.copies},
    )
    return {
        "alone": replace(shared, restriction=only(space, arch)),
        "copies": copied,
        "shared": shared,
    }


def _claims(scores: Mapping[str, Array]) -> list[Claim]:
    last = {kind: found[:, -1].mean(axis=1) for kind, found in scores.items()}

    def claim(text: str, more: str, less: str) -> Claim:
        gap = spread(last[more] - last[less], "accuracy lost")
        what = f"accuracy {last[more].mean():.4f} {KINDS[more]}, {last[less].mean():.4f} {KINDS[less]}: lost"
        return claim_over_seeds(text, CODE, gap, what)

    return [
        claim(
            "Sampling alone costs accuracy, even where all children are the same function.",
            "alone",
            "copies",
        ),
        claim("Sharing with other archs costs more than sampling copies does.", "copies", "shared"),
    ]


def _table(scores: Mapping[str, Array], epochs: Sequence[int]) -> ResultTable:
    alone = scores["alone"][:, -1].mean(axis=1)
    rows: list[list[Cell]] = []
    for kind, found in scores.items():
        last = found[:, -1]
        mean = spread(last.mean(axis=1), "accuracy")
        lost = spread(alone - mean.values, "lost")
        cells: list[Cell] = [KINDS[kind], mean.mean, limits(mean.low, mean.high, 4)]
        between = spread(last.std(axis=1, ddof=1), "deviation").mean if last.shape[1] > 1 else None
        gap: list[Cell] = [lost.mean, limits(lost.low, lost.high, 4)]
        rows.append([*cells, *(gap if kind != "alone" else [None, ""]), between])
    heads = ["accuracy", "95 % over seeds", "lost against alone", "95 % over seeds"]
    return ResultTable(
        f"Accuracy after {epochs[-1]} epochs",
        ["trained as", *heads, "deviation between combinations"],
        rows,
        "Combinations of copies are one function: their deviation is noise that no ranking can be better "
        "than. Published figures are not known to us.",
    )


def _plot(scores: Mapping[str, Array], epochs: Sequence[int]) -> Plot:
    return Plot(
        "capacity",
        "Accuracy of one arch over epochs",
        "epochs",
        "accuracy",
        "lines",
        [curve(KINDS[kind], epochs, found.mean(axis=2)) for kind, found in scores.items()],
        "Means over seeds with 95 % limits. An epoch trains every weight of the arch alone, and each copy "
        "once in so many steps as there are copies.",
    )


STUDIES.register("capacity")(Capacity())
