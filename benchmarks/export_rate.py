"""Export to disk: ours against both official exporters, the same subnets, in one run on one core.

python -m benchmarks.export_rate [--json FILE]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.rows import print_rows
from wsx.bench.exported import export_torchscript
from wsx.bench.interleave import interleave, ratio_rows
from wsx.bench.subject import random_supernet
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.export import export_subnets
from wsx.exporters.extract import extract
from wsx.exporters.official import export_official
from wsx.exporters.subnets import SubnetRecorder

N_SUBNETS = {"wsx": 200, "torch.onnx, dynamo": 2, "torch.onnx, TorchScript": 8}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    net = random_supernet("nasbench201", {"channels": 16, "cells": 5}, seed=0)
    recorder = SubnetRecorder(net, BatchNormMode.parse("running"))
    rng = np.random.default_rng(0)
    archs = net.space.sample(max(N_SUBNETS.values()), rng=rng, measure="reachable")
    n_bytes: list[float] = []

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            facts = {"checkpoint_sha256": "benchmark"}
            report = export_subnets(recorder, archs, Path(folder) / "subnets", facts=facts)
            rows = report.folder.rows.values()
            n_bytes.append(sum(row.n_bytes for row in rows) / len(rows))

    def dynamo() -> None:
        for arch in archs[: N_SUBNETS["torch.onnx, dynamo"]]:
            export_official(extract(net, arch), (3, 32, 32), metadata={})

    def torchscript() -> None:
        for arch in archs[: N_SUBNETS["torch.onnx, TorchScript"]]:
            with tempfile.TemporaryDirectory() as folder:
                export_torchscript(extract(net, arch), (3, 32, 32), Path(folder) / "subnet.onnx")

    start_s = time.perf_counter()
    jobs = {"wsx": ours, "torch.onnx, dynamo": dynamo, "torch.onnx, TorchScript": torchscript}
    seconds = interleave(jobs, options.repeats)
    per_subnet = {name: [t / N_SUBNETS[name] for t in times] for name, times in seconds.items()}
    rows = ratio_rows(per_subnet, 1, "wsx")
    title = (
        f"export to disk, NAS-Bench-201 C=16 N=5, one core, {options.repeats} repeats, "
        f"{np.mean(n_bytes):,.0f} bytes per subnet beside one weight file of "
        f"{recorder.weights.n_bytes:,} bytes ({time.perf_counter() - start_s:.0f} s)"
    )
    print_rows(title, rows, options.json)


if __name__ == "__main__":
    main()
