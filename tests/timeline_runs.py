"""Supernets of the 64-arch cell, trained for seconds, with a checkpoint after every step."""

from dataclasses import replace
from pathlib import Path

from wsx.spaces import SPACES, Arch
from wsx.spaces.choice import ArchChoice
from wsx.studies.images import ImageChoice
from wsx.training import DataSpec, Recipe, Run, RunConfig, open_run, train_supernet

SPACE = SPACES["cell64"]
N_IMAGES = 21
IMAGES = ImageChoice("test", N_IMAGES)
DATA = DataSpec("digits", n_train=64, n_valid=20, n_test=40)
RECIPE = Recipe(
    epochs=2,
    batch_size=32,
    lr=0.1,
    crop_padding=1,
    checkpoint_epochs=1,
    checkpoint_steps=1,
    supernet={"channels": 2, "cells": 1, "is_affine": True},
)
CHECKPOINTS = ("step-0000001", "epoch-0001", "step-0000003", "epoch-0002")
ARCHS = [SPACE.parse(text) for text in ("111", "234", "432", "333")]


def timeline_run(folder: Path, seed: int, *, data: DataSpec = DATA, **values: object) -> Run:
    path = folder / f"timeline-{seed}"
    if (path / "run.json").exists():
        return open_run(path)
    return train_supernet(RunConfig("cell64", replace(RECIPE, **values), data, seed=seed), path)


def choose(folder: Path, archs: list[Arch], run: Run | None = None) -> ArchChoice:
    space = SPACE if run is None else SPACES[run.config.space]
    path = folder / "archs.txt"
    path.write_text("".join(space.format(arch) + "\n" for arch in archs))
    return ArchChoice(file=path)
