"""NAS-Bench-101: cells of up to seven vertices, and the sub-spaces that were studied with weight sharing.

An encoding is an upper-triangular adjacency matrix and an operation for each inner vertex. Vertices off all
paths from input to output drop out, so many encodings make one cell; what is left may have nine edges. The
full space accepts what the benchmark accepts. Vertices own their weights, so a vertex keeps its number when
others drop out: encodings of one cell share their truth and, on other vertices, not their weights.

Sources: Ying et al., ICML 2019 (arXiv 1902.09635); the sub-spaces of 1Shot1 after Zela et al., ICLR 2020, as
used with fixed fan-in in weight-sharing studies; A1 to A4 and the residual halves after Pourchot et al.
(arXiv 2002.04289); fewer vertices after Yu et al. (arXiv 2003.04276).
"""

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property

import numpy as np

from wsx.errors import ArchError, OptionError
from wsx.spaces._base import SPACES, Arch, Cost, Decision, Space
from wsx.spaces.nasbench101_cell import (
    CONV_1X1,
    CONV_3X3,
    MAX_EDGES,
    OPERATIONS,
    PrunedCell,
    cell_hash,
    edges_of,
    prune,
    vertex_channels,
)
from wsx.spaces.nasbench101_matrices import (
    Codes,
    children,
    distinct_cells,
    n_feeding,
    n_parents,
    pruned_codes,
)
from wsx.spaces.nasbench101_text import from_text, to_text

_KERNELS: Mapping[int | None, int] = {CONV_3X3: 9, CONV_1X1: 1}


