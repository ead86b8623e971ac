"""Convolution, linear layers and pooling."""

from typing import Any

from wsx.exporters.emission import Emission
from wsx.exporters.graph import Node, Shape
from wsx.exporters.operators._base import operator
from wsx.exporters.operators.elementwise import broadcast


def _conv_shape(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    batch, _, *sizes = operands[0]
    n_out, _, *kernel = weights[0]
    spatial = [
        (size + 2 * padding - dilation * (k - 1) - 1) // stride + 1
        for size, k, padding, dilation, stride in zip(
            sizes,
            kernel,
            attributes["padding"],
            attributes["dilation"],
            attributes["stride"],
            strict=True,
        )
    ]
    return (batch, n_out, *spatial)


@operator("conv", _conv_shape)
def _conv(emission: Emission, node: Node, operands: list[str]) -> str:
    kernel, bias = node.weights
    inputs = [operands[0], emission.weight(str(kernel))]
    if bias is not None:
        inputs.append(emission.weight(bias))
    return emission.op("Conv", inputs, **conv_attributes(emission, node))


def conv_attributes(emission: Emission, node: Node) -> dict[str, Any]:
    """Return the attributes of a convolution in ONNX."""
    return {
        "kernel_shape": emission.weight_shape(str(node.weights[0]))[2:],
        "strides": node["stride"],
        "pads": node["padding"] * 2,
        "dilations": node["dilation"],
        "group": node["groups"],
    }


def _linear_shape(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    if operands[0][-1] != weights[0][1]:
        raise ValueError(f"a linear layer of {weights[0][1]} inputs meets {operands[0][-1]}")
    return (*operands[0][:-1], weights[0][0])


@operator("linear", _linear_shape)
def _linear(emission: Emission, node: Node, operands: list[str]) -> str:
    weight, bias = node.weights
    names = [emission.weight(name) for name in (weight, bias) if name is not None]
    if len(node.shape) == 2:
        return emission.op("Gemm", [operands[0], *names], transB=1)
    transposed = emission.op("Transpose", names[:1], perm=(1, 0))
    product = emission.op("MatMul", [operands[0], transposed])
    return product if bias is None else emission.op("Add", [product, names[1]])


def _matmul_shape(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    a, b = operands
    if a[-1] != b[-2]:
        raise ValueError(f"matrices of shapes {a} and {b} do not multiply")
    return (*broadcast([a[:-2], b[:-2]], [], {}), a[-2], b[-1])


@operator("matmul", _matmul_shape)
def _matmul(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op("MatMul", operands)


def _pool_shape(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    batch, channels, *sizes = operands[0]
    spatial = [
        _pooled(size, k, stride, padding, ceil=attributes["ceil"])
        for size, k, stride, padding in zip(
            sizes, attributes["kernel"], attributes["stride"], attributes["padding"], strict=True
        )
    ]
    return (batch, channels, *spatial)


def _pooled(size: int, kernel: int, stride: int, padding: int, *, ceil: bool) -> int:
    span = size + 2 * padding - kernel
    n = (-(-span // stride) if ceil else span // stride) + 1
    # A window that starts beyond the input and its left padding is dropped.
    return n - 1 if ceil and (n - 1) * stride >= size + padding else n


def pool_attributes(node: Node) -> dict[str, Any]:
    """Return the attributes of a pooling in ONNX."""
    attributes = {
        "kernel_shape": node["kernel"],
        "strides": node["stride"],
        "pads": node["padding"] * 2,
        "ceil_mode": int(node["ceil"]),
    }
    if node.op == "avg_pool":
        attributes["count_include_pad"] = int(node["counts_padding"])
    return attributes


@operator("avg_pool", _pool_shape)
def _avg_pool(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op("AveragePool", operands, **pool_attributes(node))


@operator("max_pool", _pool_shape)
def _max_pool(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op("MaxPool", operands, **pool_attributes(node))


def _global_shape(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    return (*operands[0][:2], *(1 for _ in operands[0][2:]))


@operator("global_avg_pool", _global_shape)
def _global_avg_pool(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op("GlobalAveragePool", operands)
