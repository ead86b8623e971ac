"""Steps per second of single-path training: wsx's trainer beside the plain loop that users write.

All loops train their own copy of one supernet with the same archs, step by step, in the same batch size, with
random crops, flips and SGD.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from wsx.bench.contenders import all_cores
from wsx.bench.interleave import Spread, interleave, ratio
from wsx.bench.machine import machine_facts, synchronize
from wsx.bench.steps import OWN, Steps, training_loops
from wsx.bench.training_subject import TrainingSubject
from wsx.errors import OptionError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class TrainingRow:
    """What was measured of one loop.

    Attributes:
        name: Of the loop.
        what: What it is.
        seconds: Of each repeat.
        steps_per_s: Steps per second, over the repeats.
        ratio: How many times as long it took as wsx, within each repeat.
    """

    name: str
    what: str
    seconds: list[float]
    steps_per_s: Spread
    ratio: Spread


@dataclass(frozen=True)
class TrainingReport:
    """All rows, wsx first, and what they were measured under."""

    conditions: Mapping[str, Any]
    machine: Mapping[str, Any]
    rows: list[TrainingRow]

    def as_dict(self) -> dict[str, Any]:
        """Return everything, JSON-clean."""
        header = {"format": "wsx-bench-training", "format_version": FORMAT_VERSION}
        return {**header, **asdict(self)}


def run_training_bench(
    subject: TrainingSubject,
    *,
    n_steps: int = 10,
    n_repeats: int = 5,
    on_lap: Callable[[int, int, str], None] | None = None,
) -> TrainingReport:
    """Measure wsx's trainer, other settings of it, and the plain loop side by side.

    Args:
        subject: What is trained.
        n_steps: Steps per repeat.
        n_repeats: Interleaved repeats.
        on_lap: Called with laps done, laps in all and what was measured.

    Raises:
        OptionError: A number is below one, or the recipe trains more than one path a step.
        DataError: The images do not fill a batch.
    """
    if not subject.recipe.has_one_arch_per_step:
        raise OptionError(
            f"the recipe trains several paths a step (n_paths {subject.recipe.n_paths}, sampler "
            f"{subject.recipe.sampler}); the plain loop trains one"
        )
    if n_steps < 1:
        raise OptionError(f"--steps is {n_steps}; it must be at least 1")
    machine = machine_facts(subject.device)
    with all_cores(subject.n_cores):
        loops = training_loops(subject)
        for _, steps in loops.values():
            next(steps)
        jobs = {
            name: partial(_take, steps, n_steps, subject.device)
            for name, (_, steps) in loops.items()
        }
        n_done = 0

        def count(name: str, seconds: float, result: object) -> None:
            nonlocal n_done
            n_done += 1
            if on_lap is not None:
                on_lap(n_done, n_repeats * len(jobs), f"{name} took {seconds:.1f} s")

        times = interleave(jobs, n_repeats, count)
    rows = [
        TrainingRow(
            name,
            loops[name][0],
            seconds,
            Spread.of([n_steps / s for s in seconds]),
            ratio(seconds, times[OWN]),
        )
        for name, seconds in times.items()
    ]
    conditions = {
        "space": subject.supernet.space.name,
        "supernet": asdict(subject.supernet.options),
        "recipe": subject.recipe.as_dict(),
        "n_images": len(subject.images),
        "n_steps": n_steps,
        "n_repeats": n_repeats,
        "device": subject.device.type,
        "n_cores": subject.n_cores,
    }
    return TrainingReport(conditions, machine, rows)


def _take(steps: Steps, n: int, device: torch.device) -> None:
    for _ in range(n):
        next(steps)
    synchronize(device)
