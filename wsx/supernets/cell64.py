"""The network of the 64-arch cell, with a weight for every (cell, edge, operation).

Zhang et al., "Deeper Insights into Weight Sharing in Neural Architecture Search" (arXiv 2001.01431). The paper's
text and its public code differ in two places: see ``reading``.
"""

from dataclasses import dataclass

import torch
from torch import nn

from wsx.errors import OptionError
from wsx.registry import unknown_name
from wsx.spaces import Arch, Space
from wsx.spaces.cell64 import EDGES, N_NODES, STEM_MULTIPLIER
from wsx.supernets._base import SUPERNETS, MacroOptions, Supernet
from wsx.supernets.blocks import ReLUConvBN, batch_norm
from wsx.supernets.blocks_darts import SeparableConv, SepConv
from wsx.supernets.pure import pure

DILATED_KERNELS = {"text": 3, "code": 5}


@dataclass(frozen=True)
class Cell64Options(MacroOptions):
    """Width, depth and reading of the network.

    Attributes:
        channels: Channels of a node (C); the stem has three times as many.
        cells: Cells, all at full size.
        reading: ``text``: the dilated convolution is 3x3 and a cell gives the sum of its nodes, as the paper says.
            ``code``: it is 5x5 and a cell concatenates its nodes, as the public code does.
        bn_momentum: Momentum of the running averages, of all BatchNorm layers, in (0, 1].
        is_affine: BatchNorm layers of the cells learn scale and shift; the stem's always do.
        tracks_statistics: BatchNorm layers keep running averages.
    """

    channels: int = 16
    cells: int = 4
    reading: str = "text"
    bn_momentum: float = 0.4
    is_affine: bool = False
    tracks_statistics: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            OptionError: A size is below one, or the momentum lies outside (0, 1].
            UnknownNameError: There is no such reading.
        """
        super().__post_init__()
        if self.reading not in DILATED_KERNELS:
            raise unknown_name("reading", self.reading, list(DILATED_KERNELS))
        if not 0 < self.bn_momentum <= 1:
            raise OptionError(f"bn_momentum is {self.bn_momentum}; it must lie in (0, 1]")

    @property
    def norm(self) -> dict[str, bool]:
        """The BatchNorm options of the cells as keyword arguments."""
        return {"is_affine": self.is_affine, "tracks_statistics": self.tracks_statistics}


@pure
class Edge(nn.ModuleList):
    """The candidate operations of one edge, in the order of the space's options."""

    def __init__(self, options: Cell64Options) -> None:
        width, norm = options.channels, options.norm
        super().__init__(
            [
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), batch_norm(width, **norm)),
                SepConv(width, 3, **norm),
                SepConv(width, 5, **norm),
                SeparableConv(width, DILATED_KERNELS[options.reading], dilation=2, **norm),
            ]
        )

    def forward(self, x: torch.Tensor, option: int) -> torch.Tensor:
        """Return one operation applied to the edge's source."""
        y: torch.Tensor = self[option](x)
        return y


class Cell(nn.Module):
    """One cell: preprocessing to C channels, two nodes, three edges."""

    def __init__(self, in_channels: int, options: Cell64Options) -> None:
        super().__init__()
        self.preprocessing = ReLUConvBN(in_channels, options.channels, 1, **options.norm)
        self.edges = nn.ModuleList(Edge(options) for _ in EDGES)
        self.is_concat = options.reading == "code"

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Return the sum or the concatenation of both nodes."""
        source = self.preprocessing(x)
        first = self.edges[0](source, arch[0])
        second = self.edges[1](source, arch[1]) + self.edges[2](first, arch[2])
        return torch.cat([first, second], dim=1) if self.is_concat else first + second


@SUPERNETS.register("cell64")
class Cell64Supernet(Supernet):
    """Two 3x3 convolutions, four cells one after another, classifier."""

    options_type = Cell64Options
    options: Cell64Options

    def __init__(self, space: Space, options: Cell64Options) -> None:
        super().__init__(space, options)
        width = STEM_MULTIPLIER * options.channels
        norm = {"is_affine": True, "tracks_statistics": options.tracks_statistics}
        self.stem = nn.Sequential(
            nn.Conv2d(options.in_channels, width, 3, padding=1, bias=False),
            batch_norm(width, **norm),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            batch_norm(width, **norm),
        )
        self.cells = nn.ModuleList()
        for _ in range(options.cells):
            self.cells.append(Cell(width, options))
            width = options.channels * (N_NODES if options.reading == "code" else 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, options.n_classes)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = options.bn_momentum

    def macro(self) -> dict[str, int]:
        """Return the options that a subnet's cost depends on, the reading's two among them."""
        reading = self.options.reading
        return {
            **super().macro(),
            "dilated_kernel": DILATED_KERNELS[reading],
            "is_concat": reading == "code",
        }

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Return logits (image, class)."""
        arch = self.space.check(arch)
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x, arch)
        logits: torch.Tensor = self.classifier(self.pool(x).flatten(1))
        return logits
