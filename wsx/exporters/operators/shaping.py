"""Reductions, and operators that move values without changing them."""

from typing import Any

from wsx.exporters.emission import Emission
from wsx.exporters.graph import BATCH, Node, Shape
from wsx.exporters.operators._base import operator


def _reduced(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    axes = attributes["axes"]
    kept = [1 if axis in axes else n for axis, n in enumerate(operands[0])]
    if attributes["keeps_axes"]:
        return tuple(kept)
    return tuple(n for axis, n in enumerate(kept) if axis not in axes)


@operator("mean", _reduced)
def _mean(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op("ReduceMean", operands, axes=node["axes"], keepdims=int(node["keeps_axes"]))


@operator("sum", _reduced)
def _sum(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op(
        "ReduceSum",
        [operands[0], emission.integers(*node["axes"])],
        keepdims=int(node["keeps_axes"]),
    )


def _target(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    return tuple(attributes["sizes"])


@operator("reshape", _target)
def _reshape(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op("Reshape", [operands[0], emission.integers(*node["sizes"])])


def _concatenated(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    axis = attributes["axis"]
    first, *rest = operands
    for other in rest:
        if len(other) != len(first) or any(
            a != b for i, (a, b) in enumerate(zip(first, other, strict=True)) if i != axis
        ):
            raise ValueError(f"shapes {first} and {other} do not concatenate along axis {axis}")
    return (*first[:axis], sum(shape[axis] for shape in operands), *first[axis + 1 :])


@operator("cat", _concatenated)
def _cat(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op("Concat", operands, axis=node["axis"])


def _sliced(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    shape = list(operands[0])
    places = range(attributes["start"], attributes["stop"], attributes["step"])
    shape[attributes["axis"]] = len(places)
    return tuple(shape)


@operator("slice", _sliced)
def _slice(emission: Emission, node: Node, operands: list[str]) -> str:
    bounds = [emission.integers(node[name]) for name in ("start", "stop", "axis", "step")]
    return emission.op("Slice", [operands[0], *bounds])


def _permuted(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    return tuple(operands[0][axis] for axis in attributes["axes"])


@operator("permute", _permuted)
def _permute(emission: Emission, node: Node, operands: list[str]) -> str:
    return emission.op("Transpose", operands, perm=node["axes"])


def _padded(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    pairs = zip(operands[0], attributes["before"], attributes["after"], strict=True)
    return tuple(n if n == BATCH else n + before + after for n, before, after in pairs)


@operator("pad", _padded)
def _pad(emission: Emission, node: Node, operands: list[str]) -> str:
    widths = emission.integers(*node["before"], *node["after"])
    return emission.op("Pad", [operands[0], widths, emission.scalar(node["value"])])
