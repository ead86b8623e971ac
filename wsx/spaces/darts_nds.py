"""DARTS' cells as "On Network Design Spaces for Visual Recognition" samples them (NDS, arXiv 1905.13214).

Two things differ from ``darts``: ``none`` is an operation, and both slots of a node may have one source. The
samples that the authors published later (facebookresearch/unnas) have both, and together they give 242 billion
cells. NDS also draws a width (16 to 32 channels) and a depth (4 to 20 cells) for every network. The public code of
Yu et al. ("An Analysis of Super-Net Heuristics in Weight-Sharing NAS", arXiv 2110.01154, and its successor) trains
one supernet of 36 channels and 12 cells for all. So width and depth are macro options here, and truth that varies
them is confounded with them.
"""

from collections.abc import Mapping

from wsx.spaces._base import SPACES, Arch
from wsx.spaces.darts import OPERATIONS, Darts
from wsx.spaces.darts_cost import cell_shapes
from wsx.spaces.darts_genotype import N_SOURCES, Cell

NONE = "none"


class DartsNds(Darts):
    """The cells of NDS' DARTS family: 5.8e22 pairs of cells."""

    name = "darts-nds"
    summary = "DARTS' cells as NDS draws them: 8 operations with none, sources may be equal"
    operations = (NONE, *OPERATIONS)
    has_equal_sources = True

    @property
    def reference_macro(self) -> Mapping[str, int]:
        """The supernet of Yu et al."""
        return {**super().reference_macro, "cells": 12}

    def is_cost_exact(self, arch: Arch) -> bool:
        """Return whether both cells read both cells before them, if only through ``none``.

        Where one does not, the cost counts preprocessing that no node reads, as the stand-alone network has it.
        """
        return all(
            {source for node in cell for _, source in node}.issuperset(range(N_SOURCES))
            for cell in self.cells(arch)
        )

    def is_reachable(self, arch: Arch) -> bool:
        """Return whether the output depends on its input.

        ``none`` gives zeros, which the next BatchNorm layer turns into constants. The network has 12 cells, which
        matters where a reduction cell alone reads nothing.
        """
        normal, reduce = (_sources_that_count(cell) for cell in self.cells(arch))
        before = last = True
        for shape in cell_shapes(self.reference_macro):
            counting = reduce if shape.is_reduction else normal
            before, last = last, (0 in counting and before) or (1 in counting and last)
        return last


def _sources_that_count(cell: Cell) -> set[int]:
    reached = [{source} for source in range(N_SOURCES)]
    for node in cell:
        reached.append(set().union(*(reached[source] for op, source in node if op != NONE)))
    return set().union(*reached[N_SOURCES:])


DARTS_NDS = DartsNds()
SPACES.register(DartsNds.name)(DARTS_NDS)
