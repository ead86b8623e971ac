"""What P3's studies have in common: its cell of 64 archs, at three scales."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.errors import StudyError
from wsx.spaces.choice import ArchChoice
from wsx.studies.images import ImageChoice
from wsx.studies.papers._base import Settings, Step
from wsx.studies.papers.steps import TRUTH, Scoring, TrainAlone
from wsx.training import RECIPES
from wsx.training.recipes import Recipe
from wsx.training.run import DataSpec, RunConfig
from wsx.truth import TruthTable, load_truth

SOURCE = "arXiv 2001.01431"
ALL = ArchChoice(takes_all=True)
# Its training has no steps beside the epochs worth a checkpoint, unless a study looks at steps.
TINY = tuple(f"{edge}=max_pool_3x3|sep_conv_3x3" for edge in ("0->1", "0->2", "1->2"))
PAPER = replace(RECIPES["p3-cell64"], checkpoint_last_steps=0)


def cell64_settings(scale: str) -> dict[str, Any]:
    """Return space, data, recipe, seeds, images and truth of a scale.

    ``tiny`` is digits for seconds, ``small`` digits for minutes, ``paper`` as published but for BatchNorm, whose
    statistics are calibrated here.
    """
    if scale == "tiny":
        return {
            "space": "cell64",
            "data": DataSpec("digits", n_train=128, n_valid=64, n_test=128),
            "restriction": TINY,
            "recipe": _for_digits(PAPER, epochs=3, batch_size=16, channels=2, cells=1, lr=0.05),
            "seeds": (0, 1, 2),
            "bn": "calibrated:1x64",
            "truth_seeds": (0, 1),
            "truth_epochs": 2,
        }
    if scale == "small":
        # Few images to train on, so that archs come to their end soon; many to measure on, as they differ little.
        return {
            "space": "cell64",
            "data": DataSpec("digits", n_train=300, n_valid=97, n_test=1_400),
            "recipe": _for_digits(PAPER, epochs=600, batch_size=32, channels=8, cells=2, lr=0.05),
            "seeds": (0, 1, 2, 3, 4),
            "bn": "calibrated:1x256",
            "truth_seeds": (0, 1, 2, 3, 4),
            "truth_epochs": 60,
        }
    return {
        "space": "cell64",
        "data": DataSpec("uoft-cs/cifar10"),
        "recipe": PAPER,
        "seeds": tuple(range(10)),
        "truth_seeds": tuple(range(10)),
        "truth_epochs": 200,
    }


@dataclass(frozen=True)
class Cell64Settings(Settings):
    """Numbers of P3's studies; without a ``truth`` the archs are trained alone.

    Attributes:
        truth_seeds: Stand-alone trainings of each arch.
        truth_epochs: Epochs of each.
    """

    truth_seeds: tuple[int, ...] = (0, 1)
    truth_epochs: int = 2

    @property
    def texts(self) -> tuple[str, ...]:
        """The study's archs, in their order."""
        space = self.alone.archs
        return tuple(space.format(arch) for arch in ALL.archs(space))

    @property
    def scoring(self) -> Scoring:
        """All archs, in the BatchNorm mode and on the images of the settings."""
        return Scoring(ALL, self.bn, ImageChoice(n=self.n_images or None))

    def supernets(self, **changes: Any) -> dict[str, RunConfig]:
        """Return a training for each seed, by name, with changes to the recipe."""
        recipe = replace(self.recipe, **changes)
        return {f"seed-{seed}": self.run_config(recipe, seed) for seed in self.seeds}

    @property
    def alone(self) -> RunConfig:
        """The training of an arch alone."""
        recipe = replace(self.recipe, epochs=self.truth_epochs, sampler="uniform")
        return self.run_config(recipe, 0)

    def truth_steps(self) -> list[Step]:
        """Return the step that makes the truth, if none is given.

        Raises:
            TruthError: The one given is not there, or lacks archs: found out before anything is trained.
        """
        if not self.truth:
            return [TrainAlone("alone", self.alone, ALL, self.truth_seeds)]
        load_truth(self.truth).only(self.texts)
        return []

    def load_truth(self, folder: Path) -> TruthTable:
        """Return the truth of the study's archs, in their order.

        Raises:
            TruthError: It is not there, or lacks archs.
        """
        return load_truth(self.truth or folder / TRUTH).only(self.texts)


def seeds_of(truth: TruthTable) -> NDArray[np.float64]:
    """Return stand-alone accuracies (seed, arch).

    Raises:
        StudyError: The table does not keep seeds apart.
    """
    if truth.per_seed is None:
        raise StudyError(f"the truth from {truth.source} does not keep its seeds apart")
    return np.asarray(truth.per_seed.T, dtype=np.float64)


def _for_digits(
    recipe: Recipe, *, epochs: int, batch_size: int, channels: int, cells: int, lr: float
) -> Recipe:
    macro = {**recipe.supernet, "channels": channels, "cells": cells}
    # A crop may move by 1 of 8 pixels as by 4 of 32; by 4 of 8, deep nets would still be learning at the end.
    return replace(
        recipe,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        crop_padding=1,
        flips=False,
        checkpoint_epochs=epochs,
        supernet=macro,
    )
