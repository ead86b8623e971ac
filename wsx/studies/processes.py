"""Processes that train, each with one torch thread, which small nets on CPUs use best."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager

import torch

from wsx.errors import OptionError
from wsx.spaces import Space, load_space
from wsx.spaces.loading import space_origin

POLL_S = 1.0


@contextmanager
def training_processes(n_workers: int, space: Space) -> Iterator[Executor]:
    """Give processes that know a space, one's own included; they end with this one, however that ends.

    Raises:
        OptionError: There are fewer than one.
    """
    if n_workers < 1:
        raise OptionError(f"--workers is {n_workers}; it must be at least 1")
    origin = space_origin(space).get("space_from")
    # Spawned, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, context, _start, (origin, os.getpid())) as executor:
        yield executor


def _start(space_from: str | None, parent: int) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    if space_from is not None:
        load_space(space_from)


def _end_with(parent: int) -> None:
    """Wait until the parent is gone, killed say, and end this process: nobody is left to take its results."""
    while os.getppid() == parent:
        time.sleep(POLL_S)
    os._exit(1)
