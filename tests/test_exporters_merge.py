import itertools
import platform

import numpy as np
import pytest
from merging_cases import EACH_SPACE, MODES, Case, case, middling_size

from wsx.errors import ExportError
from wsx.evaluators.blocks import cpu_block_size
from wsx.evaluators.devices import CPU, SessionFactory
from wsx.exporters import merge
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.cost import node_multiply_adds
from wsx.exporters.emission import PORTABLE, Target
from wsx.exporters.emit import INPUT, emit_merged, emit_subnet
from wsx.exporters.graph import BATCH, Graph, GraphBuilder, node_kind
from wsx.exporters.merge import merge_calibration, merge_graphs, sharing_keys
from wsx.exporters.subnets import SubnetRecorder
from wsx.exporters.weights import WeightFile


def logits(case: Case, model) -> list[np.ndarray]:
    session = SessionFactory(case.recorder.weights, CPU).session(model.SerializeToString())
    return session.run(None, {INPUT: case.images.floats()})


def alone(case: Case, graph: Graph, target: Target = PORTABLE) -> np.ndarray:
    statistics = case.calibrator and case.calibrator(graph)
    weights = case.recorder.weights
    return logits(case, emit_subnet(graph, weights, statistics=statistics, target=target))[0]


def together(case: Case, graphs: list[Graph], target: Target = PORTABLE) -> list[np.ndarray]:
    statistics = case.calibrator and case.calibrator(merge_calibration(graphs).graph)
    merged, weights = merge_graphs(graphs), case.recorder.weights
    return logits(case, emit_merged(merged, weights, statistics=statistics, target=target))


