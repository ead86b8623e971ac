"""A training step in four settings: memory layout and autocast, in one run.

    python -m benchmarks.training_step [--json FILE]

bfloat16 pays only where the processor computes in it; the table says whether this one does. Beside the plain loop
that users write, `wsx bench-training` measures.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

from benchmarks.rows import print_rows
from wsx.bench.contenders import all_cores
from wsx.bench.interleave import interleave, ratio_rows
from wsx.bench.steps import Steps, own_steps
from wsx.bench.training_subject import TrainingConditions, random_training

N_STEPS = 12


def job(steps: Steps) -> Callable[[], object]:
    """Return the job that does a few steps more."""
    return lambda: list(islice(steps, N_STEPS))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    subject = random_training("nasbench201", {"channels": 16, "cells": 1}, TrainingConditions())
    settings = [(last, cast) for last in (True, False) for cast in ("none", "bfloat16")]
    jobs = {
        f"{'channels_last' if last else 'NCHW'}, {cast}": job(
            own_steps(subject, replace(subject.recipe, channels_last=last, autocast=cast))
        )
        for last, cast in settings
    }
    with all_cores(subject.n_cores):
        seconds = interleave(jobs, options.repeats)
    print_rows(
        f"one training step, NAS-Bench-201 C=16 N=1, batch {subject.recipe.batch_size}, "
        f"{subject.n_cores} threads",
        ratio_rows(seconds, N_STEPS, "channels_last, none"),
        options.json,
    )


if __name__ == "__main__":
    main()
