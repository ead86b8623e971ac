"""NAS-Bench-201: a cell of four nodes and six edges, five operations on each edge.

Text form, order and macro are the benchmark's own (Dong and Yang, ICLR 2020). An edge whose source
carries no signal carries none itself, so that 15,625 encodings are 8,196 different expressions.
"""

import itertools
import random
import re
from collections.abc import Callable, Hashable, Mapping
from functools import cache, cached_property

from wsx.errors import ArchError
from wsx.registry import unknown_name
from wsx.spaces._base import SPACES, Arch, Cost, Decision, Space

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NONE, SKIP, CONV_1X1, CONV_3X3, POOL = range(5)
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
N_NODES = 4

# The benchmark shuffled the lexicographic list with this seed ("please do not change this line").
OFFICIAL_SHUFFLE_SEED = 88

_EDGE_PATTERN = re.compile(r"([^~|+]+)~(\d+)")


class NasBench201(Space):
    """The 15,625 cells of NAS-Bench-201."""

    name = "nasbench201"
    summary = "cells of 4 nodes and 6 edges, 5 operations each; stand-alone truth for all"

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """One decision per edge, named ``source->target``."""
        return tuple(Decision(f"{source}->{target}", OPERATIONS) for source, target in EDGES)

    @property
    def measures(self) -> Mapping[str, Callable[[], list[Arch] | None]]:
        """All encodings, those with a reachable output, or one encoding per distinct function."""
        return {
            "encodings": lambda: None,
            "reachable": _reachable_archs,
            "functions": _distinct_functions,
        }

    def is_cost_exact(self, arch: Arch) -> bool:
        """Return whether no edge is dead; the benchmark's table counts operations on dead edges too."""
        return NONE not in self.check(arch)

    @property
    def reference_macro(self) -> Mapping[str, int]:
        """The benchmark's networks on CIFAR-10."""
        return {"channels": 16, "cells": 5, "n_classes": 10, "in_channels": 3, "image_size": 32}

    def format(self, arch: Arch) -> str:
        """Return the official text, such as ``|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|``."""
        arch = self.check(arch)
        blocks = [
            "".join(
                f"|{OPERATIONS[option]}~{source}"
                for option, (source, end) in zip(arch, EDGES, strict=True)
                if end == target
            )
            + "|"
            for target in range(1, N_NODES)
        ]
        return "+".join(blocks)

    def parse(self, text: str) -> Arch:
        """Return the arch of an official text.

        Raises:
            ArchError: The text is not three blocks of one, two and three ``|operation~source|`` entries.
            UnknownNameError: An operation is not one of the five.
        """
        blocks = text.strip().split("+")
        if len(blocks) != N_NODES - 1:
            raise ArchError(
                f"arch {text[:200]!r} has {len(blocks)} blocks separated by '+'; nasbench201 has 3"
            )
        arch = [
            option
            for target, block in enumerate(blocks, 1)
            for option in _parse_block(block, target, text)
        ]
        return tuple(arch)

    def arch_at(self, index: int) -> Arch:
        """Return the arch with an index of the official order."""
        if not 0 <= index < self.n_archs:
            raise ArchError(f"index {index} lies outside 0..{self.n_archs - 1} of {self.name}")
        return _official_order()[index]

    def index(self, arch: Arch) -> int:
        """Return the index of an arch in the official order."""
        return _official_index()[self.check(arch)]

    def is_reachable(self, arch: Arch) -> bool:
        """Return whether a path of edges other than ``none`` leads from input to output."""
        reached = {0}
        for option, (source, target) in zip(self.check(arch), EDGES, strict=True):
            if option != NONE and source in reached:
                reached.add(target)
        return N_NODES - 1 in reached

    def depth(self, arch: Arch) -> int:
        """Return the operations on the longest path through the cell, skips aside; 0 where none leads through."""
        depths = {0: 0}
        for option, (source, target) in zip(self.check(arch), EDGES, strict=True):
            if option != NONE and source in depths:
                there = depths[source] + (option != SKIP)
                depths[target] = max(there, depths.get(target, 0))
        return depths.get(N_NODES - 1, 0)

    def function_key(self, arch: Arch) -> Hashable:
        """Return the expression that the cell computes, sums sorted and dead edges left out."""
        arch = self.check(arch)
        values: list[Hashable] = [("input",)]
        for target in range(1, N_NODES):
            terms = [
                _term(option, edge, values[source])
                for edge, (option, (source, end)) in enumerate(zip(arch, EDGES, strict=True))
                if end == target and option != NONE and values[source] is not None
            ]
            values.append(_sum(terms))
        return values[-1]

    def cost(self, arch: Arch, macro: Mapping[str, int]) -> Cost:
        """Return params and multiply-adds, all six edges counted as the benchmark's table does.

        Args:
            arch: The arch.
            macro: ``channels``, ``cells`` (per stage), ``n_classes``, ``in_channels`` and
                ``image_size`` (pixels a side); ``is_affine`` may be false.
        """
        arch = self.check(arch)
        width, size = macro["channels"], macro["image_size"]
        per_norm = 2 if macro.get("is_affine", True) else 0
        params = macro["in_channels"] * 9 * width + per_norm * width
        flops = macro["in_channels"] * 9 * width * size * size
        for stage in range(3):
            if stage:
                size = (size + 1) // 2
                block = (width * 2 * width + 4 * width * width) * 9 + 2 * width * width
                flops += block * size * size
                width *= 2
                params += block + 2 * per_norm * width
            for option in arch:
                if option in (CONV_1X1, CONV_3X3):
                    kernel = (9 if option == CONV_3X3 else 1) * width * width
                    params += macro["cells"] * (kernel + per_norm * width)
                    flops += macro["cells"] * kernel * size * size
        params += per_norm * width + (width + 1) * macro["n_classes"]
        flops += (width + 1) * macro["n_classes"]
        return Cost(params, flops)


