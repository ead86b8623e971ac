"""Operators that work element by element."""

import math
from typing import Any

import numpy as np

from wsx.exporters.emission import Emission
from wsx.exporters.graph import BATCH, Node, Shape
from wsx.exporters.operators._base import operator, same_shape

# Plain ONNX counterparts: one node, no attributes.
_DIRECT = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "neg": "Neg",
    "erf": "Erf",
    "hardswish": "HardSwish",
}
_BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow"}


def broadcast(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    """Return the shape of operands that are stretched to fit each other."""
    # The batch axis behaves as any size that is neither 1 nor equal to another's.
    sizes = [tuple(-1 if n == BATCH else n for n in shape) for shape in operands]
    rank = max(map(len, sizes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in sizes]
    result = []
    for axis in zip(*padded, strict=True):
        wide = {n for n in axis if n != 1}
        if len(wide) > 1:
            raise ValueError(f"shapes {operands} do not broadcast")
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def _register_direct(name: str, kind: str) -> None:
    @operator(name, same_shape)
    def _emit(emission: Emission, node: Node, operands: list[str]) -> str:
        return emission.op(kind, operands)


def _register_binary(name: str, kind: str) -> None:
    @operator(name, broadcast)
    def _emit(emission: Emission, node: Node, operands: list[str]) -> str:
        return emission.op(kind, operands)


for _name, _kind in _DIRECT.items():
    _register_direct(_name, _kind)
for _name, _kind in _BINARY.items():
    _register_binary(_name, _kind)


@operator("weight", lambda operands, weights, attributes: weights[0])
def _weight(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.weight(str(node.weights[0]))


@operator("scalar", lambda operands, weights, attributes: ())
def _scalar(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.scalar(node["value"])


@operator("dropout", same_shape)
def _dropout(emission: Emission, node: Node, operands: list[str]) -> str:
    # Scoring and export see the subnet as it infers; `extract` keeps the layer for training.
    return operands[0]


@operator("clip", same_shape)
def _clip(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op(
        "Clip", [*operands, emission.scalar(node["low"]), emission.scalar(node["high"])]
    )


@operator("hardsigmoid", same_shape)
def _hardsigmoid(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op("HardSigmoid", operands, alpha=1 / 6, beta=0.5)


@operator("leaky_relu", same_shape)
def _leaky_relu(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op("LeakyRelu", operands, alpha=node["slope"])


@operator("elu", same_shape)
def _elu(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op("Elu", operands, alpha=node["alpha"])


@operator("silu", same_shape)
def _silu(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op("Mul", [operands[0], emission.op("Sigmoid", operands)])


@operator("gelu", same_shape)
def _gelu(emission: Emission, node: Node, operands: list[str]) -> str:
    # x * (1 + erf(x / sqrt 2)) / 2
    scaled = emission.op("Mul", [operands[0], emission.scalar(1 / math.sqrt(2))])
    one_plus = emission.op("Add", [emission.op("Erf", [scaled]), emission.scalar(1.0)])
    half = emission.op("Mul", [operands[0], emission.constant(np.array(0.5, np.float32))])
    return emission.op("Mul", [half, one_plus])


@operator("softmax", same_shape)
def _softmax(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op("Softmax", operands, axis=node["axis"])


@operator("log_softmax", same_shape)
def _log_softmax(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op("LogSoftmax", operands, axis=node["axis"])
