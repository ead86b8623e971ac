"""A recorded subnet: operator nodes, hash-consed, with a digest that names the function.

Torch-free. A node is (operator, attributes, inputs, weights); equal nodes are one node, whoever asks for
them, and the digest of the output names the function under one set of weights: the function key.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

BATCH = -1
"""The batch axis in a shape."""

Shape = tuple[int, ...]
Attributes = tuple[tuple[str, Any], ...]

COMMUTATIVE = frozenset({"add", "mul"})


# Not frozen: a recording makes hundreds, and freezing triples what making one costs.
@dataclass(slots=True)
class Node:
    """One operator applied once; never changed once made.

    Attributes:
        op: Name of the operator.
        inputs: Positions of the operand nodes.
        weights: Names of the weights, ``None`` where an optional one is absent.
        attributes: Sorted (name, value) pairs.
        shape: Shape of the value, ``BATCH`` standing for the batch axis.
        digest: Merkle digest over everything above but the shape, which follows from it.
    """

    op: str
    inputs: tuple[int, ...]
    weights: tuple[str | None, ...]
    attributes: Attributes
    shape: Shape
    digest: str

    def __getitem__(self, name: str) -> Any:
        """Return the value of an attribute."""
        return dict(self.attributes)[name]


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which operands come first; the last node is the output, the first the input."""

    nodes: tuple[Node, ...]

    @property
    def output(self) -> Node:
        """The node whose value the graph computes."""
        return self.nodes[-1]

    @property
    def input_shape(self) -> Shape:
        """Shape of the images, the batch axis included."""
        return self.nodes[0].shape

    @property
    def function_key(self) -> str:
        """Digest of the function: equal for graphs that compute the same under the same weights."""
        return self.output.digest

    def weight_names(self) -> list[str]:
        """Return the names of all weights, each once, in order of first use."""
        return list(dict.fromkeys(w for node in self.nodes for w in node.weights if w is not None))

    def operands(self, node: Node) -> list[Node]:
        """Return the nodes that a node reads."""
        return [self.nodes[i] for i in node.inputs]


@dataclass(slots=True)
class NodeKind:
    """A node but for its operands: what recordings repeat over and over.

    Attributes:
        op: Name of the operator.
        weights: As in ``Node``.
        attributes: As in ``Node``.
        shape: As in ``Node``.
        identity: What the digest covers besides the operands.
    """

    op: str
    weights: tuple[str | None, ...]
    attributes: Attributes
    shape: Shape
    identity: str


def node_kind(
    op: str,
    *,
    shape: Shape,
    weights: Iterable[str | None] = (),
    attributes: Mapping[str, Any] | None = None,
) -> NodeKind:
    """Return the kind of a node."""
    pairs = tuple(sorted((attributes or {}).items()))
    names = tuple(weights)
    # The input's shape is part of what it is; all other shapes follow from operands and weights.
    own_shape = shape if op == "input" else None
    return NodeKind(op, names, pairs, shape, repr((op, pairs, names, own_shape)))


@dataclass
class GraphBuilder:
    """Collects nodes; asking twice for the same node gives the same position."""

    nodes: list[Node] = field(default_factory=list)
    _positions: dict[str, int] = field(default_factory=dict)

    def add(self, kind: NodeKind, inputs: Iterable[int] = ()) -> int:
        """Return the position of a node, added if there is none like it."""
        nodes = self.nodes
        operands = tuple(inputs)
        if kind.op in COMMUTATIVE:
            operands = tuple(sorted(operands, key=lambda i: nodes[i].digest))
        identity = kind.identity + "".join([nodes[i].digest for i in operands])
        digest = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
        position = self._positions.get(digest)
        if position is None:
            position = self._positions[digest] = len(nodes)
            nodes.append(Node(kind.op, operands, kind.weights, kind.attributes, kind.shape, digest))
        return position

    def graph(self, output: int) -> Graph:
        """Return the graph of an output: the input, and the nodes that the output depends on."""
        needed = {0, output}
        for position in range(output, -1, -1):
            if position in needed:
                needed.update(self.nodes[position].inputs)
        kept = sorted(needed)
        if len(kept) == len(self.nodes):
            return Graph(tuple(self.nodes))
        place = {position: i for i, position in enumerate(kept)}
        return Graph(tuple(_moved(self.nodes[position], place) for position in kept))


def _moved(node: Node, place: Mapping[int, int]) -> Node:
    inputs = tuple(place[i] for i in node.inputs)
    return Node(node.op, inputs, node.weights, node.attributes, node.shape, node.digest)