def _parse_block(block: str, target: int, text: str) -> list[int]:
    entries = block.strip().strip("|").split("|")
    if len(entries) != target:
        raise ArchError(
            f"arch {text[:200]!r}: block {target} has {len(entries)} entries; it needs {target}"
        )
    options = []
    for source, entry in enumerate(entries):
        match = _EDGE_PATTERN.fullmatch(entry)
        if match is None or match[2] != str(source):
            raise ArchError(
                f"arch {text[:200]!r}: entry {entry[:60]!r} of block {target} must read operation~{source}"
            )
        if match[1] not in OPERATIONS:
            raise unknown_name("nasbench201 operation", match[1], list(OPERATIONS))
        options.append(OPERATIONS.index(match[1]))
    return options


def _term(option: int, edge: int, value: Hashable) -> Hashable:
    if option == SKIP:
        return value
    if option == POOL:
        return ("pool", value)
    return (option, edge, value)


def _sum(terms: list[Hashable]) -> Hashable:
    if not terms:
        return None
    return terms[0] if len(terms) == 1 else ("sum", *sorted(terms, key=repr))


@cache
def _official_order() -> tuple[Arch, ...]:
    archs = list(itertools.product(range(len(OPERATIONS)), repeat=len(EDGES)))
    random.Random(OFFICIAL_SHUFFLE_SEED).shuffle(archs)
    return tuple(archs)


@cache
def _official_index() -> dict[Arch, int]:
    return {arch: index for index, arch in enumerate(_official_order())}


@cache
def _reachable_archs() -> list[Arch]:
    return [arch for arch in _official_order() if NASBENCH201.is_reachable(arch)]


@cache
def _distinct_functions() -> list[Arch]:
    first: dict[Hashable, Arch] = {}
    for arch in _reachable_archs():
        first.setdefault(NASBENCH201.function_key(arch), arch)
    return list(first.values())


NASBENCH201 = NasBench201()
SPACES.register(NasBench201.name)(NASBENCH201)
