"""Training several supernets, on CPUs as many at once as there are workers."""

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, wait
from functools import lru_cache
from pathlib import Path

from wsx.errors import OptionError, TrainingError
from wsx.spaces import SPACES
from wsx.studies.processes import training_processes
from wsx.training.log import read_log
from wsx.training.loop import Progress
from wsx.training.run import DataSpec, RunConfig
from wsx.training.supernet import train_supernet

POLL_S = 0.5

OnProgress = Callable[[int, int, str], None]
"""Told of epochs done over all trainings, of all epochs, and where it is."""


def train_supernets(
    configs: Mapping[Path, RunConfig],
    *,
    device: str = "cpu",
    n_workers: int,
    on_progress: OnProgress | None = None,
) -> None:
    """Train supernets, or go on with those that were interrupted; finished ones are left as they are.

    Args:
        configs: What to train, by the folder of the run.
        device: Torch device to train on; other than on CPUs, one after another.
        n_workers: Processes; with one, and for one training, it is this process with all its threads.
        on_progress: Called now and then.

    Raises:
        OptionError: The number of workers is out of range.
        TrainingError: A training diverged; the others are done and kept.
        WsxError: A training cannot be done; others under way are finished first.
    """
    if n_workers < 1:
        raise OptionError(f"--workers is {n_workers}; it must be at least 1")
    update = on_progress or (lambda *_: None)
    n_workers = min(n_workers, len(configs)) if device == "cpu" else 1
    if n_workers <= 1:
        diverged = _train_in_turn(configs, device, update)
    else:
        diverged = _train_at_once(configs, n_workers, update)
    if diverged:
        raise TrainingError(
            f"{len(diverged)} of {len(configs)} trainings diverged, the others are kept; first {diverged[0]}"
        )


def _train_in_turn(configs: Mapping[Path, RunConfig], device: str, update: OnProgress) -> list[str]:
    """Return what diverged, and how."""
    n_all = sum(config.recipe.epochs for config in configs.values())
    load, n_before, diverged = lru_cache(maxsize=1)(DataSpec.load), 0, []
    for folder, config in configs.items():

        def on_step(progress: Progress, start: int = n_before, name: str = folder.name) -> None:
            if progress.is_epoch_end:
                update(start + progress.epoch, n_all, f"{name}, {progress.note}")

        try:
            train_supernet(config, folder, device=device, load=load, on_progress=on_step)
        except TrainingError as error:
            diverged.append(f"{folder.name}: {error}")
        n_before += config.recipe.epochs
    return diverged


def _train_at_once(
    configs: Mapping[Path, RunConfig], n_workers: int, update: OnProgress
) -> list[str]:
    """Return what diverged, and how."""
    diverged: list[str] = []
    n_all = sum(config.recipe.epochs for config in configs.values())
    space = SPACES[next(iter(configs.values())).space]
    with training_processes(n_workers, space) as executor:
        names = {
            executor.submit(_train, config, path): path.name for path, config in configs.items()
        }
        waiting = set(names)
        while waiting:
            done, waiting = wait(waiting, POLL_S, FIRST_COMPLETED)
            for future in done:
                error = future.exception()
                if isinstance(error, TrainingError):
                    diverged.append(f"{names[future]}: {error}")
                elif error is not None:
                    executor.shutdown(cancel_futures=True)
                    raise error
            # Runs tell of themselves: no channel between processes that could break.
            n_done = sum(len(read_log(path / "log.csv")) for path in configs)
            update(n_done, n_all, f"{len(configs) - len(waiting)} of {len(configs)} trained")
    return diverged


# Of a process that lives for the trainings of one call.
_load = lru_cache(maxsize=1)(DataSpec.load)


def _train(config: RunConfig, folder: Path) -> None:
    train_supernet(config, folder, load=_load)
