"""Operators of subnets that read text: looking words up, and a cell applied along time."""

from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto, helper

from wsx.exporters.emission import Emission
from wsx.exporters.graph import BATCH, Graph, Node, Shape
from wsx.exporters.operators._base import OPERATORS, operator, same_shape

TIME = -2
"""The time axis in a shape, of any length."""


@dataclass(frozen=True, eq=False, repr=False)
class Body:
    """The graph of a cell as an attribute of the node that repeats it; equal for equal functions.

    Attributes:
        graph: From the nodes of op ``input`` named ``x`` and ``hidden`` to the next hidden state.
    """

    graph: Graph

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Body) and other.graph.function_key == self.graph.function_key

    def __hash__(self) -> int:
        return hash(self.graph.function_key)

    def __repr__(self) -> str:
        # Goes into the digest of the node.
        return f"Body({self.graph.function_key})"


def axis_name(size: int) -> int | str:
    """Return a size of a shape as ONNX has it: batch and time axes by name."""
    return {BATCH: "batch", TIME: "time"}.get(size, size)


def _embedded(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    return (*operands[0], weights[0][1])


@operator("embedding", _embedded)
def _embedding(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op("Gather", [emission.weight(str(node.weights[0])), operands[0]])


def _scanned(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    xs, hidden = operands
    body: Body = attributes["body"]
    if body.graph.output.shape != hidden:
        raise ValueError(f"the cell turns a state of shape {hidden} into {body.graph.output.shape}")
    return (*xs[:2], *hidden[1:])


@operator("scan", _scanned)
def _scan(emission: Emission, node: Node, operands: list[str]) -> str:
    xs, hidden = operands
    # Names of a body must differ from all around it; nodes are told apart by their digest.
    last, states = (f"scan.{node.digest}.{name}" for name in ("last", "states"))
    scan = helper.make_node(
        "Scan",
        [hidden, xs],
        [last, states],
        body=_emit_body(emission, node["body"].graph, f"scan.{node.digest}"),
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_output_axes=[1],
    )
    emission.node(scan)
    return states


def _emit_body(emission: Emission, graph: Graph, prefix: str) -> onnx.GraphProto:
    # Weights and constants lie in the outer graph, which bodies can read; nodes are moved into the body.
    n_outer = emission.position
    names: list[str] = []
    inputs = {}
    for node in graph.nodes:
        if node.op == "input":
            names.append(f"{prefix}.{node['name']}")
            inputs[node["name"]] = _value_info(names[-1], node.shape)
        else:
            operands = [names[i] for i in node.inputs]
            names.append(OPERATORS[node.op].emit(emission, node, operands))
    outputs = [f"{prefix}.next", f"{prefix}.state"]
    for output in outputs:
        emission.named("Identity", [names[-1]], [output])
    body = emission.take_nodes(n_outer)
    body.name = "cell"
    body.input.extend([inputs["hidden"], inputs["x"]])
    body.output.extend([_value_info(output, graph.output.shape) for output in outputs])
    return body


def _value_info(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [axis_name(n) for n in shape])


def _last_shape(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    return (operands[0][0], *operands[0][2:])


@operator("last", _last_shape)
def _last(emission: Emission, node: Node, operands: list[str]) -> str:
    last = emission.op("Gather", [operands[0], emission.integers(-1)], axis=1)
    return emission.op("Squeeze", [last, emission.integers(1)])


@operator("outputs", same_shape)
def _outputs(emission: Emission, node: Node, operands: list[str]) -> str:
    # The hidden state gets its name here; the logits get theirs as every output does.
    emission.named("Identity", [operands[1]], [str(node["hidden"])])
    return operands[0]
