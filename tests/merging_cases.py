"""Small supernets of several spaces, and archs that have much in common."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from conftest import _randomise_norms

from wsx.bench.subject import random_images
from wsx.data import ImageSet
from wsx.evaluators.calibration import Calibrator
from wsx.evaluators.devices import CPU, SessionFactory
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.graph import Graph
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import Arch
from wsx.supernets import Supernet, build_supernet

# As many channels as ONNX Runtime's fused layouts need, sizes odd somewhere.
OPTIONS = {
    "nasbench201": {"channels": 16, "cells": 1, "image_size": 9},
    "proxylessnas": {"width_percent": 35, "image_size": 16, "n_classes": 10},
    "darts": {"channels": 16, "cells": 3, "image_size": 9},
    "nasbench101": {"channels": 16, "image_size": 9},
    "cell64": {"channels": 16, "cells": 2, "image_size": 9},
}
SPACES = tuple(OPTIONS)
QUICK_SPACES = ("nasbench201", "cell64")
EACH_SPACE = tuple(
    pytest.param(space, marks=[pytest.mark.slow] * (space not in QUICK_SPACES)) for space in SPACES
)
MODES = ("running", "calibrated:2x16", "batch")
# Neither a multiple of a batch nor of a vector register.
N_IMAGES = 21


def middling_size(graphs: list[Graph]) -> int:
    """Return the median number of values per image that norms of the graphs have."""
    nodes = [node for graph in graphs for node in graph.nodes if "batch_norm" in node.op]
    return int(np.median([math.prod(node.shape[1:]) for node in nodes]))


@dataclass(frozen=True)
class Case:
    """A supernet in one BatchNorm mode, and what scoring its subnets needs."""

    net: Supernet
    recorder: SubnetRecorder
    calibrator: Calibrator | None
    archs: list[Arch]
    images: ImageSet

    @property
    def graphs(self) -> list[Graph]:
        return [self.recorder.record(arch) for arch in self.archs]


@cache
def supernet(space: str) -> Supernet:
    return _randomise_norms(build_supernet(space, OPTIONS[space], seed=0)).eval()


def relatives(net: Supernet, n: int) -> list[Arch]:
    """Return a random arch, and mutants of it that compute different functions."""
    rng = np.random.default_rng(3)
    recorder = SubnetRecorder(net, BatchNormMode("batch"))
    parent = net.space.sample(1, rng=rng, measure="encodings")[0]
    found = {recorder.record(parent).function_key: parent}
    while len(found) < n:
        arch = net.space.mutate(parent, rng=rng)
        found.setdefault(recorder.record(arch).function_key, arch)
    return list(found.values())


@cache
def case(space: str, bn: str) -> Case:
    net, mode = supernet(space), BatchNormMode.parse(bn)
    size = OPTIONS[space]["image_size"]
    recorder = SubnetRecorder(net, mode)
    calibrator = None
    if mode.kind == "calibrated":
        factory = SessionFactory(recorder.weights, CPU)
        train = random_images(mode.n_images, 1, shape=(3, size, size))
        calibrator = Calibrator(factory, recorder.weights, train, mode)
    images = random_images(N_IMAGES, 0, shape=(3, size, size))
    return Case(net, recorder, calibrator, relatives(net, 4), images)
