"""What operators write ONNX with: nodes, weights in the shared file, small constants in the model."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from wsx.exporters.weights import WEIGHT_FILE, Place, WeightFile
from wsx.version import __version__

OPSET = 17
IR_VERSION = 9

# Numbers of the fields of ONNX's protobuf messages that are written as bytes here.
_NODE_INPUT, _NODE_OUTPUT = 1, 2
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5


@dataclass(frozen=True)
class Template:
    """The ONNX nodes that a kind of node becomes.

    Attributes:
        steps: Inputs, number of outputs and content of each; an input is the place of a value, operands first
            and then outputs in order, or the name of an initializer.
        initializers: Those that the steps read, by name.
        output: Place of the value, or the name of the initializer that it is.
    """

    steps: list[tuple[list[int | str], int, bytes]]
    initializers: dict[str, bytes]
    output: int | str


class Emission:
    """The ONNX graph under construction.

    Nodes and references to weights are kept as protobuf bytes: subnets repeat them over and over, and making
    message objects anew would be most of the work.

    Args:
        weights: Where weights lie; the model refers to them by offset.
        has_fused_norm: Write batch-statistics BatchNorm as one node, which the CPU provider runs fast and
            the CUDA provider does not have; otherwise as reductions.

    Attributes:
        initializers: Weights and constants in use, by name.
    """

    def __init__(self, weights: WeightFile, *, has_fused_norm: bool) -> None:
        self.has_fused_norm = has_fused_norm
        self.weights = weights
        self.initializers: dict[str, bytes] = {}
        self._nodes: list[bytes] = []
        self._n_values = 0

    @property
    def n_nodes(self) -> int:
        """How many nodes there are so far."""
        return len(self._nodes)

    def op(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(self, kind: str, inputs: list[str], n_outputs: int, **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs."""
        outputs = self._new_values(n_outputs)
        self.named(kind, inputs, outputs, **attributes)
        return outputs

    def named(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        """Add a node whose outputs have given names."""
        self._add(inputs, outputs, node_content(kind, tuple(attributes.items())))

    def repeat(self, template: Template, operands: list[str]) -> str:
        """Add the nodes of a template and return the name of its value."""
        values = list(operands)
        for inputs, n_outputs, content in template.steps:
            outputs = self._new_values(n_outputs)
            self._add([values[i] if type(i) is int else i for i in inputs], outputs, content)
            values += outputs
        self.initializers.update(template.initializers)
        output = template.output
        return values[output] if isinstance(output, int) else output

    def _new_values(self, n: int) -> list[str]:
        start = self._n_values
        self._n_values += n
        return [f"v{i}" for i in range(start, start + n)]

    def _add(self, inputs: Iterable[Any], outputs: Iterable[str], content: bytes) -> None:
        parts = [_text(_NODE_INPUT, name) for name in inputs]
        parts += [_text(_NODE_OUTPUT, name) for name in outputs]
        parts.append(content)
        self._nodes.append(_field(_GRAPH_NODE, b"".join(parts)))

    def node(self, node: onnx.NodeProto) -> None:
        """Add a node that was made elsewhere."""
        self._nodes.append(_field(_GRAPH_NODE, node.SerializeToString()))

    def take_nodes(self, start: int) -> onnx.GraphProto:
        """Remove the nodes from a number on, and return them as a graph of their own."""
        taken = self._nodes[start:]
        del self._nodes[start:]
        graph = onnx.GraphProto()
        graph.MergeFromString(b"".join(taken))
        return graph

    def weight(self, name: str) -> str:
        """Return the name of an initializer that refers to a weight of the shared file."""
        # A parameter of the module itself, say `v0` or `logits`, must not meet a value of that name.
        initializer = name if "." in name else f"self.{name}"
        if initializer not in self.initializers:
            self.initializers[initializer] = _reference(initializer, self.weights[name])
        return initializer

    def weight_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a weight."""
        return self.weights[name].shape

    def constant(self, array: np.ndarray) -> str:
        """Return the name of an initializer that carries its values in the model; equal ones are shared."""
        array = np.ascontiguousarray(array)
        digest = hashlib.blake2b(array.tobytes(), digest_size=8).hexdigest()
        name = f"const.{array.dtype}.{'x'.join(map(str, array.shape))}.{digest}"
        if name not in self.initializers:
            tensor = numpy_helper.from_array(array, name)
            self.initializers[name] = _field(_GRAPH_INITIALIZER, tensor.SerializeToString())
        return name

    def integers(self, *values: int) -> str:
        """Return the name of an int64 vector."""
        return self.constant(np.array(values, dtype=np.int64))

    def scalar(self, value: float) -> str:
        """Return the name of a float32 scalar."""
        return self.constant(np.array(value, dtype=np.float32))

    def model(
        self,
        inputs: Iterable[onnx.ValueInfoProto],
        outputs: Iterable[onnx.ValueInfoProto],
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """Return the finished model."""
        model = onnx.ModelProto(
            ir_version=IR_VERSION,
            producer_name="wsx",
            producer_version=__version__,
            opset_import=[helper.make_opsetid("", OPSET)],
        )
        helper.set_model_props(model, dict(metadata))
        model.graph.MergeFromString(b"".join([*self._nodes, *self.initializers.values()]))
        model.graph.name = "subnet"
        model.graph.input.extend(inputs)
        model.graph.output.extend(outputs)
        return model


def _field(number: int, content: bytes) -> bytes:
    # Protobuf's wire format: the field's number and kind, the length in groups of seven bits, the content.
    n, size = len(content), bytearray()
    while n > 127:
        size.append(n & 127 | 128)
        n >>= 7
    return bytes((number << 3 | 2, *size, n)) + content


@lru_cache(maxsize=65536)
def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


@lru_cache(maxsize=4096)
def node_content(kind: str, attributes: tuple[tuple[str, Any], ...]) -> bytes:
    """Return what a node is beside the names of its inputs and outputs, in protobuf's bytes."""
    made = [helper.make_attribute(name, value) for name, value in attributes]
    content: bytes = onnx.NodeProto(op_type=kind, attribute=made).SerializeToString()
    return content


@lru_cache(maxsize=65536)
def _reference(name: str, place: Place) -> bytes:
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(place.dtype),
        dims=place.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (
        ("location", WEIGHT_FILE),
        ("offset", str(place.offset)),
        ("length", str(place.n_bytes)),
    ):
        tensor.external_data.add(key=key, value=value)
    return _field(_GRAPH_INITIALIZER, tensor.SerializeToString())
