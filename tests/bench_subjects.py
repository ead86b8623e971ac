"""Small subjects of measurements, in every BatchNorm mode."""

from wsx.bench.subject import Conditions, Subject, random_subject
from wsx.evaluators.eager import EagerOracle
from wsx.exporters.batchnorm import BatchNormMode
from wsx.spaces import Arch

CALIBRATED = "calibrated:2x16"
TINY = {"channels": 4, "cells": 1, "image_size": 8}
# Neither a multiple of a baseline's batch nor below the smallest one.
N_IMAGES = 70
BATCH_SIZE = 32


def tiny_subject(
    bn: str, *, space: str = "nasbench201", options: dict | None = None, n_archs: int = 3
) -> Subject:
    mode = BatchNormMode.parse(bn)
    conditions = Conditions(n_archs, N_IMAGES, mode, batch_size=BATCH_SIZE, n_workers=1)
    return random_subject(space, TINY if options is None else options, conditions)


def slow_counts(
    subject: Subject, mode: BatchNormMode | None = None, batch_size: int = BATCH_SIZE
) -> list[int]:
    mode = mode or subject.mode
    oracle = EagerOracle(subject.supernet, mode, subject.calibration, is_channels_last=False)
    return [
        oracle.score(subject.images, a, batch_size=batch_size)[0].correct for a in subject.archs
    ]


def as_counts(subject: Subject, counts: list[int]) -> dict[Arch, int]:
    return dict(zip(subject.archs, counts, strict=True))
