"""What an operator is: how shapes follow, and how it is written in ONNX."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wsx.exporters.emission import Emission
from wsx.exporters.graph import Node, Shape
from wsx.registry import Registry

ShapeRule = Callable[[list[Shape], list[Shape], dict[str, Any]], Shape]
"""From shapes of operands, shapes of weights and attributes to the shape of the value."""

Emitter = Callable[[Emission, Node, list[str]], str]
"""Writes a node, given the names of its operands, and returns the name of its value."""


@dataclass(frozen=True)
class Operator:
    """An operator that subnets may use."""

    shape: ShapeRule
    emit: Emitter


OPERATORS: Registry[Operator] = Registry("operator")


def operator(name: str, shape: ShapeRule) -> Callable[[Emitter], Emitter]:
    """Return a decorator that registers an emitter, with its shape rule, as an operator."""

    def add(emit: Emitter) -> Emitter:
        OPERATORS.register(name)(Operator(shape, emit))
        return emit

    return add


def same_shape(operands: list[Shape], weights: list[Shape], attributes: dict[str, Any]) -> Shape:
    """Return the first operand's shape."""
    return operands[0]
