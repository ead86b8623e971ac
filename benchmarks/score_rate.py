"""Scoring: ONNX Runtime against eager loops, the same subnets, images and BatchNorm mode, in one run.

    python -m benchmarks.score_rate [--bn running|calibrated:4x256] [--json FILE]

The eager loops: channels_last at batch 64, the best of all tuned settings; NCHW at batch 48 and 256, what
published code does. All of them use all cores.
"""

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.measure import (
    interleave,
    print_rows,
    random_images,
    random_supernet,
    ratio_rows,
)
from wsx.data import ImageSet
from wsx.evaluators.batches import DeviceImages
from wsx.evaluators.calibration import Calibrator
from wsx.evaluators.devices import CPU, SessionFactory
from wsx.evaluators.eager import EagerOracle
from wsx.evaluators.engines import OnnxEngine
from wsx.evaluators.sources import SupernetSource
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import Arch
from wsx.supernets import Supernet


def onnx_job(
    net: Supernet, archs: list[Arch], images: ImageSet, mode: BatchNormMode, train: ImageSet
) -> Callable[[], None]:
    """Return the job that scores archs as ``wsx evaluate`` does, store and planning left out."""
    recorder = SubnetRecorder(net, mode)
    factory = SessionFactory(recorder.weights, CPU)
    calibrator = (
        Calibrator(factory, recorder.weights, train, mode) if mode.kind == "calibrated" else None
    )
    source = SupernetSource(recorder, "benchmark", CPU, calibrator)
    engine = OnnxEngine(source, factory, DeviceImages(images, 32, CPU, pads=True))

    def job() -> None:
        with ThreadPoolExecutor(os.cpu_count()) as executor:
            list(executor.map(engine.score, archs))

    return job


def eager_job(
    net: Supernet,
    archs: list[Arch],
    images: ImageSet,
    mode: BatchNormMode,
    train: ImageSet,
    *,
    batch_size: int,
    is_channels_last: bool,
) -> Callable[[], None]:
    """Return the job that scores archs one after another in eager PyTorch."""
    oracle = EagerOracle(net, mode, train, is_channels_last=is_channels_last)

    def job() -> None:
        for arch in archs:
            oracle.score(images, arch, batch_size=batch_size)

    return job


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archs", type=int, default=24)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--bn", default="running")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    mode = BatchNormMode.parse(options.bn)
    net = random_supernet("nasbench201", {"channels": 16, "cells": 5}, seed=0)
    rng = np.random.default_rng(0)
    archs = net.space.sample(options.archs, rng=rng, measure="reachable")
    images, train = random_images(options.images, 0), random_images(max(1, mode.n_images), 1)
    settings = {
        "PyTorch eager, channels_last, batch 64": (64, True),
        "PyTorch eager, NCHW, batch 48": (48, False),
        "PyTorch eager, NCHW, batch 256": (256, False),
    }
    jobs = {"wsx, ONNX Runtime": onnx_job(net, archs, images, mode, train)}
    for name, (batch_size, is_channels_last) in settings.items():
        jobs[name] = eager_job(
            net,
            archs,
            images,
            mode,
            train,
            batch_size=batch_size,
            is_channels_last=is_channels_last,
        )
    rows = ratio_rows(interleave(jobs, options.repeats), len(archs), "wsx, ONNX Runtime")
    title = (
        f"{len(archs)} random NAS-Bench-201 subnets, C=16 N=5, {len(images)} images, BatchNorm {mode}, "
        f"{os.cpu_count()} cores, {options.repeats} interleaved repeats"
    )
    print_rows(title, rows, options.json)


if __name__ == "__main__":
    main()
