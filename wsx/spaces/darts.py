"""DARTS' space of cells on CIFAR-10: seven operations, two different sources for each node.

A cell has four nodes; each is the sum of two operations, each applied to one of the two cells before or to an
earlier node. A network has one normal and one reduction cell (Liu et al., arXiv 1806.09055). Zhang et al. ("How
Does Weight Sharing Help in Neural Architecture Search?", arXiv 2010.08219) leave out ``none`` and draw ordered
pairs: the order decides which slot's weights are used, while the stand-alone network is the same.
"""

from collections.abc import Mapping
from functools import cached_property

from wsx.errors import ArchError, WsxError
from wsx.registry import unknown_name
from wsx.spaces._base import SPACES, Arch, Cost, Decision, Space
from wsx.spaces.darts_cost import first_depthwise_flops, network_cost
from wsx.spaces.darts_genotype import (
    CELL_KINDS,
    N_NODES,
    TARGETS,
    Cell,
    Node,
    Pair,
    format_choices,
    format_genotype,
    parse_cells,
)

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
_PER_NODE = 3


class Darts(Space):
    """Pairs of cells: 2.76e20 with ordered pairs, 1.08e18 different stand-alone networks.

    Each node makes three decisions: the operation of either slot, and the ordered pair of their sources.
    So every combination is an arch. A network has 256 orders, so that drawing encodings uniformly draws
    networks uniformly.

    Attributes:
        operations: Names of the operations, in order.
        has_equal_sources: Both slots of a node may have the same source.
    """

    name = "darts"
    summary = "normal and reduction cell of 4 nodes, two of 7 operations each, different sources"
    operations: tuple[str, ...] = OPERATIONS
    has_equal_sources = False

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """By node: ``normal/2/0/op``, ``normal/2/1/op`` and ``normal/2/inputs``, whose options read ``0,1``."""
        return tuple(
            decision
            for kind in CELL_KINDS
            for target in TARGETS
            for decision in (
                Decision(f"{kind}/{target}/0/op", self.operations),
                Decision(f"{kind}/{target}/1/op", self.operations),
                Decision(
                    f"{kind}/{target}/inputs", tuple(f"{a},{b}" for a, b in self._sources[target])
                ),
            )
        )

    @cached_property
    def _sources(self) -> dict[int, tuple[tuple[int, int], ...]]:
        return {
            target: tuple(
                (one, other)
                for one in range(target)
                for other in range(target)
                if one != other or self.has_equal_sources
            )
            for target in TARGETS
        }

    @property
    def supernet(self) -> str:
        """The supernet of all spaces of DARTS' cells."""
        return "darts"

    @property
    def reference_macro(self) -> Mapping[str, int]:
        """DARTS' evaluation network on CIFAR-10, that of the public table."""
        return {
            "channels": 36,
            "cells": 20,
            "n_classes": 10,
            "in_channels": 3,
            "image_size": 32,
        }

    def cells(self, arch: Arch) -> tuple[Cell, Cell]:
        """Return the normal and the reduction cell: for each node two pairs (operation, source)."""
        arch = self.check(arch)
        nodes = []
        for place, target in enumerate(list(TARGETS) * len(CELL_KINDS)):
            one, other, inputs = arch[_PER_NODE * place : _PER_NODE * (place + 1)]
            sources = self._sources[target][inputs]
            nodes.append(((self.operations[one], sources[0]), (self.operations[other], sources[1])))
        return tuple(nodes[:N_NODES]), tuple(nodes[N_NODES:])

    def depth(self, arch: Arch) -> int:
        """Return the operations on the longest path through the normal cell, skips aside."""
        depths = {0: 0, 1: 0}
        for target, node in zip(TARGETS, self.cells(arch)[0], strict=True):
            for operation, source in node:
                if operation != "none" and source in depths:
                    there = depths[source] + (operation != "skip_connect")
                    depths[target] = max(there, depths.get(target, 0))
        return max(depths.values())

    def format(self, arch: Arch) -> str:
        """Return DARTS' genotype, such as ``Genotype(normal=[('sep_conv_3x3', 0), ...], ...)``."""
        return format_genotype(*self.cells(arch))

    def format_choices(self, arch: Arch) -> str:
        """Return the arch as JSON with the keys ``normal|reduce/2..5/0|1/op|input``."""
        return format_choices(*self.cells(arch))

    def truth_text(self, arch: Arch) -> str:
        """Return the genotype with the pairs of each node sorted by source, then by operation.

        Archs that are one network when trained alone share this text.
        """
        normal, reduce = (
            tuple((min(node, key=_by_source), max(node, key=_by_source)) for node in cell)
            for cell in self.cells(arch)
        )
        return format_genotype(normal, reduce)

    def parse(self, text: str) -> Arch:
        """Return the arch of a genotype, or of JSON as ``format_choices`` writes it.

        Raises:
            ArchError: The text has another form, or a source lies outside the space.
            UnknownNameError: The space has no such operation.
        """
        arch: list[int] = []
        for kind, cell in zip(CELL_KINDS, parse_cells(text), strict=True):
            for target, node in zip(TARGETS, cell, strict=True):
                (one, source), (other, other_source) = node
                try:
                    arch += (
                        self._option_of[one],
                        self._option_of[other],
                        self._sources[target].index((source, other_source)),
                    )
                except (KeyError, ValueError):
                    raise self._refusal(f"{kind}/{target}", target, node) from None
        return tuple(arch)

    @cached_property
    def _option_of(self) -> dict[str, int]:
        return {operation: option for option, operation in enumerate(self.operations)}

    def _refusal(self, name: str, target: int, node: Node) -> WsxError:
        for operation, _ in node:
            if operation not in self._option_of:
                return unknown_name(f"{self.name} operation", operation[:60], list(self.operations))
        rule = "" if self.has_equal_sources else " and differ"
        return ArchError(
            f"node {name} has the inputs {[source for _, source in node]}; "
            f"they must lie in 0..{target - 1}{rule}"
        )

    def cost(self, arch: Arch, macro: Mapping[str, int]) -> Cost:
        """Return params and multiply-adds of the stand-alone network without auxiliary head.

        Params equal those of the public table of 377 networks (``reference_macro``). That table states fewer
        FLOPs, see ``table_flops``.

        Args:
            arch: The arch.
            macro: ``channels``, ``cells``, ``n_classes``, ``in_channels`` and ``image_size`` (pixels a
                side); ``is_affine`` may be false.
        """
        return network_cost(*self.cells(arch), macro)

    def table_flops(self, arch: Arch, macro: Mapping[str, int]) -> int:
        """Return the FLOPs that the public table of 377 networks states.

        Its counter knows plain convolution layers only: it misses the classifier's bias and the first
        depthwise convolution of every separable one, which is a layer of its own class there (found by
        regressing the table's column on the operations; exact on all its rows).
        """
        missed = first_depthwise_flops(*self.cells(arch), macro) + macro["n_classes"]
        return self.cost(arch, macro).flops - missed


def _by_source(pair: Pair) -> tuple[int, str]:
    operation, source = pair
    return source, operation


DARTS = Darts()
SPACES.register(Darts.name)(DARTS)
