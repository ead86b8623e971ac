"""The equality gate: a subnet as ``supernet(x, arch)``, as an extracted module and as ONNX must agree.

Top-1 must be equal on every image, except where the two best logits lie nearer to each other than the
rounding of the two computations; those near-ties are counted and reported.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wsx.data import ImageSet
from wsx.evaluators.devices import SessionFactory
from wsx.evaluators.eager import EagerOracle
from wsx.exporters.batchnorm import Statistics
from wsx.exporters.emit import INPUT
from wsx.exporters.extract import to_module
from wsx.exporters.graph import Graph
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import Arch

RELATIVE_TOLERANCE = 1e-4
"""Largest difference of logits, relative to the largest logit of the batch: float32 through some 70 layers,
summed in another order, was measured at up to 5e-6."""


@dataclass(frozen=True)
class Agreement:
    """How far two computations of one subnet are apart.

    Attributes:
        arch: The subnet, in text form.
        largest_difference: Largest absolute difference of a logit, among all pairs of paths.
        scale: Largest absolute logit.
        n_images: Images compared.
        n_near_ties: Images whose top-1 differs while the two best logits are within the tolerance.
        n_wrong: Images whose top-1 differs otherwise.
    """

    arch: str
    largest_difference: float
    scale: float
    n_images: int
    n_near_ties: int
    n_wrong: int

    @property
    def is_equal(self) -> bool:
        """Whether the paths agree."""
        is_near = self.largest_difference <= RELATIVE_TOLERANCE * self.scale
        return self.n_wrong == 0 and is_near and math.isfinite(self.scale)


class EqualityGate:
    """Compares the three paths of subnets on some images.

    Args:
        oracle: Runs ``supernet(x, arch)``.
        recorder: Records the graph that extraction and ONNX start from.
        factory: Makes sessions.
        images: What to compare on, as one batch.
        calibrate: Statistics of a graph, in calibrated mode.
    """

    def __init__(
        self,
        oracle: EagerOracle,
        recorder: SubnetRecorder,
        factory: SessionFactory,
        images: ImageSet,
        calibrate: Callable[[Graph], Statistics] | None,
    ) -> None:
        self._oracle = oracle
        self._recorder = recorder
        self._factory = factory
        self._images = images
        self._calibrate = calibrate

    def check(self, arch: Arch, model: bytes) -> Agreement:
        """Return how a model that was exported from an arch agrees with the other two paths."""
        graph = self._recorder.record(arch)
        statistics = None if self._calibrate is None else self._calibrate(graph)
        x = self._images.floats()
        module = to_module(graph, self._recorder.weights, statistics)
        with torch.inference_mode():
            extracted = module(torch.from_numpy(x)).numpy()
        self._oracle.prepare(arch)
        eager = self._oracle.logits(self._images, arch, batch_size=len(self._images))
        session: Any = self._factory.session(model)
        exported = session.run(None, {INPUT: x})[0]
        return compare(self._recorder.space.format(arch), [eager, extracted, exported])


def compare(text: str, paths: list[np.ndarray]) -> Agreement:
    """Return how computations of logits (image, class) agree with the first of them."""
    first = paths[0]
    scale = float(np.abs(first).max())
    best = np.sort(first, axis=1)
    is_tie = best[:, -1] - best[:, -2] <= 2 * RELATIVE_TOLERANCE * scale
    differs = np.zeros(len(first), dtype=bool)
    largest = 0.0
    for other in paths[1:]:
        differs |= other.argmax(axis=1) != first.argmax(axis=1)
        # A path that is not finite differs without bound.
        gap = np.abs(other - first).max()
        largest = max(largest, float(gap) if np.isfinite(gap) else float("inf"))
    return Agreement(
        text,
        largest,
        scale,
        len(first),
        int((differs & is_tie).sum()),
        int((differs & ~is_tie).sum()),
    )
