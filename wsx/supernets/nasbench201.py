"""The NAS-Bench-201 macro with a weight for every (cell, edge, operation)."""

from dataclasses import dataclass

import torch
from torch import nn

from wsx.spaces import Arch, Space
from wsx.spaces.nasbench201 import (
    CONV_1X1,
    CONV_3X3,
    EDGES,
    N_NODES,
    NONE,
    POOL,
    SKIP,
)
from wsx.supernets._base import SUPERNETS, MacroOptions, Supernet
from wsx.supernets.blocks import ReductionBlock, ReLUConvBN, batch_norm
from wsx.supernets.pure import pure


@dataclass(frozen=True)
class NasBench201Options(MacroOptions):
    """Width and depth of the macro, and how its BatchNorm layers behave.

    Attributes:
        channels: Channels of the first stage (C).
        cells: Cells per stage (N).
        is_affine: BatchNorm layers learn scale and shift.
        tracks_statistics: BatchNorm layers keep running averages.
    """

    channels: int = 16
    cells: int = 5
    is_affine: bool = True
    tracks_statistics: bool = True

    @property
    def norm(self) -> dict[str, bool]:
        """The BatchNorm options as keyword arguments."""
        return {"is_affine": self.is_affine, "tracks_statistics": self.tracks_statistics}


@pure
class Edge(nn.ModuleDict):
    """The candidate operations of one edge; those without weights need no module."""

    def __init__(self, channels: int, options: NasBench201Options) -> None:
        super().__init__(
            {
                "nor_conv_1x1": ReLUConvBN(channels, channels, 1, **options.norm),
                "nor_conv_3x3": ReLUConvBN(channels, channels, 3, **options.norm),
                "avg_pool_3x3": nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
            }
        )

    def forward(self, x: torch.Tensor, option: int) -> torch.Tensor:
        """Return one operation of the edge, other than ``none``, applied to its source."""
        if option == SKIP:
            return x
        name = {CONV_1X1: "nor_conv_1x1", CONV_3X3: "nor_conv_3x3", POOL: "avg_pool_3x3"}[option]
        y: torch.Tensor = self[name](x)
        return y


class Cell(nn.Module):
    """One cell: a node is the sum of the operations on its incoming edges."""

    def __init__(self, channels: int, options: NasBench201Options) -> None:
        super().__init__()
        self.edges = nn.ModuleList(Edge(channels, options) for _ in EDGES)

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Return the output node, or zeros where no path reaches it."""
        values: list[torch.Tensor | None] = [x] + [None] * (N_NODES - 1)
        # Edges are in the order of their targets: a node is complete before one leaves it.
        for edge, (source, target), option in zip(self.edges, EDGES, arch, strict=True):
            if option == NONE or (value := values[source]) is None:
                continue
            term, total = edge(value, option), values[target]
            values[target] = term if total is None else total + term
        output = values[-1]
        return x * 0.0 if output is None else output


@SUPERNETS.register("nasbench201")
class NasBench201Supernet(Supernet):
    """Stem, three stages of cells with a reduction block before the second and third, classifier."""

    options_type = NasBench201Options

    def __init__(self, space: Space, options: NasBench201Options) -> None:
        super().__init__(space, options)
        width = options.channels
        self.stem = nn.Sequential(
            nn.Conv2d(options.in_channels, width, 3, padding=1, bias=False),
            batch_norm(width, **options.norm),
        )
        self.stages = nn.ModuleList()
        self.reductions = nn.ModuleList()
        for stage in range(3):
            if stage:
                self.reductions.append(ReductionBlock(width, **options.norm))
                width *= 2
            self.stages.append(nn.ModuleList(Cell(width, options) for _ in range(options.cells)))
        self.last = nn.Sequential(batch_norm(width, **options.norm), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, options.n_classes)

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Return logits (image, class)."""
        x = self.stem(x)
        for stage, cells in enumerate(self.stages):
            if stage:
                x = self.reductions[stage - 1](x)
            for cell in cells.children():
                x = cell(x, arch)
        features = self.pool(self.last(x)).flatten(1)
        logits: torch.Tensor = self.classifier(features)
        return logits
