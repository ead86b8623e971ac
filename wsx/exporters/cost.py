"""What a subnet costs, measured on its graph: for spaces that have no formula. Torch-free."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wsx.exporters.graph import Graph, Node
from wsx.exporters.weights import WeightFile
from wsx.spaces import Arch, Cost, Space

if TYPE_CHECKING:
    from wsx.exporters.subnets import SubnetRecorder


_COSTLY = frozenset({"conv", "linear", "matmul", "scan"})


def subnet_cost(recorder: "SubnetRecorder", arch: Arch, graph: Graph | None = None) -> Cost:
    """Return what the space says that a subnet costs, measured on the subnet where it does not say.

    Args:
        recorder: Of the subnet's supernet.
        arch: The subnet.
        graph: The subnet recorded, where that is done already.

    Raises:
        ExportError: It must be measured, and the subnet cannot be recorded.
    """
    cost = formula_cost(recorder.space, arch, recorder.macro)
    if cost is not None:
        return cost
    return graph_cost(graph or recorder.record(arch), recorder.weights)


def formula_cost(space: Space, arch: Arch, macro: Mapping[str, int]) -> Cost | None:
    """Return what a space's formula gives, None where it has none or the supernet says that it does not hold.

    ``ties_weights`` in the macro says so: operations of one subnet share weights, while formulae count each.
    """
    return None if macro.get("ties_weights") else space.cost(arch, macro)


def graph_cost(graph: Graph, weights: WeightFile) -> Cost:
    """Return params and multiply-adds of a recorded subnet, counted as ``Cost`` says.

    A weight that several nodes use counts once; running averages are no parameters. Of text it is the cost of
    one token.
    """
    learnt: set[str | None] = set()
    for node in graph.nodes:
        if names := node.kind.weights:
            learnt.update(names[:2] if node.kind.op.startswith("batch_norm") else names)
    learnt.discard(None)
    params = sum(weights[str(name)].n_values for name in learnt)
    return Cost(params, sum(node_multiply_adds(graph, weights)))


def node_multiply_adds(graph: Graph, weights: WeightFile) -> list[int]:
    """Return the multiply-adds of every node for one image, counted as ``Cost`` says."""
    return [
        _multiply_adds(graph, node, weights) if node.kind.op in _COSTLY else 0
        for node in graph.nodes
    ]


def _multiply_adds(graph: Graph, node: Node, weights: WeightFile) -> int:
    if node.op == "scan":
        cell = node["body"].graph
        return sum(node_multiply_adds(cell, weights))
    # Axes below zero are of any size: batch and time.
    n_outputs = math.prod(n for n in node.shape if n > 0)
    if node.op == "matmul":
        return n_outputs * graph.operands(node)[0].shape[-1]
    kernel, bias = node.weights
    per_output = math.prod(weights[str(kernel)].shape[1:]) + (bias is not None)
    return n_outputs * per_output
