"""DARTS' evaluation network with a weight for every operation that a cell may use.

Liu et al., "DARTS: Differentiable Architecture Search" (arXiv 1806.09055): a stem of 3C channels, reductions at a
third and two thirds of the depth, every cell reads the two before it, pooling has no BatchNorm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from wsx.errors import OptionError
from wsx.spaces import Arch, Darts
from wsx.spaces import darts_genotype as genotype
from wsx.spaces.darts_cost import KERNELS, N_SEPARABLE, STEM_MULTIPLIER, CellShape, cell_shapes
from wsx.supernets._base import SUPERNETS, Supernet
from wsx.supernets.blocks import DropPath, ReLUConvBN, batch_norm
from wsx.supernets.blocks_darts import AuxiliaryHead, FactorizedReduce, SeparableConv, SepConv
from wsx.supernets.image_options import ImageOptions
from wsx.supernets.kernels import share_kernels
from wsx.supernets.pure import pure
from wsx.supernets.shares import check_wsbn

SHARES = ("slot", "edge", "node")
_AUXILIARY_PIXELS = 8


@dataclass(frozen=True)
class DartsOptions(ImageOptions):
    """Width, depth and sharing of the network.

    Attributes:
        channels: Channels of a node in the first cells (C).
        cells: Cells in all.
        shares: Who owns the weights of an operation. ``slot``: one of the two slots of a node, whatever source is
            routed into it (Zhang et al., arXiv 2010.08219); in reduction cells it serves stride 1 and 2.
            ``edge``: the pair of source and node, as in DARTS, so that the order of slots changes nothing.
            ``node``: the node, for both slots.
        has_wsbn: An operation has a BatchNorm layer for every node that it may read.
        has_auxiliary: A second classifier at two thirds of the depth gives logits too while training.
    """

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {**ImageOptions.choices, "shares": SHARES}

    channels: int = 36
    cells: int = 20
    shares: str = "slot"
    has_wsbn: bool = False
    has_auxiliary: bool = False
    ramps_drop_path: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            OptionError: A number is out of range, images too small for the auxiliary head, or ``has_wsbn`` of no
                use.
            UnknownNameError: A text is none of the option's values.
        """
        super().__post_init__()
        check_wsbn(self.shares, has_wsbn=self.has_wsbn)
        *_, shape = cell_shapes(vars(self))
        if self.has_auxiliary and shape.size_out < _AUXILIARY_PIXELS:
            raise OptionError(
                f"has_auxiliary needs {_AUXILIARY_PIXELS} pixels a side at two thirds of the depth; "
                f"with image_size {self.image_size} there are {shape.size_out}; set it to false"
            )


@pure
class Operations(nn.Module):
    """The candidate operations that a slot, edge or node owns; those without weights need no module."""

    def __init__(
        self,
        channels: int,
        options: DartsOptions,
        *,
        is_strided: bool,
        sources: Sequence[int] = (),
        depth: float = 1.0,
    ) -> None:
        super().__init__()
        norm, inputs = options.norm, sources if options.has_wsbn else None
        self.candidates = nn.ModuleDict()
        for name, kernel_size in KERNELS.items():
            self.candidates[name] = (
                SepConv(channels, kernel_size, inputs=inputs, **norm)
                if N_SEPARABLE[name] == 2
                else SeparableConv(channels, kernel_size, dilation=2, inputs=inputs, **norm)
            )
        for kind in ("sep", "dil"):
            large, small = (self.candidates[f"{kind}_conv_{n}x{n}"] for n in (5, 3))
            share_kernels(options.kernels, large, small)
        if is_strided:
            # Inner nodes have the size of the node that reads them.
            outer = range(genotype.N_SOURCES) if options.has_wsbn else None
            self.candidates["skip_connect"] = FactorizedReduce(
                channels, channels, inputs=outer, **norm
            )
        self.drop_path = DropPath(depth)

    def forward(
        self, x: torch.Tensor, operation: str, stride: int, source: int = 0
    ) -> torch.Tensor:
        """Return an operation applied to its source, with the BatchNorm of that source."""
        if operation == "none":
            return x[:, :, ::stride, ::stride] * 0.0
        if operation == "skip_connect" and stride == 1:
            return x
        y: torch.Tensor = self.drop_path(self._computed(x, operation, stride, source))
        return y

    def _computed(self, x: torch.Tensor, operation: str, stride: int, source: int) -> torch.Tensor:
        if operation == "max_pool_3x3":
            return F.max_pool2d(x, 3, stride, 1)
        if operation == "avg_pool_3x3":
            return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
        layer = self.candidates[operation]
        arguments = (source,) if operation == "skip_connect" else (stride, source)
        y: torch.Tensor = layer(x, *arguments)
        return y


class Cell(nn.Module):
    """One cell: preprocessing of the two cells before, and the operations that its nodes choose from."""

    def __init__(self, space: Darts, options: DartsOptions, shape: CellShape, depth: float) -> None:
        super().__init__()
        width, norm = shape.width, options.norm
        self.is_reduction = shape.is_reduction
        self.shares, self.has_wsbn = options.shares, options.has_wsbn
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
                    # Slots and nodes serve sources of either size, so they are strided from the first of them.
                    if owner not in self.operations:
                        self.operations[owner] = Operations(
                            width,
                            options,
                            is_strided=shape.is_reduction and source < genotype.N_SOURCES,
                            sources=range(target),
                            depth=depth,
                        )

    def _owner(self, target: int, slot: int, source: int, *, is_twin: bool) -> str:
        """Return who owns the operations of a pair; a twin is a node's second pair that equals its first."""
        if self.shares == "edge":
            return f"edge{source}_{target}" + ("_twin" if is_twin else "")
        return f"node{target}" + (f"_slot{slot}" if self.shares == "slot" else "")

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
                # Without need for it, recording would learn every operation anew for every source.
                number = source if self.has_wsbn else 0
                terms.append(self.operations[owner](values[source], operation, stride, number))
            values.append(terms[0] + terms[1])
        return torch.cat(values[genotype.N_SOURCES :], dim=1)


@SUPERNETS.register("darts")
class DartsSupernet(Supernet):
    """Stem, cells, classifier, and in training perhaps an auxiliary head.

    The last 8x8 values are averaged, as in DARTS; the public code of Zhang et al. averages 7x7 of them.
    """

    options_type = DartsOptions
    options: DartsOptions
    space: Darts

    def __init__(self, space: Darts, options: DartsOptions) -> None:
        super().__init__(space, options)
        width = STEM_MULTIPLIER * options.channels
        self.stem = nn.Sequential(
            nn.Conv2d(options.in_channels, width, 3, padding=1, bias=False),
            batch_norm(width, **options.norm),
        )
        shapes = list(cell_shapes(self.macro()))
        self.cells = nn.ModuleList(
            Cell(space, options, shape, options.path_depth(position, len(shapes)))
            for position, shape in enumerate(shapes)
        )
        last = genotype.N_NODES * shapes[-1].width
        self.auxiliary_position = 2 * options.cells // 3
        self.auxiliary = (
            AuxiliaryHead(last, options.n_classes, **options.norm)
            if options.has_auxiliary
            else None
        )
        self.pool = options.pooling()
        self.classifier = nn.Linear(last, options.n_classes)
        options.set_norms(self)

    def macro(self) -> dict[str, int]:
        """Return the options that a subnet's cost depends on, and whether its slots share weights."""
        return {**super().macro(), "ties_weights": self.options.shares == "node"}

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
