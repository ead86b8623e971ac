"""DARTS' evaluation network with a weight for every operation that a cell may use.

Liu et al., "DARTS: Differentiable Architecture Search" (arXiv 1806.09055): a stem of 3C channels, reductions at a
third and two thirds of the depth, every cell reads the two before it, pooling has no BatchNorm.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from wsx.errors import OptionError
from wsx.registry import unknown_name
from wsx.spaces import Arch, Darts
from wsx.spaces import darts_genotype as genotype
from wsx.spaces.darts_cost import KERNELS, N_SEPARABLE, STEM_MULTIPLIER, CellShape, cell_shapes
from wsx.supernets._base import SUPERNETS, MacroOptions, Supernet
from wsx.supernets.blocks import DropPath, ReLUConvBN, batch_norm
from wsx.supernets.blocks_darts import AuxiliaryHead, FactorizedReduce, SeparableConv, SepConv
from wsx.supernets.pure import pure

LAYOUTS = ("slot", "edge")
_AUXILIARY_PIXELS = 8


@dataclass(frozen=True)
class DartsOptions(MacroOptions):
    """Width, depth and sharing of the network.

    Attributes:
        channels: Channels of a node in the first cells (C).
        cells: Cells in all.
        layout: Who owns the weights of an operation. ``slot``: one of the two slots of a node, whatever source is
            routed into it (Zhang et al., arXiv 2010.08219); in reduction cells it serves stride 1 and 2.
            ``edge``: the pair of source and node, as in DARTS, so that the order of slots changes nothing.
        has_auxiliary: A second classifier at two thirds of the depth gives logits too while training.
        is_affine: BatchNorm layers learn scale and shift.
        tracks_statistics: BatchNorm layers keep running averages.
    """

    channels: int = 36
    cells: int = 20
    layout: str = "slot"
    has_auxiliary: bool = False
    is_affine: bool = True
    tracks_statistics: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            OptionError: A size is below one, or too small for the auxiliary head.
            UnknownNameError: There is no such layout.
        """
        super().__post_init__()
        if self.layout not in LAYOUTS:
            raise unknown_name("layout", self.layout, list(LAYOUTS))
        *_, shape = cell_shapes(vars(self))
        if self.has_auxiliary and shape.size_out < _AUXILIARY_PIXELS:
            raise OptionError(
                f"has_auxiliary needs {_AUXILIARY_PIXELS} pixels a side at two thirds of the depth; "
                f"with image_size {self.image_size} there are {shape.size_out}; set it to false"
            )

    @property
    def norm(self) -> dict[str, bool]:
        """The BatchNorm options as keyword arguments."""
        return {"is_affine": self.is_affine, "tracks_statistics": self.tracks_statistics}


@pure
class Operations(nn.Module):
    """The candidate operations that one slot or edge owns; those without weights need no module."""

    def __init__(self, channels: int, norm: dict[str, bool], *, is_strided: bool) -> None:
        super().__init__()
        self.candidates = nn.ModuleDict()
        for name, kernel_size in KERNELS.items():
            self.candidates[name] = (
                SepConv(channels, kernel_size, **norm)
                if N_SEPARABLE[name] == 2
                else SeparableConv(channels, kernel_size, dilation=2, **norm)
            )
        if is_strided:
            self.candidates["skip_connect"] = FactorizedReduce(channels, channels, **norm)
        self.drop_path = DropPath()

    def forward(self, x: torch.Tensor, operation: str, stride: int) -> torch.Tensor:
        """Return an operation applied to its source."""
        if operation == "none":
            return x[:, :, ::stride, ::stride] * 0.0
        if operation == "skip_connect" and stride == 1:
            return x
        y: torch.Tensor = self.drop_path(self._computed(x, operation, stride))
        return y

    def _computed(self, x: torch.Tensor, operation: str, stride: int) -> torch.Tensor:
        if operation == "max_pool_3x3":
            return F.max_pool2d(x, 3, stride, 1)
        if operation == "avg_pool_3x3":
            return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
        layer = self.candidates[operation]
        y: torch.Tensor = layer(x) if operation == "skip_connect" else layer(x, stride)
        return y


