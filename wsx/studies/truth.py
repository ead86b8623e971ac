"""Making truth: archs trained alone on all cores."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from wsx.errors import OptionError
from wsx.spaces import SPACES, load_space
from wsx.spaces.choice import ArchChoice
from wsx.spaces.loading import space_origin
from wsx.studies.images import SPLITS
from wsx.training.run import RunConfig
from wsx.training.standalone import StandaloneScore, train_standalone
from wsx.truth import TruthTable, write_truth


def make_truth(
    config: RunConfig,
    choice: ArchChoice,
    seeds: Sequence[int],
    out: Path,
    *,
    split: str,
    n_workers: int,
    on_score: Callable[[int, int], None] | None = None,
) -> TruthTable:
    """Train archs alone and write their truth; trainings that were done before are not repeated.

    Args:
        config: Space, recipe and data.
        choice: Which archs.
        seeds: One training each per arch.
        out: The table, ``.parquet`` or ``.csv``.
        split: What the truth is measured on, ``valid`` or ``test``.
        n_workers: Processes, each with one torch thread.
        on_score: Called with trainings done and trainings in all.

    Raises:
        OptionError: The split or the number of workers is out of range.
        TrainingError: A training diverged; the others are kept.
    """
    if split not in SPLITS:
        raise OptionError(f"split {split!r} is none of: {', '.join(SPLITS)}")
    if n_workers < 1:
        raise OptionError(f"--workers is {n_workers}; it must be at least 1")

    def on_each(score: StandaloneScore, n_done: int, n_all: int) -> None:
        if on_score is not None:
            on_score(n_done, n_all)

    space = SPACES[config.space]
    archs = choice.archs(config.archs)
    origin = space_origin(space).get("space_from")
    # Spawned, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, context, _start_worker, (origin,)) as executor:
        tables = train_standalone(config, archs, seeds, out, executor=executor, on_score=on_each)
    write_truth(out, tables[split])
    return tables[split]


def _start_worker(space_from: str | None) -> None:
    torch.set_num_threads(1)
    if space_from is not None:
        load_space(space_from)