class NasBench101(Space):
    """The cells of NAS-Bench-101, or those of them that a rule on their edges admits.

    Args:
        name: Name of the space.
        summary: What it is, in a line.
        n_vertices: Vertices of an encoding, input and output included.
        feeding: How many inner vertices may feed the output; None for any number.
        residual: Whether the input must feed the output; None leaves it free.
        parents: How many parents each vertex has, none dropping out; None leaves it free.
    """

    def __init__(
        self,
        name: str,
        summary: str,
        *,
        n_vertices: int = 7,
        feeding: Sequence[int] | None = None,
        residual: bool | None = None,
        parents: Sequence[int] | None = None,
    ) -> None:
        self.name = name
        self.summary = summary
        self.n_vertices = n_vertices
        # A vertex that feeds the output needs an edge in and one out.
        most = min(n_vertices - 2, MAX_EDGES // 2)
        self.feeding = tuple(range(most + 1)) if feeding is None else tuple(feeding)
        self.residual = residual
        self._parents = parents

    @property
    def supernet(self) -> str:
        """One supernet serves the family, sized by what the space can need."""
        return "nasbench101"

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """One decision per possible edge, row by row, and one per inner vertex."""
        edges = [Decision(f"{i}->{j}", ("absent", "present")) for i, j in edges_of(self.n_vertices)]
        ops = [Decision(f"op{v}", OPERATIONS) for v in range(1, self.n_vertices - 1)]
        return (*edges, *ops)

    @property
    def measures(self) -> Mapping[str, Callable[[], list[Arch] | None]]:
        """Distinct cells, each by one of its encodings; or all encodings, dangling vertices included.

        Which encoding stands for a cell was drawn once and for all, so that no vertex is preferred.
        """
        return {"archs": lambda: self._distinct_archs, "encodings": lambda: None}

    @property
    def reference_macro(self) -> Mapping[str, int]:
        """The benchmark's networks on CIFAR-10."""
        return {
            "channels": 128,
            "stacks": 3,
            "cells_per_stack": 3,
            "n_classes": 10,
            "in_channels": 3,
            "image_size": 32,
        }

    def format(self, arch: Arch) -> str:
        """Return adjacency bits, a dash and a sign per operation, such as ``110110-3m``."""
        return to_text(self.check(arch), self.n_vertices)

    def parse(self, text: str) -> Arch:
        """Return the arch of a text, wsx's own or the benchmark's matrix and operations as JSON.

        A cell with fewer vertices is laid on the first inner ones.

        Raises:
            ArchError: The text is malformed, or not of this space.
            UnknownNameError: An operation's name is not the benchmark's.
        """
        arch = from_text(text, self.n_vertices)
        return arch if self.is_valid(arch) else self.check(arch)

    def cell(self, arch: Arch) -> PrunedCell:
        """Return the pruned cell of an arch."""
        return prune(arch, self.n_vertices)

    def truth_text(self, arch: Arch) -> str:
        """Return the benchmark's hash, which all encodings of a cell share."""
        return cell_hash(self.cell(self.check(arch)))

    def depth(self, arch: Arch) -> int:
        """Return the operations on the longest path through the cell."""
        cell = self.cell(self.check(arch))
        depths: list[int] = []
        for parents, op in zip(cell.parents, cell.ops, strict=True):
            before = max((depths[parent] for parent in parents), default=0)
            depths.append(before + (op is not None))
        return depths[cell.output]

    def function_key(self, arch: Arch) -> Hashable:
        """Return the pruned cell on its own vertices."""
        return self.cell(self.check(arch))

    def is_valid(self, arch: Arch) -> bool:
        """Return whether a path joins input and output, and the pruned cell keeps the space's rules."""
        code = self._code(arch)
        place = self._place(code)
        return place < len(self._codes) and int(self._codes[place]) == code

    @cached_property
    def n_archs(self) -> int:
        """How many encodings the space has."""
        return len(self._codes) * len(self._operations)

    def arch_at(self, index: int) -> Arch:
        """Return the arch with an index; archs ascend as tuples do."""
        if not 0 <= index < self.n_archs:
            raise ArchError(f"index {index} lies outside 0..{self.n_archs - 1} of {self.name}")
        matrix, operations = divmod(index, len(self._operations))
        return (*self._bits(int(self._codes[matrix])), *self._operations[operations])

    def index(self, arch: Arch) -> int:
        """Return the index of an arch; inverse of ``arch_at``."""
        arch = self.check(arch)
        operations = 0
        for op in arch[self._n_edges :]:
            operations = operations * len(OPERATIONS) + op
        return self._place(self._code(arch)) * len(self._operations) + operations

    def neighbours(self, arch: Arch) -> list[Arch]:
        """Return what one flipped edge or one changed operation makes.

        Where a rule fixes numbers of edges, also what exchanging one parent of a vertex makes.
        """
        arch = self.check(arch)
        found = super().neighbours(arch)
        if self._parents is None and len(self.feeding) > 1:
            return found
        places = {pair: place for place, pair in enumerate(edges_of(self.n_vertices))}
        for one, other in itertools.combinations(places, 2):
            bits = arch[places[one]], arch[places[other]]
            if one[1] == other[1] and bits[0] != bits[1]:
                exchanged = list(arch)
                exchanged[places[one]], exchanged[places[other]] = bits[1], bits[0]
                found.append(tuple(exchanged))
        return [other for other in found if self.is_valid(other)]

    def widths(self, channels: int) -> tuple[int, ...]:
        """Return all numbers of channels that inner vertices have in a cell with so many, ascending.

        Raises:
            OptionError: The cell has fewer channels than vertices may share.
        """
        if channels < max(self.feeding):
            raise OptionError(
                f"channels is {channels}; up to {max(self.feeding)} vertices of {self.name} share them, so "
                f"it must be at least {max(self.feeding)}"
            )
        shares = {n for k in self.feeding if k for n in (channels // k, -(-channels // k))}
        return tuple(sorted(shares))

    def cost(self, arch: Arch, macro: Mapping[str, int]) -> Cost:
        """Return params and multiply-adds; the params are those of the benchmark's table.

        Args:
            arch: The arch; dropped vertices cost nothing.
            macro: ``channels`` (of the first stack), ``stacks``, ``cells_per_stack``, ``n_classes``,
                ``in_channels`` and ``image_size`` (pixels a side); ``is_affine`` may be false.
        """
        cell = self.cell(self.check(arch))
        per_norm = 2 if macro.get("is_affine", True) else 0
        width, size = macro["channels"], macro["image_size"]
        kernels, norms = macro["in_channels"] * 9 * width, width
        flops = kernels * size * size
        source = width
        for stack in range(macro["stacks"]):
            if stack:
                width, size = 2 * width, (size + 1) // 2
            for _ in range(macro["cells_per_stack"]):
                in_cell, channels = _cell_cost(cell, source, width)
                kernels, norms = kernels + in_cell, norms + channels
                flops += in_cell * size * size
                source = width
        classifier = (width + 1) * macro["n_classes"]
        return Cost(kernels + per_norm * norms + classifier, flops + classifier)

    @property
    def _n_edges(self) -> int:
        return len(edges_of(self.n_vertices))

    def _code(self, arch: Arch) -> int:
        code = 0
        for bit in arch[: self._n_edges]:
            code = 2 * code + bit
        return code

    def _place(self, code: int) -> int:
        # A code of another type would make NumPy convert all of them.
        return int(np.searchsorted(self._codes, np.int32(code)))

    @cached_property
    def _operations(self) -> list[tuple[int, ...]]:
        return list(itertools.product(range(len(OPERATIONS)), repeat=self.n_vertices - 2))

    @cached_property
    def _codes(self) -> Codes:
        """The matrices of the space, ascending; made on first use, in about a second."""
        n = self.n_vertices
        pruned = pruned_codes(n)
        is_in = (pruned > 0) & (np.bitwise_count(pruned) <= MAX_EDGES)
        is_in &= np.isin(n_feeding(pruned, n), self.feeding)
        if self.residual is not None:
            is_in &= (children(pruned, 0, n) & 1) == self.residual
        if self._parents is not None:
            raw = np.arange(len(pruned), dtype=np.int32)
            is_in &= pruned == raw
            for vertex, count in enumerate(self._parents):
                is_in &= n_parents(raw, vertex, n) == count
        return np.flatnonzero(is_in).astype(np.int32)

    def _bits(self, code: int) -> tuple[int, ...]:
        return tuple(map(int, f"{code:0{self._n_edges}b}"))

    @cached_property
    def _distinct_archs(self) -> list[Arch]:
        codes, operations = distinct_cells(self._codes, self.n_vertices)
        bits = (codes >> np.arange(self._n_edges)[::-1, None]) & 1
        ops = np.array(self._operations)[operations].T
        return list(zip(*bits.tolist(), *ops.tolist(), strict=True))


def _cell_cost(cell: PrunedCell, in_channels: int, channels: int) -> tuple[int, int]:
    """Return weights of the kernels of a cell, and channels of its BatchNorm layers."""
    widths = vertex_channels(cell, channels)
    kernels = norms = 0
    for vertex in (*cell.inner, cell.output):
        width = widths[vertex]
        if 0 in cell.parents[vertex]:
            kernels, norms = kernels + in_channels * width, norms + width
        if (op := cell.ops[vertex]) in _KERNELS:
            kernels, norms = kernels + _KERNELS[op] * width * width, norms + width
    return kernels, norms


_FAMILY = (
    NasBench101("nasbench101", "423,624 cells of up to 7 vertices and 9 edges, 3 operations"),
    NasBench101(
        "nasbench101-1shot1c",
        "NAS-Bench-101 cells of 1, 1, 1, 2, 2, 2 parents, none of them input->output, none dangling",
        feeding=(2,),
        residual=False,
        parents=(0, 1, 1, 1, 2, 2, 2),
    ),
    *(
        NasBench101(
            f"nasbench101-a{n}",
            f"NAS-Bench-101 cells whose output is fed by {n} inner vertices",
            feeding=(n,),
        )
        for n in range(1, 5)
    ),
    NasBench101(
        "nasbench101-residual", "NAS-Bench-101 cells with the input->output edge", residual=True
    ),
    NasBench101(
        "nasbench101-no-residual",
        "NAS-Bench-101 cells without the input->output edge",
        residual=False,
    ),
    *(
        NasBench101(f"nasbench101-v{n}", f"NAS-Bench-101 cells of up to {n} vertices", n_vertices=n)
        for n in range(3, 7)
    ),
)
for _space in _FAMILY:
    SPACES.register(_space.name)(_space)
