"""Engines for worker processes: importable there, and as ill-behaved as a test asks for."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsx.errors import ExportError
from wsx.evaluators.batches import Tally
from wsx.evaluators.engines import Timing


class Pids:
    """Scores a subnet by the number of the process; an arch says how to misbehave."""

    provider = "pids"

    def __init__(self, folder):
        self._folder = folder

    def score(self, arch):
        if arch[0] == 1:
            raise ExportError(f"no such subnet: {arch}")
        if arch[0] == 2:
            os._exit(3)
        if arch[0] == 3:
            mark = self._folder / "died-once"
            if not mark.exists():
                mark.touch()
                os._exit(3)
        pid = os.getpid()
        bits = np.array([arch[1] % 2 == 0, True])
        return Tally(pid, float(arch[1]), bits), Timing(record=0, calibrate=0, build=0, run=1)

    def score_together(self, archs):
        return [self.score(arch) for arch in archs]


@dataclass(frozen=True)
class OpenPids:
    folder: Path

    def __call__(self):
        if (self.folder / "broken").exists():
            raise ExportError("the checkpoint is gone")
        with (self.folder / "opened").open("a") as file:
            file.write(f"{os.getpid()}\n")
        return Pids(self.folder)
