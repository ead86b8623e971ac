"""What operators write ONNX with: nodes, weights in the shared file, small constants in the model."""

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from wsx.exporters.weights import WEIGHT_FILE, Place, WeightFile

OPSET = 17
IR_VERSION = 9


class Emission:
    """The ONNX graph under construction.

    Args:
        weights: Where weights lie; the model refers to them by offset.
        has_fused_norm: Write batch-statistics BatchNorm as one node, which the CPU provider runs fast and
            the CUDA provider does not have; otherwise as reductions.
    """

    def __init__(self, weights: WeightFile, *, has_fused_norm: bool) -> None:
        self.has_fused_norm = has_fused_norm
        self.model = onnx.ModelProto()
        self.graph = self.model.graph
        self._initializers: set[str] = set()
        self._weights = weights
        self._n_values = 0

    @property
    def n_nodes(self) -> int:
        """How many nodes there are so far."""
        return len(self.graph.node)

    def op(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(self, kind: str, inputs: list[str], n_outputs: int, **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs."""
        outputs = [f"v{self._n_values + i}" for i in range(n_outputs)]
        self._n_values += n_outputs
        self.named(kind, inputs, outputs, **attributes)
        return outputs

    def named(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        """Add a node whose outputs have given names."""
        node = self.graph.node.add()
        node.CopyFrom(_node(kind, tuple(attributes.items())))
        node.input.extend(inputs)
        node.output.extend(outputs)

    def weight(self, name: str) -> str:
        """Return the name of an initializer that refers to a weight of the shared file."""
        # A parameter of the module itself, say `v0` or `logits`, must not meet a value of that name.
        initializer = name if "." in name else f"self.{name}"
        if initializer not in self._initializers:
            self._initializers.add(initializer)
            self.graph.initializer.append(_reference(initializer, self._weights[name]))
        return initializer

    def weight_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a weight."""
        return self._weights[name].shape

    def constant(self, array: np.ndarray) -> str:
        """Return the name of an initializer that carries its values in the model; equal ones are shared."""
        array = np.ascontiguousarray(array)
        digest = hashlib.blake2b(array.tobytes(), digest_size=8).hexdigest()
        name = f"const.{array.dtype}.{'x'.join(map(str, array.shape))}.{digest}"
        if name not in self._initializers:
            self._initializers.add(name)
            self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def integers(self, *values: int) -> str:
        """Return the name of an int64 vector."""
        return self.constant(np.array(values, dtype=np.int64))

    def scalar(self, value: float) -> str:
        """Return the name of a float32 scalar."""
        return self.constant(np.array(value, dtype=np.float32))


# Subnets repeat the same attributes and weights over and over; protobuf copies what it is given, so one
# object can serve all of them.
@lru_cache(maxsize=4096)
def _node(kind: str, attributes: tuple[tuple[str, Any], ...]) -> onnx.NodeProto:
    made = [helper.make_attribute(name, value) for name, value in attributes]
    return onnx.NodeProto(op_type=kind, attribute=made)


@lru_cache(maxsize=65536)
def _reference(name: str, place: Place) -> TensorProto:
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
    return tensor
