"""The text forms of NAS-Bench-101 cells.

wsx's own: adjacency bits, row by row of the upper triangle, a dash, and a sign for the operation of each inner
vertex (``3`` conv3x3-bn-relu, ``1`` conv1x1-bn-relu, ``m`` maxpool3x3), such as ``110110-3m``. Its length tells
the number of vertices. The benchmark's: the matrix and the operations' names, a JSON list of two.
"""

import json
import re

from wsx.errors import ArchError
from wsx.registry import unknown_name
from wsx.spaces._base import Arch
from wsx.spaces.nasbench101_cell import INPUT, OPERATIONS, OUTPUT, edges_of

SIGNS = "31m"
_TEXT = re.compile(r"([01]+)-([31m]*)")
# What a vertex has that is in no smaller cell's text: no edges, and the first operation.
_ABSENT = 0


def to_text(arch: Arch, n_vertices: int) -> str:
    """Return wsx's text form of an encoding."""
    n_edges = len(edges_of(n_vertices))
    bits = "".join(map(str, arch[:n_edges]))
    return f"{bits}-{''.join([SIGNS[op] for op in arch[n_edges:]])}"


def from_text(text: str, n_vertices: int) -> Arch:
    """Return the encoding of a text; a smaller cell takes the first inner vertices.

    Raises:
        ArchError: The text has neither form, or more vertices.
        UnknownNameError: An operation's name is not the benchmark's.
    """
    text = text.strip()
    bits, ops = _from_json(text) if text.startswith("[") else _from_own(text)
    n_own = len(ops) + 2
    if n_own > n_vertices:
        raise ArchError(
            f"arch {text[:200]!r} has {n_own} vertices; at most {n_vertices} are allowed"
        )
    if n_own == n_vertices:
        return (*bits, *ops)
    # Only the output's number changes.
    moved = {
        (i, j if j < n_own - 1 else n_vertices - 1): bit
        for (i, j), bit in zip(edges_of(n_own), bits, strict=True)
    }
    padded = [moved.get(pair, _ABSENT) for pair in edges_of(n_vertices)]
    return (*padded, *ops, *[_ABSENT] * (n_vertices - n_own))


def _from_own(text: str) -> tuple[list[int], list[int]]:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ArchError(
            f"arch {text[:200]!r} must read BITS-OPERATIONS, bits 0 and 1, operations 3, 1 and m, such as "
            f"110110-3m; or be the benchmark's matrix and operations as JSON"
        )
    bits, ops = match[1], match[2]
    n_vertices = len(ops) + 2
    if len(bits) != n_vertices * (n_vertices - 1) // 2:
        raise ArchError(
            f"arch {text[:200]!r} has {len(bits)} bits; {len(ops)} operations make {n_vertices} vertices, "
            f"which have {n_vertices * (n_vertices - 1) // 2}"
        )
    return list(map(int, bits)), list(map(SIGNS.index, ops))


def _from_json(text: str) -> tuple[list[int], list[int]]:
    try:
        matrix, names = json.loads(text)
        n_vertices = len(matrix)
        entries = {(i, j): x for i, row in enumerate(matrix) for j, x in enumerate(row)}
        is_square = all(len(row) == n_vertices for row in matrix) and len(names) == n_vertices > 1
        is_framed = is_square and (names[0], names[-1]) == (INPUT, OUTPUT)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ArchError(f"arch {text[:200]!r} is no list of a matrix and operations") from error
    if not is_framed:
        raise ArchError(
            f"arch {text[:200]!r} needs a square matrix and as many operations, from input to output"
        )
    if any(x not in (0, 1) or (x and i >= j) for (i, j), x in entries.items()):
        raise ArchError(f"arch {text[:200]!r} has entries other than 0, and 1 above the diagonal")
    for name in names[1:-1]:
        if name not in OPERATIONS:
            raise unknown_name("nasbench101 operation", str(name)[:60], list(OPERATIONS))
    bits = [int(entries[pair]) for pair in edges_of(n_vertices)]
    return bits, [OPERATIONS.index(name) for name in names[1:-1]]
