"""Making truth: archs trained alone on all cores."""

from collections.abc import Callable, Sequence
from pathlib import Path

from wsx.errors import OptionError
from wsx.spaces import SPACES
from wsx.spaces.choice import ArchChoice
from wsx.studies.images import SPLITS
from wsx.studies.processes import training_processes
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

    def on_each(score: StandaloneScore, n_done: int, n_all: int) -> None:
        if on_score is not None:
            on_score(n_done, n_all)

    space = SPACES[config.space]
    archs = choice.archs(config.archs)
    with training_processes(n_workers, space) as executor:
        tables = train_standalone(config, archs, seeds, out, executor=executor, on_score=on_each)
    write_truth(out, tables[split])
    return tables[split]
