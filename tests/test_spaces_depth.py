"""How deep an arch is: against all paths, listed one by one."""

import numpy as np
import pytest

from wsx.spaces import SPACES
from wsx.spaces.nasbench101_cell import edges_of
from wsx.spaces.nasbench201 import EDGES, OPERATIONS
from wsx.spaces.restricted import restricted


def sampled(name, n=60):
    space = SPACES[name]
    return space, space.sample(n, rng=np.random.default_rng(0), measure="encodings")


def deepest(edges, ends, node=0, steps=()):
    """Return the most steps of all paths from a node to one of the ends; None where no path leads there."""
    found = [sum(steps)] if node in ends else []
    for source, target, is_step in edges:
        if source == node:
            one = deepest(edges, ends, target, (*steps, is_step))
            found += [] if one is None else [one]
    return max(found, default=None)


def test_nasbench201_is_as_deep_as_its_longest_path():
    space, archs = sampled("nasbench201", 200)
    depths = set()
    for arch in archs:
        edges = [
            (*edge, OPERATIONS[option] != "skip_connect")
            for edge, option in zip(EDGES, arch, strict=True)
            if OPERATIONS[option] != "none"
        ]
        assert space.depth(arch) == (deepest(edges, {3}) or 0)
        depths.add(space.depth(arch))
    assert {0, 1, 2, 3} >= depths > {1, 2}


def test_nasbench101_counts_the_vertices_of_its_longest_path():
    space, archs = sampled("nasbench101", 40)
    for arch in archs:
        pairs = edges_of(7)
        edges = [(*pair, pair[1] != 6) for pair, bit in zip(pairs, arch, strict=False) if bit]
        assert space.depth(arch) == deepest(edges, {6})
    assert len({space.depth(arch) for arch in archs}) > 2


@pytest.mark.parametrize("name", ["darts", "darts-nds"])
def test_darts_is_as_deep_as_its_normal_cell(name):
    space, archs = sampled(name)
    for arch in archs:
        edges = [
            (source, target, operation != "skip_connect")
            for target, node in enumerate(space.cells(arch)[0], 2)
            for operation, source in node
            if operation != "none"
        ]
        ends = set(range(2, 6))
        paths = [deepest(edges, ends, start) for start in (0, 1)]
        assert space.depth(arch) == max(path or 0 for path in paths)


@pytest.mark.parametrize(
    ("name", "none"), [("proxylessnas", "Zero"), ("nasbenchmacro", "Identity")]
)
def test_chains_count_their_blocks(name, none):
    space, archs = sampled(name)
    for arch in archs:
        options = [d.options[option] for d, option in zip(space.decisions, arch, strict=True)]
        assert space.depth(arch) == len(options) - options.count(none)
    assert len({space.depth(arch) for arch in archs}) > 2


def test_a_space_need_not_say():
    assert SPACES["cell64"].depth((0, 1, 2)) is None
    space = restricted(SPACES["nasbench201"], {"0->3": ["skip_connect"]})
    assert space.depth((3, 0, 3, 1, 0, 3)) == 3
