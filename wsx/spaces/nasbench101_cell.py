"""A pruned NAS-Bench-101 cell: who feeds whom, its official hash and the channels of its vertices.

Facts: Ying et al., NAS-Bench-101, ICML 2019 (arXiv 1902.09635), and its code google-research/nasbench.
"""

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property

from wsx.errors import OptionError
from wsx.spaces._base import Arch

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
CONV_3X3, CONV_1X1, MAX_POOL = range(3)
INPUT, OUTPUT = "input", "output"
MAX_EDGES = 9

# The hash labels inner vertices by their operation, and these two so.
_INPUT_LABEL, _OUTPUT_LABEL = -1, -2


@cache
def edges_of(n_vertices: int) -> tuple[tuple[int, int], ...]:
    """Return all (source, target) with source < target, row by row: the order of adjacency bits."""
    return tuple((i, j) for i in range(n_vertices) for j in range(i + 1, n_vertices))


@dataclass(frozen=True)
class PrunedCell:
    """The vertices on a path from input to output, under their numbers in the encoding.

    Equal cells compute the same function with weights that vertices own; cells that differ in the numbers of
    their vertices alone do not, and share a hash.

    Attributes:
        parents: Of each vertex of the encoding, ascending; empty for the input and for dropped vertices.
        ops: Of each vertex of the encoding; None for input, output and dropped vertices.
    """

    parents: tuple[tuple[int, ...], ...]
    ops: tuple[int | None, ...]

    @property
    def output(self) -> int:
        """Number of the output vertex."""
        return len(self.parents) - 1

    @cached_property
    def inner(self) -> tuple[int, ...]:
        """The vertices that have an operation, ascending."""
        return tuple(vertex for vertex, op in enumerate(self.ops) if op is not None)

    @property
    def feeding(self) -> tuple[int, ...]:
        """The inner vertices that feed the output, ascending."""
        return tuple(vertex for vertex in self.parents[-1] if vertex)

    @property
    def has_residual(self) -> bool:
        """Whether the input feeds the output."""
        return 0 in self.parents[-1]

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """The vertices that each vertex of the encoding feeds, ascending."""
        vertices = range(len(self.parents))
        return tuple(tuple(c for c in vertices if v in self.parents[c]) for v in vertices)


def prune(arch: Arch, n_vertices: int) -> PrunedCell:
    """Return the cell of an encoding, adjacency bits and then operations, that joins input and output."""
    pairs = edges_of(n_vertices)
    edges = [pair for pair, bit in zip(pairs, arch, strict=False) if bit]
    reached, useful = {0}, {n_vertices - 1}
    # Sources ascend, so all that leads to a source comes before what it leads to.
    for source, target in edges:
        if source in reached:
            reached.add(target)
    for source, target in reversed(edges):
        if target in useful:
            useful.add(source)
    kept = reached & useful
    parents: list[list[int]] = [[] for _ in range(n_vertices)]
    for source, target in edges:
        if source in kept and target in kept:
            parents[target].append(source)
    ops = [op if v in kept else None for v, op in enumerate(arch[len(pairs) :], 1)]
    return PrunedCell(tuple(tuple(sources) for sources in parents), (None, *ops, None))


def cell_hash(cell: PrunedCell) -> str:
    """Return the benchmark's name of a cell, 32 hexadecimal digits: equal for isomorphic cells.

    Each vertex starts with the MD5 of its out-degree, in-degree and label; as many times as there are
    vertices it takes in those of its parents and children, sorted; the name is the MD5 of all, sorted.
    """
    vertices = (0, *cell.inner, cell.output)
    labels = (_INPUT_LABEL, *(cell.ops[vertex] for vertex in cell.inner), _OUTPUT_LABEL)
    place = {vertex: i for i, vertex in enumerate(vertices)}
    around = [
        ([place[p] for p in cell.parents[vertex]], [place[c] for c in cell.children[vertex]])
        for vertex in vertices
    ]
    digests = [
        _md5(str((len(children), len(parents), label)))
        for (parents, children), label in zip(around, labels, strict=True)
    ]
    for _ in vertices:
        digests = [
            _md5(f"{_sorted(digests, parents)}|{_sorted(digests, children)}|{digests[i]}")
            for i, (parents, children) in enumerate(around)
        ]
    return _md5(str(sorted(digests)))


def _sorted(digests: list[str], places: list[int]) -> str:
    # Most vertices have one parent or child, and sorting it would cost as much as the MD5.
    if len(places) == 1:
        return digests[places[0]]
    return "".join(sorted([digests[place] for place in places]))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def vertex_channels(cell: PrunedCell, channels: int) -> tuple[int, ...]:
    """Return the channels of each vertex of the encoding, 0 for the input and for dropped ones.

    The inner vertices that feed the output share its channels evenly, the first of them taking one more
    each until the rest is spent; every other inner vertex has as many as its widest child.

    Raises:
        OptionError: More vertices feed the output than it has channels.
    """
    feeding = cell.feeding
    if len(feeding) > channels:
        raise OptionError(
            f"{len(feeding)} vertices cannot share {channels} channels; raise channels to {len(feeding)}"
        )
    widths = [0] * len(cell.parents)
    widths[cell.output] = channels
    share, rest = divmod(channels, max(1, len(feeding)))
    for place, vertex in enumerate(feeding):
        widths[vertex] = share + (place < rest)
    for vertex in reversed(cell.inner):
        if vertex not in feeding:
            widths[vertex] = max(widths[child] for child in cell.children[vertex])
    return tuple(widths)
