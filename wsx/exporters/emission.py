"""What operators write ONNX with: nodes, weights in the shared file, small constants in the model."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from wsx.exporters import wire
from wsx.exporters.weights import Place, WeightFile
from wsx.version import __version__

OPSET = 17
IR_VERSION = 9

BLOCKED = "com.microsoft.nchwc"
"""Domain of the operators that ONNX Runtime has for images whose channels lie in blocks."""

# Templates are filled with names of one length; a graph with more values than these has longer ones.
VALUE_NAMES = [f"v{i:04d}" for i in range(10_000)]
N_NAME_BYTES = len(VALUE_NAMES[0])
_NAME_BYTES = {name: name.encode() for name in VALUE_NAMES}


@dataclass(frozen=True)
class Target:
    """What a model may use of the provider that runs it.

    Attributes:
        has_fused_norm: Batch-statistics BatchNorm may be one node, which the CPU provider runs fast and the CUDA
            provider does not have; otherwise it is written as reductions.
        block_size: Channels of a block in ONNX Runtime's own layout, whose operators may then be named; 0 in
            models that must be plain ONNX.
        min_block_values: Values that a layer must have per image, all channels, for its layout to be that one.
    """

    has_fused_norm: bool = True
    block_size: int = 0
    min_block_values: int = 0


PORTABLE = Target()


@dataclass(frozen=True)
class Template:
    """The ONNX nodes that a kind of node becomes, but for the names of values.

    Attributes:
        pattern: Their bytes, with a ``%b`` for every name of a value.
        places: Which value each of these is: the operands first, then the outputs in order; two or more.
        n_outputs: How many values the nodes have.
        initializers: Those that the nodes read, by name.
        output: Place of the value of it all, or the name of the initializer that it is.
    """

    pattern: bytes
    places: tuple[int, ...]
    n_outputs: int
    initializers: dict[str, bytes]
    output: int | str


class Emission:
    """The ONNX graph under construction.

    Nodes and references to weights are kept as protobuf bytes: subnets repeat them over and over, and making
    message objects anew would be most of the work.

    Args:
        weights: Where weights lie; the model refers to them by offset.
        target: What the model may use.

    Attributes:
        initializers: Weights and constants in use, by name.
    """

    def __init__(self, weights: WeightFile, target: Target = PORTABLE) -> None:
        self.target = target
        self.weights = weights
        self.initializers: dict[str, bytes] = {}
        self._nodes: list[bytes] = []
        self._n_values = 0

    @property
    def position(self) -> int:
        """Where the next nodes go; grows with whatever is written."""
        return len(self._nodes)

    def op(self, kind: str, inputs: list[str], *, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.ops(kind, inputs, 1, domain=domain, **attributes)[0]

    def ops(
        self, kind: str, inputs: list[str], n_outputs: int, *, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node and return the names of its outputs."""
        outputs = self._new_values(n_outputs)
        self.named(kind, inputs, outputs, domain=domain, **attributes)
        return outputs

    def named(
        self,
        kind: str,
        inputs: list[str],
        outputs: list[str],
        *,
        domain: str = "",
        **attributes: Any,
    ) -> None:
        """Add a node whose outputs have given names."""
        content = wire.node_content(kind, tuple(attributes.items()), domain)
        self._nodes.append(wire.node(inputs, outputs, content))

    def repeat(self, template: Template, operands: list[str]) -> str | None:
        """Add the nodes of a template and return the name of its value; None if a name has another length."""
        start = self._n_values
        self._n_values += template.n_outputs
        values = operands + VALUE_NAMES[start : self._n_values]
        try:
            names = tuple([_NAME_BYTES[values[place]] for place in template.places])
        except (KeyError, IndexError):
            self._n_values = start
            return None
        self._nodes.append(template.pattern % names)
        if template.initializers:
            self.initializers.update(template.initializers)
        output = template.output
        return values[output] if isinstance(output, int) else output

    def _new_values(self, n: int) -> list[str]:
        start = self._n_values
        self._n_values += n
        names = VALUE_NAMES[start : self._n_values]
        return names if len(names) == n else [f"v{i}" for i in range(start, self._n_values)]

    def node(self, node: onnx.NodeProto) -> None:
        """Add a node that was made elsewhere."""
        self._nodes.append(wire.field(wire.GRAPH_NODE, node.SerializeToString()))

    def take_nodes(self, start: int) -> onnx.GraphProto:
        """Remove the nodes from a position on, and return them as a graph of their own."""
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

    def scratch(self, name: str) -> str:
        """Return the name of an initializer that refers to a weight of the scratch file."""
        if name not in self.initializers:
            self.initializers[name] = _reference(name, self.weights.scratch[name])
        return name

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
            self.initializers[name] = wire.field(wire.GRAPH_INITIALIZER, tensor.SerializeToString())
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
    ) -> bytes:
        """Return the finished model, serialised."""
        model = onnx.ModelProto(
            ir_version=IR_VERSION,
            producer_name="wsx",
            producer_version=__version__,
            opset_import=[helper.make_opsetid("", OPSET)],
        )
        if self.target.block_size:
            model.opset_import.append(helper.make_opsetid(BLOCKED, 1))
        helper.set_model_props(model, dict(metadata))
        graph = onnx.GraphProto(name="subnet", input=inputs, output=outputs)
        parts = [graph.SerializeToString(), *self._nodes, *self.initializers.values()]
        start: bytes = model.SerializeToString()
        return start + wire.field(wire.MODEL_GRAPH, b"".join(parts))


@lru_cache(maxsize=65536)
def _reference(name: str, place: Place) -> bytes:
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(place.dtype),
        dims=place.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (
        ("location", place.file_name),
        ("offset", str(place.offset)),
        ("length", str(place.n_bytes)),
    ):
        tensor.external_data.add(key=key, value=value)
    return wire.field(wire.GRAPH_INITIALIZER, tensor.SerializeToString())
