"""A recorded subnet: operator nodes, hash-consed, with a digest that names the function.

Torch-free. A node is (operator, attributes, inputs, weights); equal nodes are one node, whoever asks for
them, and the digest of the output names the function under one set of weights: the function key.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

BATCH = -1
"""The batch axis in a shape."""

Shape = tuple[int, ...]
Attributes = tuple[tuple[str, Any], ...]

COMMUTATIVE = frozenset({"add", "mul"})


@dataclass(slots=True)
class NodeKind:
    """A node but for its operands: what recordings repeat over and over; never changed once made.

    Attributes:
        op: Name of the operator.
        weights: Names of the weights, ``None`` where an optional one is absent.
        attributes: Sorted (name, value) pairs.
        shape: Shape of the value, ``BATCH`` standing for the batch axis.
        identity: What the digest covers besides the operands.
    """

    op: str
    weights: tuple[str | None, ...]
    attributes: Attributes
    shape: Shape
    identity: str


# Not frozen: a recording makes hundreds, and freezing triples what making one costs.
@dataclass(slots=True)
class Node:
    """One operator applied once; never changed once made.

    Attributes:
        kind: Everything but the operands; its parts are at hand as ``op``, ``weights``, ``shape``, ``identity``.
        inputs: Positions of the operand nodes.
        digest: Merkle digest over the kind's identity and the operands.
    """

    kind: NodeKind
    inputs: tuple[int, ...]
    digest: str

    @property
    def op(self) -> str:
        """Name of the operator."""
        return self.kind.op

    @property
    def weights(self) -> tuple[str | None, ...]:
        """Names of the weights, ``None`` where an optional one is absent."""
        return self.kind.weights

    @property
    def attributes(self) -> Attributes:
        """Sorted (name, value) pairs."""
        return self.kind.attributes

    @property
    def shape(self) -> Shape:
        """Shape of the value, ``BATCH`` standing for the batch axis."""
        return self.kind.shape

    @property
    def identity(self) -> str:
        """What the digest covers besides the operands."""
        return self.kind.identity

    def __getitem__(self, name: str) -> Any:
        """Return the value of an attribute."""
        return dict(self.kind.attributes)[name]


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


Step = tuple[NodeKind, Sequence[int]]
"""What adds a node: its kind, and the positions of its operands."""


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


class GraphBuilder:
    """Collects nodes; asking twice for the same node gives the same position."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._positions: dict[tuple[Hashable, ...], int] = {}

    def add(self, kind: NodeKind, inputs: Sequence[int] = ()) -> int:
        """Return the position of a node, added if there is none like it."""
        operands = sorted(inputs) if len(inputs) > 1 and kind.op in COMMUTATIVE else inputs
        key = (kind.identity, *operands)
        position = self._positions.get(key)
        if position is None:
            position = self._positions[key] = len(self.steps)
            self.steps.append((kind, operands))
        return position

    def graph(self, output: int) -> Graph:
        """Return the graph of an output: the inputs, and the nodes that the output depends on."""
        needed = {0, output}
        for position in range(output, -1, -1):
            if position in needed:
                needed.update(self.steps[position][1])
        place = {position: i for i, position in enumerate(sorted(needed))}
        nodes: list[Node] = []
        digests: list[str] = []
        for position in place:
            kind, inputs = self.steps[position]
            operands = [place[i] for i in inputs]
            if len(operands) > 1 and kind.op in COMMUTATIVE:
                # By content, not by age: a + b and b + a are one function whichever was recorded first.
                operands.sort(key=digests.__getitem__)
            content = "".join([kind.identity, *[digests[i] for i in operands]])
            digest = blake2b(content.encode(), digest_size=16).hexdigest()
            digests.append(digest)
            nodes.append(Node(kind, tuple(operands), digest))
        return Graph(tuple(nodes))
