"""ONNX's protobuf messages as bytes: nodes repeat over and over, and message objects would be most of the work."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import onnx
from onnx import helper

# Numbers of the fields of ONNX's messages that are written here.
NODE_INPUT, NODE_OUTPUT = 1, 2
GRAPH_NODE, GRAPH_INITIALIZER = 1, 5
MODEL_GRAPH = 7


def field(number: int, content: bytes) -> bytes:
    """Return a field that holds a text or message."""
    return header(number, len(content)) + content


def header(number: int, n_bytes: int) -> bytes:
    """Return what stands before the content of a field: its number and kind, the length in groups of seven bits."""
    groups = bytearray()
    while n_bytes > 127:
        groups.append(n_bytes & 127 | 128)
        n_bytes >>= 7
    return bytes((number << 3 | 2, *groups, n_bytes))


@lru_cache(maxsize=65536)
def text(number: int, content: str) -> bytes:
    """Return a field that holds a text."""
    return field(number, content.encode())


def node(inputs: Iterable[str], outputs: Iterable[str], content: bytes) -> bytes:
    """Return a node of a graph, given what it is beside the names that it reads and writes."""
    parts = [text(NODE_INPUT, name) for name in inputs]
    parts += [text(NODE_OUTPUT, name) for name in outputs]
    return field(GRAPH_NODE, b"".join([*parts, content]))


@lru_cache(maxsize=4096)
def node_content(kind: str, attributes: tuple[tuple[str, Any], ...], domain: str = "") -> bytes:
    """Return what a node is beside the names that it reads and writes."""
    made = [helper.make_attribute(name, value) for name, value in attributes]
    content: bytes = onnx.NodeProto(op_type=kind, attribute=made, domain=domain).SerializeToString()
    return content