class Cell(nn.Module):
    """One cell: preprocessing of the two cells before, and the operations that its nodes choose from."""

    def __init__(self, space: Darts, options: DartsOptions, shape: CellShape) -> None:
        super().__init__()
        width, norm = shape.width, options.norm
        self.is_reduction = shape.is_reduction
        self.owns_by_edge = options.layout == "edge"
        self.before: nn.Module = (
            FactorizedReduce(shape.before, width, **norm)
            if shape.follows_reduction
            else ReLUConvBN(shape.before, width, 1, **norm)
        )
        self.last = ReLUConvBN(shape.last, width, 1, **norm)
        self.operations = nn.ModuleDict()
        for target in genotype.TARGETS:
            for source in range(target):
                owners = [self._owner(target, slot, source, is_twin=False) for slot in range(2)]
                if space.has_equal_sources:
                    owners.append(self._owner(target, 1, source, is_twin=True))
                for owner in owners:
                    # A slot serves sources of either size, so it is strided from the first of them.
                    if owner not in self.operations:
                        is_strided = shape.is_reduction and source < genotype.N_SOURCES
                        self.operations[owner] = Operations(width, norm, is_strided=is_strided)

    def _owner(self, target: int, slot: int, source: int, *, is_twin: bool) -> str:
        """Return who owns the operations of a pair; a twin is a node's second pair that equals its first."""
        if not self.owns_by_edge:
            return f"node{target}_slot{slot}"
        return f"edge{source}_{target}" + ("_twin" if is_twin else "")

    def forward(
        self, before: torch.Tensor, last: torch.Tensor, nodes: genotype.Cell
    ) -> torch.Tensor:
        """Return the nodes' values (image, channel, height, width), concatenated by channel."""
        values = [self.before(before), self.last(last)]
        for target, node in zip(genotype.TARGETS, nodes, strict=True):
            terms = []
            for slot, (operation, source) in enumerate(node):
                owner = self._owner(target, slot, source, is_twin=slot == 1 and node[0] == node[1])
                stride = 2 if self.is_reduction and source < genotype.N_SOURCES else 1
                terms.append(self.operations[owner](values[source], operation, stride))
            values.append(terms[0] + terms[1])
        return torch.cat(values[genotype.N_SOURCES :], dim=1)


@SUPERNETS.register("darts")
class DartsSupernet(Supernet):
    """Stem, cells, classifier, and in training perhaps an auxiliary head.

    The last 8x8 values are averaged, as in DARTS; the public code of Zhang et al. averages 7x7 of them.
    """

    options_type = DartsOptions
    space: Darts

    def __init__(self, space: Darts, options: DartsOptions) -> None:
        super().__init__(space, options)
        width = STEM_MULTIPLIER * options.channels
        self.stem = nn.Sequential(
            nn.Conv2d(options.in_channels, width, 3, padding=1, bias=False),
            batch_norm(width, **options.norm),
        )
        shapes = list(cell_shapes(self.macro()))
        self.cells = nn.ModuleList(Cell(space, options, shape) for shape in shapes)
        last = genotype.N_NODES * shapes[-1].width
        self.auxiliary_position = 2 * options.cells // 3
        self.auxiliary = (
            AuxiliaryHead(last, options.n_classes, **options.norm)
            if options.has_auxiliary
            else None
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last, options.n_classes)

    def forward(self, x: torch.Tensor, arch: Arch) -> Any:
        """Return logits (image, class); in training with an auxiliary head the pair of both heads' logits."""
        normal, reduce = self.space.cells(arch)
        auxiliary = None
        before = last = self.stem(x)
        for position, cell in enumerate(self.cells):
            before, last = last, cell(before, last, reduce if cell.is_reduction else normal)
            if self.training and self.auxiliary and position == self.auxiliary_position:
                auxiliary = self.auxiliary(last)
        logits = self.classifier(self.pool(last).flatten(1))
        return logits if auxiliary is None else (logits, auxiliary)
