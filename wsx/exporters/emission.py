"""What operators write ONNX with: nodes, weights in the shared file, small constants in the model."""

import hashlib
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from wsx.exporters.weights import WEIGHT_FILE, WeightFile

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
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self._weights = weights
        self._n_values = 0

    def op(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(self, kind: str, inputs: list[str], n_outputs: int, **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs."""
        outputs = [f"v{self._n_values + i}" for i in range(n_outputs)]
        self._n_values += n_outputs
        node = onnx.NodeProto(op_type=kind, input=inputs, output=outputs)
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self.nodes.append(node)
        return outputs

    def weight(self, name: str) -> str:
        """Return the name of an initializer that refers to a weight of the shared file."""
        if name not in self.initializers:
            place = self._weights[name]
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
            self.initializers[name] = tensor
        return name

    def weight_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a weight."""
        return self._weights[name].shape

    def constant(self, array: np.ndarray) -> str:
        """Return the name of an initializer that carries its values in the model; equal ones are shared."""
        array = np.ascontiguousarray(array)
        digest = hashlib.blake2b(array.tobytes(), digest_size=8).hexdigest()
        name = f"const.{array.dtype}.{'x'.join(map(str, array.shape))}.{digest}"
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def integers(self, *values: int) -> str:
        """Return the name of an int64 vector."""
        return self.constant(np.array(values, dtype=np.int64))

    def scalar(self, value: float) -> str:
        """Return the name of a float32 scalar."""
        return self.constant(np.array(value, dtype=np.float32))
