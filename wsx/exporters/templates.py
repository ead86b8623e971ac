"""Writing the nodes of a graph: what a kind of node becomes in ONNX is learnt once and repeated."""

from typing import Any

import onnx

from wsx.exporters import wire
from wsx.exporters.emission import N_NAME_BYTES, Emission, Template
from wsx.exporters.graph import Node
from wsx.exporters.operators import OPERATORS


def emit_node(emission: Emission, node: Node, operands: list[str]) -> str:
    """Write a node, given the names of its operands, and return the name of its value."""
    key = (node.identity, node.shape, len(operands), emission.target)
    templates: dict[Any, Template | None] = emission.weights.emitted
    if key not in templates:
        templates[key] = _Learner(emission, len(operands)).template(node)
    template = templates[key]
    value = None if template is None else emission.repeat(template, operands)
    return OPERATORS[node.op].emit(emission, node, operands) if value is None else value


class _Learner(Emission):
    """Notes what one node becomes, and whether it would be the same anywhere else."""

    def __init__(self, emission: Emission, n_operands: int) -> None:
        super().__init__(emission.weights, emission.target)
        self._operands = [f"operand {i}" for i in range(n_operands)]
        self._values = {name: place for place, name in enumerate(self._operands)}
        self._pattern: list[bytes] = []
        self._places: list[int] = []
        self._is_repeatable = True

    def template(self, node: Node) -> Template | None:
        """Return what the node becomes, None if that depends on more than its kind."""
        output = OPERATORS[node.op].emit(self, node, self._operands)
        if not self._is_repeatable:
            return None
        return Template(
            b"".join(self._pattern),
            tuple(self._places),
            len(self._values) - len(self._operands),
            self.initializers,
            self._values.get(output, output),
        )

    def ops(
        self, kind: str, inputs: list[str], n_outputs: int, *, domain: str = "", **attributes: Any
    ) -> list[str]:
        outputs = [f"value {len(self._values) + i}" for i in range(n_outputs)]
        self._values |= {name: len(self._values) + i for i, name in enumerate(outputs)}
        content = wire.node_content(kind, tuple(attributes.items()), domain)
        pieces, n_bytes = [], len(content)
        numbers = [wire.NODE_INPUT] * len(inputs) + [wire.NODE_OUTPUT] * n_outputs
        for number, name in zip(numbers, inputs + outputs, strict=True):
            if name in self._values:
                start = wire.header(number, N_NAME_BYTES)
                pieces.append(start + b"%b")
                n_bytes += len(start) + N_NAME_BYTES
                self._places.append(self._values[name])
            else:
                pieces.append(_escaped(wire.text(number, name)))
                n_bytes += len(wire.text(number, name))
        start = wire.header(wire.GRAPH_NODE, n_bytes)
        self._pattern += [_escaped(start), *pieces, _escaped(content)]
        return outputs

    # Names that are given, nodes moved elsewhere and positions are those of one graph.
    def named(self, *_: Any, **__: Any) -> None:
        self._is_repeatable = False

    def node(self, node: onnx.NodeProto) -> None:
        self._is_repeatable = False

    def take_nodes(self, start: int) -> onnx.GraphProto:
        self._is_repeatable = False
        return onnx.GraphProto()

    @property
    def position(self) -> int:
        self._is_repeatable = False
        return 0


def _escaped(content: bytes) -> bytes:
    return content.replace(b"%", b"%%")
