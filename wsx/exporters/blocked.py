"""Graphs with statistics of the batch in ONNX Runtime's own layout, for models that are scored here and never saved.

On the CPU ONNX Runtime convolves images whose channels lie in blocks (NCHWc), but normalises with statistics of the
batch in plain layout only: in a standard model every such norm costs two changes of layout, and no sum or activation
is taken into it. Its blocked operators can be named in a model, though. Here they are: values stay in blocks from
layer to layer, and the last pass of a norm adds another value and applies the activation.

How a value is computed follows from its operands alone, never from who else reads it, so that subnets of one model
share nodes without a change of rounding. Only ReLU, which is exact, is taken over by its only reader.
"""

import math
from dataclasses import replace

import numpy as np

from wsx.exporters.blocked_nodes import (
    DENSE,
    DEPTHWISE,
    FIRST,
    BlockedNodes,
    Convolution,
    Normalised,
)
from wsx.exporters.emission import Emission
from wsx.exporters.graph import Graph, Node, Shape
from wsx.exporters.operators.layers import conv_attributes, pool_attributes
from wsx.exporters.operators.norm import normalise_batch
from wsx.exporters.templates import emit_node

BATCH_NORMS = frozenset({"batch_norm_batch", "batch_norm_calibrated"})

# Element by element, so that the layout does not matter.
_UNARY = frozenset(
    "relu sigmoid tanh exp log sqrt abs neg erf hardswish dropout clip hardsigmoid leaky_relu elu silu gelu".split()
)
_BINARY = frozenset({"add", "sub", "mul", "div"})
_POOLS = {"avg_pool": "AveragePool", "max_pool": "MaxPool"}


class BlockedWriter:
    """Writes the nodes of a graph whose norms take the statistics of their batch.

    Args:
        emission: Where nodes go; its target says how many channels a block has.
        graph: The nodes.
        images: Name of the input.

    Attributes:
        means: Names of the means (channel,) of the norms, in order.
        variances: Names of their biased variances.
    """

    def __init__(self, emission: Emission, graph: Graph, images: str) -> None:
        self.means: list[str] = []
        self.variances: list[str] = []
        self._emission = emission
        self._writes = BlockedNodes(emission)
        self._nodes = graph.nodes
        self._plain: dict[int, str] = {}
        self._blocked: dict[int, str] = {}
        # Written when they are read, as they are read.
        self._convolutions: dict[int, Convolution] = {}
        self._normalised: dict[int, Normalised] = {}
        # What was made in blocks; others may have been put there for a reader, which must change nothing.
        self._at_home: set[int] = set()
        self._n_readers = [0] * len(graph.nodes)
        for node in graph.nodes:
            for operand in node.inputs:
                self._n_readers[operand] += 1
        for position, node in enumerate(graph.nodes):
            if node.op == "input":
                self._plain[position] = images
            else:
                self._write(position, node)

    def value(self, position: int) -> str:
        """Return the name of a node's value in plain layout."""
        if position not in self._plain:
            n_channels = self._nodes[position].shape[1]
            blocked = self._in_blocks(position)
            self._plain[position] = self._writes.op("ReorderOutput", [blocked], channels=n_channels)
        return self._plain[position]

    def _in_blocks(self, position: int) -> str:
        if position not in self._blocked:
            if position in self._normalised:
                made = self._writes.finish(self._normalised[position])
            elif position in self._convolutions:
                made = self._writes.convolve(self._convolutions[position])
            else:
                made = self._writes.op("ReorderInput", [self._plain[position]])
            self._blocked[position] = made
        return self._blocked[position]

    def _fits(self, shape: Shape) -> bool:
        target = self._emission.target
        if len(shape) != 4 or shape[1] % target.block_size:
            return False
        # Single pixels are the same in both layouts.
        return shape[2:] != (1, 1) and math.prod(shape[1:]) >= target.min_block_values

    def _write(self, position: int, node: Node) -> None:
        conv = self._convolution(node) if node.op == "conv" else None
        if conv is not None:
            self._convolutions[position] = conv
            self._at_home.add(position)
        elif node.op in BATCH_NORMS:
            self._norm(position, node)
        elif self._stays_in_blocks(node):
            self._keep_in_blocks(position, node)
        else:
            operands = [self.value(i) for i in node.inputs]
            self._plain[position] = emit_node(self._emission, node, operands)

    def _convolution(self, node: Node) -> Convolution | None:
        """Return a convolution in blocks, None if it has no blocked form."""
        kernel, bias = node.weights
        place = self._emission.weights[str(kernel)]
        (source,) = node.inputs
        shape, n_groups = self._nodes[source].shape, node["groups"]
        if not self._fits(node.shape) or place.dtype != np.float32:
            return None
        if n_groups == 1 and shape[1] < self._emission.target.block_size:
            kind, value = FIRST, self.value(source)
        elif n_groups in (1, place.shape[0]) and place.shape[1] * n_groups == shape[1] and self._fits(shape):
            kind, value = DENSE if n_groups == 1 else DEPTHWISE, self._in_blocks(source)
        else:
            return None
        attributes = conv_attributes(self._emission, node)
        return Convolution(kind, value, str(kernel), bias, attributes)

    def _norm(self, position: int, node: Node) -> None:
        (source,) = node.inputs
        if source not in self._at_home:
            value, mean, variance = normalise_batch(self._emission, node, self.value(source))
            self._plain[position] = value
        else:
            if source in self._convolutions:
                made = self._writes.normalise_convolution(node, self._convolutions[source])
            else:
                made = self._writes.normalise(node, self._in_blocks(source))
            self._normalised[position], mean, variance = made
            self._at_home.add(position)
        self.means.append(mean)
        self.variances.append(variance)

    def _stays_in_blocks(self, node: Node) -> bool:
        shapes = [self._nodes[i].shape for i in node.inputs if self._nodes[i].op != "scalar"]
        if not self._at_home.intersection(node.inputs) or not all(map(self._fits, shapes)):
            return False
        if node.op == "cat":
            return bool(node["axis"] == 1)
        if node.op in _BINARY:
            return len(set(shapes)) == 1
        return node.op in _UNARY or node.op in _POOLS or node.op == "global_avg_pool"

    def _keep_in_blocks(self, position: int, node: Node) -> None:
        """Write a node that is neither convolution nor norm."""
        first = node.inputs[0]
        self._at_home.add(position)
        if node.op == "add" and self._add_to_norm(position, node):
            return
        if node.op == "relu" and first in self._normalised and self._n_readers[first] == 1:
            made = self._writes.finish(self._normalised[first], activation="Relu")
        elif node.op in _POOLS:
            made = self._writes.op(_POOLS[node.op], [self._in_blocks(first)], **pool_attributes(node))
        elif node.op == "global_avg_pool":
            made = self._writes.op("GlobalAveragePool", [self._in_blocks(first)])
            self._plain[position] = made
        else:
            operands = [
                self.value(i) if self._nodes[i].op == "scalar" else self._in_blocks(i)
                for i in node.inputs
            ]
            made = emit_node(self._emission, node, operands)
        self._blocked[position] = made

    def _add_to_norm(self, position: int, node: Node) -> bool:
        """Note a sum as part of the last pass of a norm, if one of its operands is a norm."""
        for addend, norm in (node.inputs, node.inputs[::-1]):
            found = self._normalised.get(norm)
            is_whole = self._nodes[addend].op != "scalar"
            if found is not None and found.addend is None and is_whole:
                self._normalised[position] = replace(found, addend=self._in_blocks(addend))
                return True
        return False
