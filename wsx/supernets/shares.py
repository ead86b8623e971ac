"""Which edges of a cell own an operation's weights together.

``edge``: each edge has its own, as in NAS-Bench-201 and DARTS. ``node``: all edges into a node share one set.
``inner``: edges into a node share but for the one from the cell's input, which has its own; so Yu et al.'s code
(arXiv 2003.04276) reads "op on node" in NAS-Bench-201.
"""

from collections.abc import Hashable, Sequence

from wsx.errors import OptionError

Edge = tuple[int, int]
"""Source and target."""


def edge_owners(shares: str, edges: Sequence[Edge]) -> tuple[int, ...]:
    """Return, for every edge, the number of the set of operations that it uses, counted from zero."""
    keys: list[Hashable] = [
        (source, target) if shares == "edge" or (shares == "inner" and source == 0) else target
        for source, target in edges
    ]
    distinct = list(dict.fromkeys(keys))
    return tuple(distinct.index(key) for key in keys)


def sources_of(owners: Sequence[int], edges: Sequence[Edge]) -> list[list[int]]:
    """Return, for every set of operations, the nodes that it may read."""
    return [
        [source for owner, (source, _) in zip(owners, edges, strict=True) if owner == number]
        for number in range(max(owners) + 1)
    ]


def check_wsbn(shares: str, *, has_wsbn: bool) -> None:
    """Refuse BatchNorm per source where every operation has one source.

    Raises:
        OptionError: ``has_wsbn`` with weights that edges own.
    """
    if has_wsbn and shares == "edge":
        raise OptionError(
            "has_wsbn makes a BatchNorm layer for every node that an operation reads, and with shares=edge each "
            "reads one; share operations between edges as well, such as shares=node"
        )
