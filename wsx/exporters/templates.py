"""Writing the nodes of a graph: what a kind of node becomes in ONNX is learnt once and repeated."""

from typing import Any

import onnx

from wsx.exporters.emission import Emission, Template, node_content
from wsx.exporters.graph import Node
from wsx.exporters.operators import OPERATORS


def emit_node(emission: Emission, node: Node, operands: list[str]) -> str:
    """Write a node, given the names of its operands, and return the name of its value."""
    key = (node.identity, node.shape, len(operands), emission.has_fused_norm)
    templates: dict[Any, Template | None] = emission.weights.emitted
    if key not in templates:
        templates[key] = _Learner(emission, len(operands)).template(node)
    template = templates[key]
    if template is None:
        return OPERATORS[node.op].emit(emission, node, operands)
    return emission.repeat(template, operands)


class _Learner(Emission):
    """Notes what one node becomes, and whether it would be the same anywhere else."""

    def __init__(self, emission: Emission, n_operands: int) -> None:
        super().__init__(emission.weights, has_fused_norm=emission.has_fused_norm)
        self._operands = [f"operand {i}" for i in range(n_operands)]
        self._places = {name: place for place, name in enumerate(self._operands)}
        self._steps: list[tuple[list[int | str], int, bytes]] = []
        self._is_repeatable = True

    def template(self, node: Node) -> Template | None:
        """Return what the node becomes, None if that depends on more than its kind."""
        output = OPERATORS[node.op].emit(self, node, self._operands)
        if not self._is_repeatable:
            return None
        return Template(self._steps, self.initializers, self._places.get(output, output))

    def ops(self, kind: str, inputs: list[str], n_outputs: int, **attributes: Any) -> list[str]:
        outputs = [f"value {len(self._places) + i}" for i in range(n_outputs)]
        places = [self._places.get(name, name) for name in inputs]
        self._steps.append((places, n_outputs, node_content(kind, tuple(attributes.items()))))
        for name in outputs:
            self._places[name] = len(self._places)
        return outputs

    # Names that are given, nodes moved elsewhere and numbers of nodes are those of one graph.
    def named(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        self._is_repeatable = False

    def node(self, node: onnx.NodeProto) -> None:
        self._is_repeatable = False

    def take_nodes(self, start: int) -> onnx.GraphProto:
        self._is_repeatable = False
        return onnx.GraphProto()

    @property
    def n_nodes(self) -> int:
        self._is_repeatable = False
        return 0
