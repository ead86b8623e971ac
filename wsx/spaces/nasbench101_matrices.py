"""All adjacency matrices of NAS-Bench-101 cells at once, as arrays of codes.

A code is the number that the adjacency bits of an encoding spell, the first the most significant, so that codes
ascend as encodings do. Seven vertices have 2^21 matrices: pruning all takes a fraction of a second.
"""

import itertools
from functools import cache

import numpy as np
from numpy.typing import NDArray

from wsx.spaces.nasbench101_cell import OPERATIONS, edges_of

Codes = NDArray[np.int32]

LISTING_SEED = 101


@cache
def pruned_codes(n_vertices: int) -> Codes:
    """Return the code (matrix,) of each matrix after pruning; 0 where no path joins input and output."""
    codes = np.arange(1 << len(edges_of(n_vertices)), dtype=np.int32)
    sources = range(n_vertices - 1)
    rows = [children(codes, vertex, n_vertices) for vertex in sources]
    bits = [1 << (n_vertices - 1 - vertex) for vertex in range(n_vertices)]
    reached = np.full_like(codes, bits[0])
    for vertex in sources:
        reached |= np.where(reached & bits[vertex], rows[vertex], 0)
    useful = np.full_like(codes, bits[-1])
    for vertex in reversed(sources):
        useful |= np.where(rows[vertex] & useful, bits[vertex], 0)
    kept = reached & useful
    pruned = np.zeros_like(codes)
    for vertex in sources:
        pruned <<= n_vertices - 1 - vertex
        pruned |= np.where(kept & bits[vertex], rows[vertex] & kept, 0)
    pruned.flags.writeable = False
    return pruned


def children(codes: Codes, vertex: int, n_vertices: int) -> Codes:
    """Return the vertices that a vertex feeds, as masks (matrix,) in which the output is the lowest bit."""
    n_later = n_vertices - 1 - vertex
    # The rows of later vertices lie below.
    shift = n_later * (n_later - 1) // 2
    return (codes >> shift) & ((1 << n_later) - 1)


def n_feeding(codes: Codes, n_vertices: int) -> Codes:
    """Return how many inner vertices feed the output, shape (matrix,)."""
    count = np.zeros_like(codes)
    for vertex in range(1, n_vertices - 1):
        count += children(codes, vertex, n_vertices) & 1
    return count


def n_parents(codes: Codes, vertex: int, n_vertices: int) -> Codes:
    """Return how many vertices feed a vertex, shape (matrix,)."""
    count = np.zeros_like(codes)
    for source in range(vertex):
        count += (children(codes, source, n_vertices) >> (n_vertices - 1 - vertex)) & 1
    return count


def distinct_cells(codes: Codes, n_vertices: int) -> tuple[Codes, Codes]:
    """Return one encoding of every cell that matrices make with all operations, isomorphic ones being one.

    It is drawn among the cell's encodings whose dropped vertices have no edges and the first operation.

    Args:
        codes: All matrices of a set; it has, with a cell, the cell on the first inner vertices.
        n_vertices: Of the encoding.

    Returns:
        Codes (cell,) of pruned matrices, and the operations (cell,), numbered as ``itertools.product``
        lists them.
    """
    rng = np.random.default_rng(LISTING_SEED)
    found = [(np.empty(0, np.int32), np.empty(0, np.int32))]
    sizes = _n_inner(codes, n_vertices)
    is_in = np.zeros(1 << len(edges_of(n_vertices)), bool)
    is_in[codes] = True
    for n_inner in range(n_vertices - 1):
        digits = _digits(n_inner)
        orders, *_ = _renumberings(n_inner, n_vertices - 2, n_vertices)
        powers = len(OPERATIONS) ** (n_vertices - 3 - orders)
        for code, operations in _distinct(codes[sizes == n_inner], n_inner, n_vertices):
            images = _images(np.array([code]), n_inner, n_vertices - 2, n_vertices)[0]
            forward = np.flatnonzero(np.isfinite(images))
            allowed = forward[is_in[images[forward].astype(np.int32)]]
            chosen = rng.choice(allowed, len(operations))
            moved = (digits[operations] * powers[chosen]).sum(axis=1)
            found.append((images[chosen].astype(np.int32), moved.astype(np.int32)))
    return np.concatenate([m for m, _ in found]), np.concatenate([o for _, o in found])


def _n_inner(codes: Codes, n_vertices: int) -> Codes:
    """Return how many inner vertices matrices have if these are pruned and the first ones, else -1."""
    feeds = [children(codes, vertex, n_vertices) > 0 for vertex in range(1, n_vertices - 1)]
    count = np.sum(feeds, axis=0, dtype=np.int32)
    is_first = np.ones(len(codes), bool)
    for earlier, later in itertools.pairwise(feeds):
        is_first &= earlier | ~later
    return np.where((pruned_codes(n_vertices)[codes] == codes) & is_first, count, np.int32(-1))


def _distinct(codes: Codes, n_inner: int, n_vertices: int) -> list[tuple[int, Codes]]:
    """Return a matrix of each isomorphism class, and the operations that make different cells with it."""
    images = _images(codes, n_inner, n_inner, n_vertices)
    _, first = np.unique(images.min(axis=1), return_index=True)
    orders, *_ = _renumberings(n_inner, n_inner, n_vertices)
    # Operations move with their vertices; of those that a renumbering makes equal the least one is taken.
    moved = (len(OPERATIONS) ** (n_inner - 1 - orders) @ _digits(n_inner).T).astype(np.int32)
    everything = np.arange(moved.shape[1], dtype=np.int32)
    is_least = [moved[images[i] == codes[i]].min(axis=0) == everything for i in first]
    return [(int(codes[i]), everything[kept]) for i, kept in zip(first, is_least, strict=True)]


def _digits(n_inner: int) -> Codes:
    """Return the operations (number, vertex) in the order of ``itertools.product``."""
    digits = list(itertools.product(range(len(OPERATIONS)), repeat=n_inner))
    return np.array(digits, np.int32).reshape(len(digits), n_inner)


def _images(codes: Codes, n_inner: int, n_places: int, n_vertices: int) -> NDArray[np.float64]:
    """Return the codes (matrix, order) of renumbered cells; inf where an edge would go back."""
    _, values, is_back = _renumberings(n_inner, n_places, n_vertices)
    bits = ((codes[:, None] >> np.arange(len(values))[::-1]) & 1).astype(np.float64)
    images: NDArray[np.float64] = bits @ values
    images[bits @ is_back > 0] = np.inf
    return images


@cache
def _renumberings(
    n_inner: int, n_places: int, n_vertices: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the orders (order, vertex) in which inner vertices take places, and what becomes of edges.

    Edges (edge, order) have the value in a code that they move to, or else go back.
    """
    pairs = edges_of(n_vertices)
    value_of = {pair: 2.0 ** (len(pairs) - 1 - place) for place, pair in enumerate(pairs)}
    orders = list(itertools.permutations(range(n_places), n_inner))
    values = np.zeros((len(pairs), len(orders)))
    for column, order in enumerate(orders):
        moved = dict(enumerate((0, *(1 + place for place in order))))
        moved[n_vertices - 1] = n_vertices - 1
        for row, (i, j) in enumerate(pairs):
            values[row, column] = value_of.get((moved.get(i, -1), moved.get(j, -1)), 0.0)
    array = np.array(orders, np.int64).reshape(len(orders), n_inner)
    return array, values, (values == 0).astype(np.float64)
