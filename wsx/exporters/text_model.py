"""From the graph of a text subnet to ONNX: tokens, hidden -> logits, next_hidden."""

from collections.abc import Mapping

from onnx import TensorProto, helper

from wsx.exporters.emission import Emission
from wsx.exporters.graph import Graph
from wsx.exporters.operators import OPERATORS
from wsx.exporters.operators.recurrent import axis_name
from wsx.exporters.weights import WeightFile

TOKENS, HIDDEN, NEXT_HIDDEN = "tokens", "hidden", "next_hidden"
_TYPES = {TOKENS: TensorProto.INT64, HIDDEN: TensorProto.FLOAT}


def is_text(graph: Graph) -> bool:
    """Return whether a graph reads tokens and a hidden state."""
    return graph.output.op == "outputs"


def emit_text_subnet(
    graph: Graph, weights: WeightFile, metadata: Mapping[str, str], *, output: str
) -> bytes:
    """Return the model of a text subnet, serialised; batch and time are of any size.

    Args:
        graph: The subnet, whose output node is of op ``outputs``.
        weights: The shared weights; the model refers to them by offset.
        metadata: Written into the model's properties.
        output: Name of the logits (stream, time, token).
    """
    emission = Emission(weights)
    names: list[str] = []
    inputs = []
    for node in graph.nodes:
        operands = [names[i] for i in node.inputs]
        if node.op == "input":
            name = node["name"]
            sizes = [axis_name(n) for n in node.shape]
            inputs.append(helper.make_tensor_value_info(name, _TYPES[name], sizes))
            names.append(name)
        else:
            names.append(OPERATORS[node.op].emit(emission, node, operands))
    emission.named("Identity", [names[-1]], [output])
    hidden = next(node for node in graph.nodes if node.op == "input" and node["name"] == HIDDEN)
    shapes = {output: graph.output.shape, NEXT_HIDDEN: hidden.shape}
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [axis_name(n) for n in shape])
        for name, shape in shapes.items()
    ]
    return emission.model(inputs, outputs, metadata)
