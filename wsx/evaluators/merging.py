"""Which subnets one model should score together: those that share enough, as many as fit.

Subnets are sorted by the nodes that cost anything, in the order in which they run, so that those with a long
common beginning are neighbours, as in a trie. The sorted row is then cut into bundles, such that the multiply-adds
that neighbours share within bundles are most. No pair of subnets but neighbours is compared.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from wsx.errors import OptionError
from wsx.evaluators.plan import Bundle, Group
from wsx.exporters.cost import node_multiply_adds
from wsx.exporters.graph import Graph
from wsx.exporters.merge import sharing_keys
from wsx.exporters.weights import WeightFile
from wsx.spaces import Arch

MAX_SUBNETS = 64
_VALUE_BYTES = 4


@dataclass(frozen=True)
class MergeLimits:
    """What keeps subnets apart.

    Attributes:
        n_subnets: Most subnets of one model, 1 to 64; 1 never merges.
        saving: Least share of a subnet's multiply-adds that it must have in common with its neighbour, in (0, 1].
        held_bytes: Most memory for values that wait, within a model, for other subnets than the one that runs.
    """

    n_subnets: int = 16
    saving: float = 0.03
    held_bytes: int = 256 * 2**20

    @classmethod
    def parse(cls, text: str) -> "MergeLimits":
        """Return the limits that ``auto``, ``never`` or a number of subnets stands for.

        Raises:
            OptionError: It is none of these, or out of range.
        """
        if text == "auto":
            return cls()
        n = 1 if text == "never" else int(text) if text.isdecimal() and len(text) < 4 else 0
        if not 1 <= n <= MAX_SUBNETS:
            raise OptionError(
                f"--merge {text!r} must be auto, never, or how many subnets one model may score "
                f"(1 to {MAX_SUBNETS})"
            )
        return cls(n_subnets=n)


@dataclass(frozen=True)
class Work:
    """How many images a subnet computes.

    Attributes:
        n_images: Scored.
        n_calibration: Calibrated on; 0 in modes without.
        batch_size: In flight at once, the larger one of scoring and calibration.
    """

    n_images: int
    n_calibration: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class Profile:
    """What planning keeps of a recorded subnet, some 40 bytes for each node that costs multiply-adds.

    Attributes:
        order: Eight bytes of the digest of every such node, in the order in which they run.
        keys: uint64, what subnets must agree in to share a node; scoring first, then calibration.
        costs: int64, multiply-adds of those nodes over all images.
        held_bytes: int64 (nodes of scoring + 1,), values computed before a node and read at it or later.
    """

    order: bytes
    keys: np.ndarray
    costs: np.ndarray
    held_bytes: np.ndarray


def profile(graph: Graph, weights: WeightFile, work: Work) -> Profile:
    """Return what planning needs to know of a subnet."""
    adds = node_multiply_adds(graph, weights)
    costly = [i for i, n in enumerate(adds) if n]
    shared = sharing_keys(graph)
    calibrated = [i for i in costly if i < len(shared.calibration)]
    keys = [shared.scoring[i] for i in costly] + [shared.calibration[i] for i in calibrated]
    costs = [adds[i] * work.n_images for i in costly]
    costs += [adds[i] * work.n_calibration for i in calibrated]
    held = _held_bytes(graph, work.batch_size)
    return Profile(
        b"".join(bytes.fromhex(graph.nodes[i].digest[:16]) for i in costly),
        np.array([int(key[:16], 16) for key in keys], dtype=np.uint64),
        np.array(costs, dtype=np.int64),
        held[[*costly, len(graph.nodes) - 1]],
    )


def _held_bytes(graph: Graph, batch_size: int) -> np.ndarray:
    """Return of each node the bytes of earlier values, the images aside, that it or a later node reads."""
    last_reader = list(range(len(graph.nodes)))
    for position, node in enumerate(graph.nodes):
        for operand in node.inputs:
            last_reader[operand] = position
    change = np.zeros(len(graph.nodes) + 2, dtype=np.int64)
    for position, node in enumerate(graph.nodes):
        if node.inputs:
            # The batch axis counts -1; products of the others are per image.
            n_bytes = abs(math.prod(node.shape)) * batch_size * _VALUE_BYTES
            change[position + 1] += n_bytes
            change[last_reader[position] + 1] -= n_bytes
    return np.cumsum(change)[: len(graph.nodes)]


class MergePlanner:
    """Gives function keys, and then bundles of what was asked for.

    Args:
        record: Gives the graph of an arch.
        weights: That graphs refer to.
        work: Of one subnet.
        limits: What keeps subnets apart.
    """

    def __init__(
        self,
        record: Callable[[Arch], Graph],
        weights: WeightFile,
        work: Work,
        limits: MergeLimits,
    ) -> None:
        self._record = record
        self._weights = weights
        self._work = work
        self._limits = limits
        self._profiles: dict[str, Profile] = {}

    def function_key(self, arch: Arch) -> str:
        """Return the function key of an arch; what else planning needs is kept, the graph is not."""
        graph = self._record(arch)
        key = graph.function_key
        if key not in self._profiles:
            self._profiles[key] = profile(graph, self._weights, self._work)
        return key

    def bundles(self, groups: Sequence[Group], n_workers: int) -> list[Bundle]:
        """Return all groups, those that one model should score in one bundle; forgets what it kept.

        The order hangs on the functions alone. Few groups make small bundles, so that no worker idles.
        """
        order = sorted(groups, key=lambda g: (self._profiles[g.function_key].order, g.function_key))
        profiles = [self._profiles[group.function_key] for group in order]
        self._profiles.clear()
        n_most = min(self._limits.n_subnets, -(-len(order) // n_workers))
        return [
            _bundle(order[start:stop], profiles[start:stop])
            for start, stop in cut(profiles, self._limits, n_most)
        ]


def _bundle(groups: list[Group], profiles: list[Profile]) -> Bundle:
    apart = sum(int(p.costs.sum()) for p in profiles)
    return Bundle(groups, apart, cost_together(profiles))


def cost_together(profiles: Sequence[Profile]) -> int:
    """Return the multiply-adds of subnets in one model, over all images: of each different node once."""
    keys = np.concatenate([p.keys for p in profiles])
    costs = np.concatenate([p.costs for p in profiles])
    _, first = np.unique(keys, return_index=True)
    return int(costs[first].sum())


def cut(profiles: Sequence[Profile], limits: MergeLimits, n_most: int) -> list[tuple[int, int]]:
    """Return the bundles of a sorted row, start and stop of each.

    Of all ways to cut the row within the limits, it is the one in which neighbours share most.

    Args:
        profiles: Sorted.
        limits: Minimal saving and memory.
        n_most: Most subnets of a bundle.
    """
    joins = [(0, 0), *(_join(a, b, limits) for a, b in pairwise(profiles))]
    best, start_of = [0], [0]
    for stop in range(1, len(profiles) + 1):
        most, start, saved, held = best[stop - 1], stop - 1, 0, 0
        for joined in range(stop - 1, max(stop - n_most, 0), -1):
            gain, n_bytes = joins[joined]
            saved, held = saved + gain, held + n_bytes
            if not gain or held > limits.held_bytes:
                break
            if best[joined - 1] + saved > most:
                most, start = best[joined - 1] + saved, joined - 1
        best.append(most)
        start_of.append(start)
    bundles, stop = [], len(profiles)
    while stop:
        bundles.append((start_of[stop], stop))
        stop = start_of[stop]
    return bundles[::-1]


def _join(before: Profile, after: Profile, limits: MergeLimits) -> tuple[int, int]:
    """Return what a subnet saves beside its predecessor, 0 if too little, and the bytes that are held for it."""
    _, mine, _ = np.intersect1d(after.keys, before.keys, assume_unique=True, return_indices=True)
    saved = int(after.costs[mine].sum())
    if saved < limits.saving * int(after.costs.sum()) or not saved:
        return 0, 0
    return saved, int(after.held_bytes[_n_common(before.order, after.order)])


def _n_common(a: bytes, b: bytes) -> int:
    """Return how many leading nodes two orders have in common."""
    n = min(len(a), len(b)) // 8
    x, y = (np.frombuffer(order, dtype=np.uint64, count=n) for order in (a, b))
    differs = np.flatnonzero(x != y)
    return int(differs[0]) if len(differs) else n
