"""Several recorded subnets as one graph, in which what they have in common is one node.

ONNX Runtime folds nodes into one another, Conv with BatchNorm and Conv with Add say, and does so only where a
value has a single reader; folded and apart, sums are rounded differently. So two subnets share a node only where
merging leaves it computed as in each of them alone: where it has several readers in both, where its only reader
takes nothing over, or where its only reader is shared as well. Other nodes are copied, and sessions must not merge
the copies (CommonSubexpressionElimination). Then logits stay equal bit by bit.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from wsx.errors import ExportError
from wsx.exporters.graph import Graph, Node

# Operators into which, or from which, no fusion reaches that could round differently.
_FREE_READERS = frozenset({"conv", "avg_pool", "max_pool", "global_avg_pool", "cat"})
_FREE_VALUES = frozenset(
    {"input", "relu", "clip", "avg_pool", "max_pool", "global_avg_pool", "cat"}
)
# With statistics of the batch a norm has nothing that could be folded.
_BATCH_NORM = frozenset({"batch_norm_batch"})
_CALIBRATING = _BATCH_NORM | {"batch_norm_calibrated"}


@dataclass(frozen=True)
class MergedGraph:
    """Nodes of several subnets, operands first.

    Attributes:
        graph: All nodes; its own ``output`` means nothing.
        places: Of each subnet, where its nodes lie in the graph, its output last.
    """

    graph: Graph
    places: tuple[tuple[int, ...], ...]

    @property
    def outputs(self) -> list[int]:
        """Where each subnet's output lies."""
        return [places[-1] for places in self.places]

    def shares(self, costs: Sequence[float]) -> list[float]:
        """Return each subnet's part of a whole, which the parts add up to.

        Args:
            costs: Of each node; divided equally among the subnets that use it. All zero means equal parts.
        """
        n_users = [0] * len(costs)
        for places in self.places:
            for place in places:
                n_users[place] += 1
        total = sum(costs)
        if not total:
            return [1 / len(self.places)] * len(self.places)
        return [sum(costs[i] / n_users[i] for i in places) / total for places in self.places]


@dataclass(frozen=True)
class SharingKeys:
    """What subnets must agree in to share a node, of the nodes of one subnet.

    Attributes:
        scoring: Of each node, when it is scored.
        calibration: Of each node that calibration runs; empty in modes without.
        names: What tells nodes apart: digests, and how the statistics that nodes depend on were computed.
    """

    scoring: list[str]
    calibration: list[str]
    names: list[str]


def sharing_keys(graph: Graph) -> SharingKeys:
    """Return the keys of a subnet's nodes."""
    names = [node.digest for node in graph.nodes]
    part = calibration_part(graph)
    values, calibration = _keys(part.nodes, names, _CALIBRATING)
    names[: len(values)] = values
    return SharingKeys(_keys(graph.nodes, names, _BATCH_NORM)[1], calibration, names)


def calibration_part(graph: Graph) -> Graph:
    """Return the nodes that calibration runs: up to the last one to calibrate."""
    for position in range(len(graph.nodes), 0, -1):
        if graph.nodes[position - 1].op == "batch_norm_calibrated":
            return Graph(graph.nodes[:position])
    return Graph(())


def merge_graphs(graphs: Sequence[Graph]) -> MergedGraph:
    """Return subnets as one graph to score them with.

    A calibrated node's digest there is the one it has in ``merge_calibration``.

    Raises:
        ExportError: They read images of different shapes.
    """
    keys = [sharing_keys(graph) for graph in graphs]
    return _merge(graphs, [k.scoring for k in keys], [k.names for k in keys])


def merge_calibration(graphs: Sequence[Graph]) -> MergedGraph:
    """Return what calibration runs of each subnet, as one graph.

    Raises:
        ExportError: They read images of different shapes, or one has nothing to calibrate.
    """
    keys = [sharing_keys(graph) for graph in graphs]
    if not all(k.calibration for k in keys):
        raise ExportError("one of the subnets has no BatchNorm layers to calibrate")
    parts = [calibration_part(graph) for graph in graphs]
    return _merge(parts, [k.calibration for k in keys], [k.names for k in keys])


def _keys(
    nodes: Sequence[Node], names: Sequence[str], batch_norms: frozenset[str]
) -> tuple[list[str], list[str]]:
    """Return digests over how each node's value is computed when the subnet runs alone, and the sharing keys."""
    takers = _takers(nodes, batch_norms)
    values: list[str] = []
    for node, name in zip(nodes, names, strict=False):
        operands = [values[i] + ("free" if takers[i] is None else "taken") for i in node.inputs]
        values.append(_digest(name, *operands))
    keys = list(values)
    for position in range(len(nodes) - 1, -1, -1):
        taker = takers[position]
        if taker is not None:
            keys[position] = _digest(values[position], keys[taker])
    return values, keys


def _takers(nodes: Sequence[Node], batch_norms: frozenset[str]) -> list[int | None]:
    """Return of each node its only reader, if that may take it over; None otherwise."""
    n_readers, reader = [0] * len(nodes), [0] * len(nodes)
    for position, node in enumerate(nodes):
        for operand in node.inputs:
            n_readers[operand] += 1
            reader[operand] = position
    free_values, free_readers = _FREE_VALUES | batch_norms, _FREE_READERS | batch_norms
    return [
        reader[position]
        if n_readers[position] == 1
        and node.op not in free_values
        and nodes[reader[position]].op not in free_readers
        else None
        for position, node in enumerate(nodes)
    ]


def _digest(*parts: str) -> str:
    return hashlib.blake2b("".join(parts).encode(), digest_size=16).hexdigest()


def _merge(
    graphs: Sequence[Graph], keys: Sequence[Sequence[str]], names: Sequence[Sequence[str]]
) -> MergedGraph:
    if len({graph.input_shape for graph in graphs}) > 1:
        raise ExportError("subnets that read images of different shapes cannot be one model")
    nodes: list[Node] = []
    position_of: dict[str, int] = {}
    members = []
    for graph, graph_keys, graph_names in zip(graphs, keys, names, strict=True):
        places: list[int] = []
        for node, key, name in zip(graph.nodes, graph_keys, graph_names, strict=False):
            if key not in position_of:
                position_of[key] = len(nodes)
                inputs = tuple(places[i] for i in node.inputs)
                nodes.append(Node(node.kind, inputs, name))
            places.append(position_of[key])
        members.append(tuple(places))
    return MergedGraph(Graph(tuple(nodes)), tuple(members))

