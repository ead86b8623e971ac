"""A supernet trained for seconds on digits, and what several test files need to score it."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsx.evaluators.population import PopulationReport
from wsx.spaces import Arch
from wsx.spaces.choice import ArchChoice
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.store import Score, ScoreKey, ScoreTable, open_store
from wsx.studies.evaluate_run import evaluate_run
from wsx.studies.run_subnets import RunSubnets
from wsx.supernets.checkpoint import load_tensors, save_tensors
from wsx.training import RECIPES, DataSpec, Run, RunConfig, open_run, train_supernet

# Neither a multiple of a byte nor of a batch.
N_IMAGES = 101
DATA = DataSpec("digits", seed=0, n_train=256, n_valid=64, n_test=N_IMAGES)
BN = "calibrated:2x32"
BN_MODES = (BN, "running", "batch")
SETTINGS = {"epochs": "2", "batch_size": "32", "channels": "4", "cells": "1"}


def small_run(folder: Path) -> Run:
    path = folder / "small-run"
    if (path / "run.json").exists():
        return open_run(path)
    recipe = RECIPES["digits"].override(SETTINGS)
    run = train_supernet(RunConfig("nasbench201", recipe, DATA, seed=0), path)
    _randomise_norms(run.checkpoint_path())
    return run


def _randomise_norms(path: Path) -> None:
    # Fresh scales and shifts are ones and zeros, which hide weights that were mixed up.
    tensors, facts = load_tensors(path)
    rng = np.random.default_rng(0)
    for name in list(tensors):
        if name.endswith(".running_mean"):
            base, n = name.removesuffix("running_mean"), len(tensors[name])
            tensors[base + "weight"] = torch.tensor(rng.uniform(0.5, 1.5, n), dtype=torch.float32)
            tensors[base + "bias"] = torch.tensor(rng.normal(0, 0.2, n), dtype=torch.float32)
    save_tensors(path, tensors, facts)


def some_archs(n: int, *, seed: int = 0, measure: str = "encodings") -> list[Arch]:
    return NASBENCH201.sample(n, rng=np.random.default_rng(seed), measure=measure)


def write_archs(path: Path, archs: list[Arch]) -> Path:
    path.write_text("".join(NASBENCH201.format(arch) + "\n" for arch in archs))
    return path


def evaluate(
    run: Run, out: Path, archs: list[Arch], *, bn: str = BN, **options: Any
) -> tuple[ScoreKey, PopulationReport]:
    choice = ArchChoice(file=write_archs(out.with_suffix(".txt"), archs))
    return evaluate_run(RunSubnets(run, bn), out, choice=choice, device="cpu", **options)


def read_table(path: Path, campaign: str | None = None) -> ScoreTable:
    with open_store(path, "r") as store:
        return store.read(campaign)


def by_text(table: ScoreTable) -> dict[str, Score]:
    return {str(text): table.score(i) for i, text in enumerate(table.text)}


def outcomes(table: ScoreTable) -> dict[str, tuple[Any, ...]]:
    """Return what a score says, without how long it took; arrival order is gone."""
    return {
        text: (s.arch, s.function_key, s.correct, s.total, s.bits, s.status, s.error)
        for text, s in by_text(table).items()
    }


def losses(table: ScoreTable) -> np.ndarray:
    return np.array([score.loss_sum for _, score in sorted(by_text(table).items())])


class AtOnce(Executor):
    """Runs every task when it is submitted, in this thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
