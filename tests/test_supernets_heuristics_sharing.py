import itertools
import re

import numpy as np
import pytest
import torch
from heuristic_nets import SMALL, images, make, relative
from torch import nn

from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.cost import formula_cost, subnet_cost
from wsx.exporters.extract import extract
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES
from wsx.supernets import build_supernet
from wsx.supernets.shares import edge_owners, sources_of

PAIRS = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
CELL64_PAIRS = ((0, 1), (0, 2), (1, 2))


def sample(space, n=4):
    return SPACES[space].sample(n, rng=np.random.default_rng(0), measure="encodings")


# Who owns what -------------------------------------------------------------------------------------------------


def test_owners_by_hand():
    assert edge_owners("edge", PAIRS) == (0, 1, 2, 3, 4, 5)
    assert edge_owners("node", PAIRS) == (0, 1, 1, 2, 2, 2)
    # But for the edges from the cell's input only 1->3 and 2->3 have a target in common.
    assert edge_owners("inner", PAIRS) == (0, 1, 2, 3, 4, 4)
    assert sources_of((0, 1, 2, 3, 4, 4), PAIRS) == [[0], [0], [1], [0], [1, 2]]
    assert edge_owners("node", CELL64_PAIRS) == (0, 1, 1)


def of_edge(space, shares, name):
    """The name in a supernet that shares, and the source, of a weight of a supernet in which edges own all."""
    if space == "darts":
        match = re.search(r"edge(\d)_(\d)", name)
        return match and (name.replace(match[0], f"node{match[2]}"), int(match[1]))
    match = re.search(r"edges\.(\d)", name)
    if match is None:
        return None
    pairs = PAIRS if space == "nasbench201" else CELL64_PAIRS
    owner = edge_owners(shares, pairs)[int(match[1])]
    return name.replace(match[0], f"edges.{owner}"), pairs[int(match[1])][0]


@pytest.mark.parametrize("has_wsbn", [False, True])
@pytest.mark.parametrize(
    ("space", "shares"),
    [("nasbench201", "node"), ("nasbench201", "inner"), ("cell64", "node"), ("darts", "node")],
)
@torch.no_grad()
def test_sharing_is_edges_with_equal_weights_and_wsbn_norms_of_their_own(space, shares, has_wsbn):
    """A supernet whose edges own their weights, given those of the one that shares, computes the same."""
    options = {"is_affine": True}
    shared = make(space, shares=shares, has_wsbn=has_wsbn, **options).double()
    owned = make(space, shares="edge", seed=1, **options).double()
    state, used = shared.state_dict(), set()
    for name, tensor in owned.state_dict().items():
        other, source = of_edge(space, shares, name) or (name, 0)
        if other not in state:
            path, _, leaf = other.rpartition(".")
            other = f"{path}.{source}.{leaf}"
        tensor.copy_(state[other])
        used.add(other)
    assert used == set(state)
    assert any(re.search(r"\.1\.running_mean", name) for name in used) or not has_wsbn
    x = images(shared, 2)
    for arch in sample(space):
        assert relative(shared(x, arch), owned(x, arch)) < 1e-12


@pytest.mark.parametrize("space", ["nasbench201", "darts", "cell64"])
def test_tied_weights_count_once_and_stay_one_when_extracted(space):
    supernet = make(space, shares="node")
    recorder = SubnetRecorder(supernet, BatchNormMode("batch"))
    assert supernet.macro()["ties_weights"]
    gaps = []
    for arch in sample(space, 8):
        said = subnet_cost(recorder, arch)
        module = extract(supernet, arch)
        assert sum(p.numel() for p in module.parameters()) == said.params
        assert formula_cost(supernet.space, arch, supernet.macro()) is None
        gaps.append(supernet.space.cost(arch, supernet.macro()).params - said.params)
    assert min(gaps) >= 0
    assert max(gaps) > 0
    assert not make(space).macro()["ties_weights"]


def test_slots_of_a_strided_node_train_one_weight():
    """The same convolution at stride 1 and 2 is two layers with one parameter."""
    space = SPACES["darts"]
    supernet = make("darts", shares="node", cells=1)
    name = "dil_conv_3x3"
    skips = "('skip_connect', 0), ('skip_connect', 1)"
    arch = space.parse(
        f"Genotype(normal=[{', '.join([skips] * 4)}], normal_concat=range(2, 6), "
        f"reduce=[{skips}, ('{name}', 0), ('{name}', 2), {skips}, {skips}], reduce_concat=range(2, 6))"
    )
    module = extract(supernet, arch)
    strided = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.dilation == (2, 2)]
    assert {m.stride for m in strided} == {(1, 1), (2, 2)}
    assert strided[0].weight is strided[1].weight


# WSBN of NAS-Bench-101 -------------------------------------------------------------------------------------------


def feeding(arch, n_vertices, vertex):
    """Who feeds a vertex on a path from input to output, by listing all paths."""
    pairs = itertools.combinations(range(n_vertices), 2)
    edges = [pair for pair, bit in zip(pairs, arch, strict=False) if bit]

    def paths(start):
        if start == n_vertices - 1:
            return [[start]]
        return [[start, *rest] for i, j in edges if i == start for rest in paths(j)]

    return {i for path in paths(0) for i, j in itertools.pairwise(path) if j == vertex}


@pytest.mark.parametrize("slicing", ["fixed", "chunks"])
@torch.no_grad()
def test_a_vertex_has_norms_for_every_set_of_vertices_that_feeds_it(slicing):
    space = SPACES["nasbench101-v4"]
    wsbn = make("nasbench101-v4", has_wsbn=True, slicing=slicing).double()
    plain = make("nasbench101-v4", slicing=slicing, seed=1).double()
    x, seen = images(wsbn, 2), set()
    for arch in space.sample(12, rng=np.random.default_rng(0), measure="archs"):
        state = wsbn.state_dict()
        for name, tensor in plain.state_dict().items():
            other = name
            if name not in state:
                vertex = int(re.search(r"vertices\.(\d)", name)[1]) + 1
                number = sum(2**i for i in feeding(arch, 4, vertex)) or 1
                path, _, leaf = name.rpartition(".")
                other = f"{path}.{number}.{leaf}"
                seen.add((vertex, number))
            tensor.copy_(state[other])
        assert relative(wsbn(x, arch), plain(x, arch)) < 1e-12
    assert len(seen) >= 4


def test_there_are_as_many_norms_as_sets():
    supernet = make("nasbench101", has_wsbn=True)
    sizes = [len(m) for m in supernet.modules() if isinstance(m, nn.ModuleDict) and "1" in m]
    # Of five vertices both convolutions have them, 2^v - 1 each; the projection reads one thing only.
    assert sizes == [2**v - 1 for v in range(1, 6) for _ in range(2)]


# Weights that are computed ---------------------------------------------------------------------------------------


def test_fresh_norms_that_are_averages_stay_weights_of_their_own_layers():
    """All of them are ones and zeros: told apart by what they were computed from, not by what they are."""
    supernet = build_supernet(
        "nasbench101", SMALL["nasbench101"] | {"slicing": "interpolate"}, seed=0
    )
    for arch in sample("nasbench101"):
        expected = supernet.space.cost(arch, supernet.macro()).params
        assert sum(p.numel() for p in extract(supernet, arch).parameters()) == expected
