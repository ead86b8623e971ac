"""Scoring in worker processes: several devices at once, memory that grows given back, crashes survived.

A runtime that leaks, runs out of memory or crashes takes its process along. Here it takes the process of one
subnet, which is scored again in a new one, and if that dies too becomes a row with an error like any other.
"""

import multiprocessing
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from wsx.errors import DeviceError
from wsx.evaluators.batches import Tally
from wsx.evaluators.engines import Engine, Timing
from wsx.spaces import Arch

N_SUBNETS = 500
"""Subnets that a process scores before it is replaced."""

N_ATTEMPTS = 2

OpenEngine = Callable[[], Engine]
"""Opens an engine in the process that calls it; can be pickled."""


class IsolatedEngine:
    """Scores subnets in other processes, each of which opens an engine of its own.

    May be used from as many threads as there are processes; each call keeps one process busy.

    Args:
        openers: One per process: how to open its engine, on its device.
        provider: What the engines run on.
        n_subnets: Subnets, or merged groups, per process before it is replaced.

    Use as a context manager, or call ``close``. The processes import the main module: scripts need the usual
    ``if __name__ == "__main__"``.
    """

    def __init__(
        self, openers: Sequence[OpenEngine], provider: str, *, n_subnets: int = N_SUBNETS
    ) -> None:
        self.provider = provider
        self.n_processes = len(openers)
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._workers = [_Worker(opener, n_subnets) for opener in openers]
        for worker in self._workers:
            self._free.put(worker)

    def __enter__(self) -> "IsolatedEngine":
        """Return the engine."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine."""
        self.close()

    def score(self, arch: Arch) -> tuple[Tally, Timing]:
        """Score one subnet in a free process.

        Raises:
            WsxError: What the engine raised there.
            DeviceError: Process after process died over it.
        """
        found: tuple[Tally, Timing] = self._call("score", arch)
        return found

    def score_together(self, archs: Sequence[Arch]) -> list[tuple[Tally, Timing]]:
        """Score several subnets at a time in a free process; raises as ``score`` does."""
        found: list[tuple[Tally, Timing]] = self._call("score_together", list(archs))
        return found

    def close(self) -> None:
        """End all processes; work that is under way is finished first."""
        for worker in self._workers:
            worker.close()

    def _call(self, method: str, argument: Any) -> Any:
        worker = self._free.get()
        try:
            return worker.call(method, argument)
        finally:
            self._free.put(worker)


class _Worker:
    """One process, and its successors."""

    def __init__(self, opener: OpenEngine, n_tasks: int) -> None:
        self._opener = opener
        self._n_tasks = n_tasks
        self._n_left = 0
        self._pool: ProcessPoolExecutor | None = None

    def call(self, method: str, argument: Any) -> Any:
        for _ in range(N_ATTEMPTS):
            try:
                return self._process().submit(_call_here, self._opener, method, argument).result()
            except BrokenProcessPool:
                self.close()
        raise DeviceError(
            f"{N_ATTEMPTS} worker processes died over this subnet: out of memory, or a crash of the runtime. "
            "Score with a smaller --batch-size or fewer --workers"
        )

    def _process(self) -> ProcessPoolExecutor:
        # Counted here: max_tasks_per_child can wait for ever (python/cpython issue 115634, Python 3.11 to 3.14).
        if self._n_left == 0:
            self.close()
        if self._pool is None:
            # Not forked: sessions and CUDA contexts do not survive a fork.
            self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
            self._n_left = self._n_tasks
        self._n_left -= 1
        return self._pool

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


_opened: list[Engine] = []


def _call_here(opener: OpenEngine, method: str, argument: Any) -> Any:
    # In the worker process: opened at its first task, so that what goes wrong is an error of that task.
    if not _opened:
        _opened.append(opener())
    return getattr(_opened[0], method)(argument)
