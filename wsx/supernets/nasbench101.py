"""The NAS-Bench-101 macro with weights for every (cell, vertex, operation).

A vertex owns a 1x1 projection of the cell's input beside its operations, so what a vertex computes does not
depend on who feeds it. Vertices of a cell keep the numbers that they have in the encoding. Weights have as
many channels as some arch of the space can need: where all archs split the output alike, nothing is sliced.
"""

import functools
import operator
from collections.abc import Sequence

import torch
from torch import nn

from wsx.errors import OptionError
from wsx.spaces import Arch, Space
from wsx.spaces.nasbench101 import NasBench101
from wsx.spaces.nasbench101_cell import (
    CONV_1X1,
    CONV_3X3,
    MAX_POOL,
    OPERATIONS,
    PrunedCell,
    vertex_channels,
)
from wsx.supernets._base import SUPERNETS, Supernet
from wsx.supernets.blocks import DropPath
from wsx.supernets.kernels import share_kernels
from wsx.supernets.nasbench101_layers import ConvNormReLU, NasBench101Options, layer_of_widths


class Vertex(nn.Module):
    """One inner vertex: its projection of the cell's input and its candidate operations."""

    def __init__(
        self, number: int, in_channels: int, widths: Sequence[int], options: NasBench101Options
    ) -> None:
        super().__init__()
        # A set of vertices as the sum of 2^vertex; any but the empty one may feed this one.
        inputs = range(1, 2**number) if options.has_wsbn else None
        self.projection = layer_of_widths(in_channels, widths, 1, options)
        self.ops = nn.ModuleDict(
            {
                OPERATIONS[CONV_3X3]: layer_of_widths(None, widths, 3, options, inputs),
                OPERATIONS[CONV_1X1]: layer_of_widths(None, widths, 1, options, inputs),
                OPERATIONS[MAX_POOL]: nn.MaxPool2d(3, stride=1, padding=1),
            }
        )
        large, small = self.ops[OPERATIONS[CONV_3X3]], self.ops[OPERATIONS[CONV_1X1]]
        share_kernels(options.kernels, large, small)

    def forward(
        self,
        parents: list[torch.Tensor],
        x: torch.Tensor | None,
        op: int,
        width: int,
        inputs: int,
    ) -> torch.Tensor:
        """Return so many channels of an operation on the sum of parents and the projected input x, if any.

        Args:
            parents: Values of the inner vertices that feed this one.
            x: The cell's input if it does.
            op: Number of the operation.
            width: How many channels.
            inputs: Number of the set of all that feed this vertex, the sum of 2^vertex.
        """
        total = _sum(parents if x is None else [*parents, self.projection(x, width)])
        layer = self.ops[OPERATIONS[op]]
        y: torch.Tensor = layer(total) if op == MAX_POOL else layer(total, width, inputs)
        return y


def _sum(terms: list[torch.Tensor]) -> torch.Tensor:
    return functools.reduce(operator.add, terms)


class Cell(nn.Module):
    """One cell of a stack."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        space: NasBench101,
        options: NasBench101Options,
        depth: float,
    ) -> None:
        super().__init__()
        widths = space.widths(channels)
        self.has_wsbn = options.has_wsbn
        self.vertices = nn.ModuleList(
            Vertex(number, in_channels, widths, options)
            for number in range(1, space.n_vertices - 1)
        )
        self.residual = (
            None if space.residual is False else ConvNormReLU(in_channels, channels, 1, options)
        )
        self.drop_path = DropPath(depth)

    def forward(self, x: torch.Tensor, cell: PrunedCell, widths: Sequence[int]) -> torch.Tensor:
        """Return the output vertex: the concatenation of what feeds it, plus the projected input if that does."""
        values: dict[int, torch.Tensor] = {}
        for number, sources in enumerate(cell.parents):
            if (op := cell.ops[number]) is None:
                continue
            width = widths[number]
            # Parents may have one channel more, see ``vertex_channels``.
            parents = [
                values[source] if widths[source] == width else values[source][:, :width]
                for source in sources
                if source
            ]
            own_x = x if 0 in sources else None
            # Without need for it, recording would learn every layer anew for every set.
            inputs = sum(2**source for source in sources) if self.has_wsbn else 0
            values[number] = self.vertices[number - 1](parents, own_x, op, width, inputs)
        feeding = [values[number] for number in cell.feeding]
        terms = [torch.cat(feeding, 1)] if len(feeding) > 1 else feeding
        if cell.has_residual and self.residual is not None:
            terms.append(self.residual(x))
        y: torch.Tensor = self.drop_path(_sum(terms))
        return y


@SUPERNETS.register("nasbench101")
class NasBench101Supernet(Supernet):
    """Stem, stacks of cells with a 2x2 max-pool and twice the channels from one to the next, classifier.

    Raises:
        OptionError: The space is of another family, or has more vertices to share the channels than these.
    """

    options_type = NasBench101Options

    def __init__(self, space: Space, options: NasBench101Options) -> None:
        super().__init__(space, options)
        if not isinstance(space, NasBench101):
            raise OptionError(f"supernet nasbench101 holds no weights for space {space.name}")
        self._cell_of = space.cell
        self._widths = [options.channels * 2**stack for stack in range(options.stacks)]
        width = options.channels
        self.stem = ConvNormReLU(options.in_channels, width, 3, options)
        self.halve = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.stacks = nn.ModuleList()
        n_cells = options.stacks * options.cells_per_stack
        depths = (options.path_depth(position, n_cells) for position in range(n_cells))
        for channels in self._widths:
            cells = nn.ModuleList()
            for _ in range(options.cells_per_stack):
                cells.append(Cell(width, channels, space, options, next(depths)))
                width = channels
            self.stacks.append(cells)
        self.pool = options.pooling()
        self.classifier = nn.Linear(width, options.n_classes)
        options.set_norms(self)

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Return logits (image, class)."""
        cell = self._cell_of(arch)
        x = self.stem(x)
        for stack, cells in enumerate(self.stacks):
            if stack:
                x = self.halve(x)
            widths = vertex_channels(cell, self._widths[stack])
            for module in cells.children():
                x = module(x, cell, widths)
        logits: torch.Tensor = self.classifier(self.pool(x).flatten(1))
        return logits
