"""A training step in four settings: memory layout and autocast, in one run.

    python -m benchmarks.training_step [--json FILE]

bfloat16 pays only where the processor computes in it; the table says whether this one does.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.measure import interleave, print_rows, random_images, ratio_rows
from wsx.spaces import SPACES
from wsx.supernets import build_supernet
from wsx.training.augment import Batches
from wsx.training.loop import Pass, Trainer
from wsx.training.recipes import Recipe
from wsx.training.sampling import ArchSampler

N_STEPS = 12


def job(recipe: Recipe) -> Callable[[], None]:
    """Return the job that trains a few steps of a fresh supernet."""

    def train() -> None:
        net = build_supernet("nasbench201", {"channels": 16, "cells": 1}, seed=0)
        sampler = ArchSampler(SPACES["nasbench201"], recipe, seed=0)

        def passes(step: int) -> list[Pass]:
            return [partial(net, arch=arch) for arch in sampler[step]]

        images = random_images(N_STEPS * recipe.batch_size, 0)
        batches = Batches(images, recipe, seed=0, device=torch.device("cpu"))
        for _ in Trainer(net, passes, batches, recipe, seed=0).run():
            pass

    return train


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    base = Recipe(epochs=1, batch_size=128, channels_last=True, autocast="none")
    jobs = {
        f"{'channels_last' if last else 'NCHW'}, {cast}": job(
            replace(base, channels_last=last, autocast=cast)
        )
        for last in (True, False)
        for cast in ("none", "bfloat16")
    }
    rows = ratio_rows(interleave(jobs, options.repeats), N_STEPS, "channels_last, none")
    print_rows(
        f"one training step, NAS-Bench-201 C=16 N=1, batch 128, {torch.get_num_threads()} threads",
        rows,
        options.json,
    )


if __name__ == "__main__":
    main()
