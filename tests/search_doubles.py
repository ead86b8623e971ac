"""Spaces and objectives with planted values, for the tests of searches."""

import itertools
import math
from types import SimpleNamespace

import numpy as np

from wsx.evaluators.batches import Tally
from wsx.evaluators.engines import Timing
from wsx.spaces import Cost, ProductSpace
from wsx.store import ScoreKey

N_DECISIONS, N_OPTIONS, N_IMAGES = 10, 4, 64
SPACE = ProductSpace("planted", {f"d{i}": list(range(N_OPTIONS)) for i in range(N_DECISIONS)})
SMALL = ProductSpace("small", {"a": [0, 1, 2], "b": [0, 1, 2], "c": [0, 1]})
TARGET = (3, 0, 1, 2, 2, 1, 0, 3, 1, 2)
KEY = ScoreKey("planted", "0" * 64, "none", "1" * 64, "running", "", 0, "float32", "double")


def n_hits(arch):
    return sum(a == b for a, b in zip(arch, TARGET, strict=False))


def cost(arch):
    """Params are the sum of the options, multiply-adds that of their squares."""
    return Cost(sum(arch), sum(option**2 for option in arch))


class Planted:
    """Counts hits on the target; some archs fail."""

    def __init__(self, value=n_hits, *, broken=lambda arch: False):
        self.asked = []
        self._value, self._broken = value, broken

    def score(self, archs, on_scored):
        self.asked.append(list(archs))
        on_scored(len(archs))
        return [math.nan if self._broken(arch) else float(self._value(arch)) for arch in archs]

    def identity(self, arch):
        return arch


class EvenSpace(ProductSpace):
    """Archs whose options add up to an even number: no arch has a neighbour."""

    def __init__(self):
        super().__init__("even", {"a": [0, 1], "b": [0, 1], "c": [0, 1]})
        self._archs = [a for a in itertools.product(range(2), repeat=3) if sum(a) % 2 == 0]

    def is_valid(self, arch):
        return sum(arch) % 2 == 0

    @property
    def n_archs(self):
        return len(self._archs)

    def arch_at(self, index):
        return self._archs[index]


class PlantedEngine:
    """Gives images in proportion to hits; can be broken, or interrupted after so many subnets."""

    provider = "double"

    def __init__(self, *, broken=(), diverged=(), n_until_interrupt=None):
        self.archs = []
        self._broken, self._diverged = set(broken), set(diverged)
        self._n_until_interrupt = n_until_interrupt

    def score(self, arch):
        if len(self.archs) == self._n_until_interrupt:
            raise KeyboardInterrupt
        self.archs.append(arch)
        if arch in self._broken:
            raise RuntimeError(f"cannot run {arch}")
        # The last decision does nothing, so that archs share functions.
        outcomes = np.arange(N_IMAGES) < 6 * n_hits(arch[:-1])
        loss = math.nan if arch in self._diverged else float(N_IMAGES - outcomes.sum())
        timing = Timing(record=0, calibrate=0, build=0, run=0)
        return Tally(int(outcomes.sum()), loss, outcomes), timing


def source(space=SPACE):
    return SimpleNamespace(space=space, cost=cost, function_key=lambda arch: repr(arch[:-1]))
