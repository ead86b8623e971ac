"""A long sweep of small subnets: does it slow down, does it grow? Small ones show what is paid per subnet.

python -m benchmarks.long_sweep [--archs 4000] [--json FILE]
"""

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path

from wsx.bench.machine import PeakMemory
from wsx.bench.own import OwnPath
from wsx.bench.subject import Conditions, random_subject
from wsx.exporters.batchnorm import BatchNormMode
from wsx.studies.scoring import Listener

WINDOW = 200
MACRO = {"channels": 4, "cells": 1, "image_size": 16}
_STATUS = Path("/proc/self/status")


def resident_bytes() -> int:
    """Return the memory in use by this process."""
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archs", type=int, default=4000)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--bn", default="calibrated:1x128")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    conditions = Conditions(options.archs, options.images, BatchNormMode.parse(options.bn))
    subject = random_subject("nasbench201", MACRO, conditions)
    marks: list[tuple[int, float, int]] = []

    def note(n_done: int, n_all: int) -> None:
        if n_done >= WINDOW * len(marks):
            marks.append((n_done, time.perf_counter(), resident_bytes()))

    path = OwnPath(subject, Listener(on_scored=note))
    memory = PeakMemory(subject.torch_device)
    memory.reset()
    start_s = time.perf_counter()
    path.score(subject.archs)
    seconds = time.perf_counter() - start_s
    rows = [
        {
            "archs": n,
            "archs_per_min": 60 * (n - before[0]) / (at_s - before[1]),
            "resident_bytes": n_bytes,
        }
        for before, (n, at_s, n_bytes) in pairwise(marks)
    ]
    print(
        f"{options.archs} subnets in {seconds:.0f} s, peak {memory.read()['process_bytes'] / 2**20:.0f} MiB"
    )
    for row in rows:
        print(
            f"  {row['archs']:>6} done: {row['archs_per_min']:>8.0f} archs/min, "
            f"{row['resident_bytes'] / 2**20:>6.0f} MiB"
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"seconds": seconds, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