# Some norms of each space are smaller than the median, some are not.
TARGETS = {
    "portable": lambda graphs: PORTABLE,
    "blocked": lambda graphs: Target(block_size=cpu_block_size()),
    "partly blocked": lambda graphs: Target(
        block_size=cpu_block_size(), min_block_values=middling_size(graphs)
    ),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bn", MODES)
@pytest.mark.parametrize("space", EACH_SPACE)
def test_logits_of_a_merged_model_equal_those_one_by_one_bit_by_bit(space, bn, target):
    some = case(space, bn)
    graphs = some.graphs
    target = TARGETS[target](graphs)
    found = together(some, graphs, target)
    assert len(merge_graphs(graphs).graph.nodes) < sum(len(graph.nodes) for graph in graphs)
    for values, graph in zip(found, graphs, strict=True):
        assert np.array_equal(values, alone(some, graph, target))
    # Unequal subnets give unequal logits, or equality would mean little.
    assert len({values.tobytes() for values in found}) == len(graphs)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="fusions differ between processors"
)
def test_sharing_every_equal_node_rounds_differently(monkeypatch):
    some = case("cell64", "running")
    expected = [alone(some, graph) for graph in some.graphs]
    monkeypatch.setattr(merge, "_takers", lambda nodes, norms: [None] * len(nodes))
    found = together(some, some.graphs)
    assert not all(map(np.array_equal, found, expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# A second, slow statement of when two subnets share a node.
FREE_READERS = {"conv", "avg_pool", "max_pool", "global_avg_pool", "cat"}
FREE_VALUES = {"input", "relu", "clip", "avg_pool", "max_pool", "global_avg_pool", "cat"}


class SlowSharing:
    """Compares nodes of two graphs by walking them, without digests over what is around a node."""

    def __init__(self, *, norms: set[str]):
        self._norms = norms

    def taker(self, graph, position):
        readers = [i for i, n in enumerate(graph.nodes) for j in n.inputs if j == position]
        if len(readers) != 1 or graph.nodes[position].op in FREE_VALUES | self._norms:
            return None
        return None if graph.nodes[readers[0]].op in FREE_READERS | self._norms else readers[0]

    def same_value(self, a, i, b, j):
        if a.nodes[i].digest != b.nodes[j].digest:
            return False
        return all(
            (self.taker(a, x) is None) == (self.taker(b, y) is None) and self.same_value(a, x, b, y)
            for x, y in zip(a.nodes[i].inputs, b.nodes[j].inputs, strict=True)
        )

    def is_shared(self, a, i, b, j):
        if not self.same_value(a, i, b, j):
            return False
        x, y = self.taker(a, i), self.taker(b, j)
        if x is None or y is None:
            return x is y
        return self.is_shared(a, x, b, y)


@pytest.mark.parametrize("space", ["nasbench201", "cell64"])
@pytest.mark.parametrize("bn", ["running", "batch"])
def test_shared_nodes_are_those_of_the_slow_count(space, bn):
    graphs = case(space, bn).graphs[:3]
    slow = SlowSharing(norms={"batch_norm_batch"})
    keys = [sharing_keys(graph).scoring for graph in graphs]
    n_shared = 0
    for (a, x), (b, y) in itertools.combinations(zip(graphs, keys, strict=True), 2):
        for i, j in itertools.product(range(len(a.nodes)), range(len(b.nodes))):
            expected = a.nodes[i].digest == b.nodes[j].digest and slow.is_shared(a, i, b, j)
            assert (x[i] == y[j]) == expected
            n_shared += expected
    assert n_shared > len(graphs)


@pytest.mark.parametrize("bn", MODES)
def test_a_merged_graph_holds_every_subnet(bn):
    graphs = case("proxylessnas", bn).graphs
    merged = merge_graphs(graphs)
    for graph, places in zip(graphs, merged.places, strict=True):
        for node, place in zip(graph.nodes, places, strict=True):
            found = merged.graph.nodes[place]
            assert found.identity == node.identity
            assert found.inputs == tuple(places[i] for i in node.inputs)
    assert merged.outputs == [places[-1] for places in merged.places]
    assert {place for places in merged.places for place in places} == set(
        range(len(merged.graph.nodes))
    )


def test_one_subnet_merges_with_itself_into_one():
    graph = case("nasbench201", "running").graphs[0]
    merged = merge_graphs([graph, graph])
    assert len(merged.graph.nodes) == len(graph.nodes)
    assert merged.outputs[0] == merged.outputs[1]


def test_shares_divide_what_is_common_and_add_up():
    some = case("proxylessnas", "running")
    graphs, weights = some.graphs, some.recorder.weights
    merged = merge_graphs(graphs)
    costs = node_multiply_adds(merged.graph, weights)
    shares = merged.shares(costs)
    assert sum(shares) == pytest.approx(1.0, rel=1e-12)
    users = [[p for p in merged.places if i in p] for i in range(len(costs))]
    for places, share in zip(merged.places, shares, strict=True):
        own = sum(costs[i] / len(users[i]) for i in places)
        assert share == pytest.approx(own / sum(costs), rel=1e-12)
    assert merged.shares([0] * len(costs)) == [1 / len(graphs)] * len(graphs)


def a_graph(size: int, *, is_calibrated: bool = False) -> Graph:
    builder = GraphBuilder()
    x = builder.add(node_kind("input", shape=(BATCH, 3, size, size)))
    op = "batch_norm_calibrated" if is_calibrated else "relu"
    return builder.graph(builder.add(node_kind(op, shape=(BATCH, 3, size, size)), [x]))


def test_images_of_two_shapes_are_refused():
    with pytest.raises(ExportError, match="different shapes"):
        merge_graphs([a_graph(8), a_graph(9)])


def test_a_subnet_without_norms_is_refused_as_it_is_alone():
    with pytest.raises(ExportError, match="no BatchNorm layers"):
        merge_calibration([a_graph(8, is_calibrated=True), a_graph(8)])


def test_statistics_missing_from_a_merged_model_are_an_error():
    with pytest.raises(ExportError, match="no statistics"):
        emit_merged(merge_graphs([a_graph(8, is_calibrated=True)]), WeightFile({}))


def test_calibrated_nodes_go_by_one_name_in_both_graphs():
    recorder = SubnetRecorder(case("darts", "running").net, BatchNormMode("calibrated", 1, 8))
    graphs = [recorder.record(arch) for arch in case("darts", "running").archs]

    def names(graph):
        return {node.digest for node in graph.nodes if node.op == "batch_norm_calibrated"}

    merged, calibration = merge_graphs(graphs).graph, merge_calibration(graphs).graph
    assert names(merged) == names(calibration)
    n_calibrated = sum(node.op == "batch_norm_calibrated" for node in calibration.nodes)
    assert len(names(calibration)) == n_calibrated
