"""The network of the 64-arch cell, with a weight for every (cell, edge, operation), or fewer where edges share.

Zhang et al., "Deeper Insights into Weight Sharing in Neural Architecture Search" (arXiv 2001.01431). The paper's
text and its public code differ in two places: see ``reading``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from wsx.spaces import Arch, Space
from wsx.spaces.cell64 import N_NODES, STEM_MULTIPLIER
from wsx.supernets._base import SUPERNETS, Supernet
from wsx.supernets.blocks import DropPath, ReLUConvBN, batch_norm
from wsx.supernets.blocks_darts import SeparableConv, SepConv
from wsx.supernets.image_options import ImageOptions
from wsx.supernets.kernels import share_kernels
from wsx.supernets.pure import pure
from wsx.supernets.shares import check_wsbn, edge_owners, sources_of
from wsx.supernets.wsbn import norm_of, norm_per_input

PAIRS = ((0, 1), (0, 2), (1, 2))
"""Source and target of each edge."""
DILATED_KERNELS = {"text": 3, "code": 5}


@dataclass(frozen=True)
class Cell64Options(ImageOptions):
    """Width, depth and reading of the network, and how its operations share weights.

    The paper's BatchNorm layers have momentum .4; those of the stem always learn scale and shift.

    Attributes:
        channels: Channels of a node (C); the stem has three times as many.
        cells: Cells, all at full size.
        reading: ``text``: the dilated convolution is 3x3 and a cell gives the sum of its nodes, as the paper says.
            ``code``: it is 5x5 and a cell concatenates its nodes, as the public code does.
        shares: Who owns the weights of an operation: ``edge``, or ``node`` for both edges into the second node.
        has_wsbn: An operation has a BatchNorm layer for every node that it may read.
    """

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **ImageOptions.choices,
        "reading": tuple(DILATED_KERNELS),
        "shares": ("edge", "node"),
    }

    channels: int = 16
    cells: int = 4
    reading: str = "text"
    shares: str = "edge"
    has_wsbn: bool = False
    bn_momentum: float = 0.4
    is_affine: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            OptionError: A number is out of range, or ``has_wsbn`` of no use.
            UnknownNameError: A text is none of the option's values.
        """
        super().__post_init__()
        check_wsbn(self.shares, has_wsbn=self.has_wsbn)


class PoolBN(nn.Sequential):
    """3x3 max-pooling, BatchNorm."""

    def __init__(self, options: Cell64Options, inputs: Sequence[int] | None) -> None:
        norm = norm_per_input(lambda: batch_norm(options.channels, **options.norm), inputs)
        super().__init__(nn.MaxPool2d(3, stride=1, padding=1), norm)

    def forward(self, x: torch.Tensor, source: int = 0) -> torch.Tensor:
        """Return the pooled source, with its BatchNorm."""
        pool, norm = self
        y: torch.Tensor = norm_of(norm, source)(pool(x))
        return y


@pure
class Edge(nn.ModuleList):
    """The candidate operations of one edge, or of several, in the order of the space's options."""

    def __init__(self, options: Cell64Options, sources: Sequence[int]) -> None:
        width, norm = options.channels, options.norm
        inputs = sources if options.has_wsbn else None
        dilated = DILATED_KERNELS[options.reading]
        super().__init__(
            [
                PoolBN(options, inputs),
                SepConv(width, 3, inputs=inputs, **norm),
                SepConv(width, 5, inputs=inputs, **norm),
                SeparableConv(width, dilated, dilation=2, inputs=inputs, **norm),
            ]
        )
        share_kernels(options.kernels, self[2], self[1])

    def forward(self, x: torch.Tensor, option: int, source: int) -> torch.Tensor:
        """Return one operation applied to the source of an edge."""
        y: torch.Tensor = self[option](x, source=source)
        return y


class Cell(nn.Module):
    """One cell: preprocessing to C channels, two nodes, three edges."""

    def __init__(self, in_channels: int, options: Cell64Options, depth: float) -> None:
        super().__init__()
        self.preprocessing = ReLUConvBN(in_channels, options.channels, 1, **options.norm)
        self.owners = edge_owners(options.shares, PAIRS)
        self.edges = nn.ModuleList(
            Edge(options, sources) for sources in sources_of(self.owners, PAIRS)
        )
        self.is_concat = options.reading == "code"
        self.drop_path = DropPath(depth)

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Return the sum or the concatenation of both nodes."""
        source = self.preprocessing(x)
        one, other, inner = (self.edges[owner] for owner in self.owners)
        first = one(source, arch[0], 0)
        second = other(source, arch[1], 0) + inner(first, arch[2], 1)
        y = torch.cat([first, second], dim=1) if self.is_concat else first + second
        output: torch.Tensor = self.drop_path(y)
        return output


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
        for position in range(options.cells):
            depth = options.path_depth(position, options.cells)
            self.cells.append(Cell(width, options, depth))
            width = options.channels * (N_NODES if options.reading == "code" else 1)
        self.pool = options.pooling()
        self.classifier = nn.Linear(width, options.n_classes)
        options.set_norms(self)

    def macro(self) -> dict[str, int]:
        """Return the options that a subnet's cost depends on, what follows from reading and sharing included."""
        reading = self.options.reading
        return {
            **super().macro(),
            "dilated_kernel": DILATED_KERNELS[reading],
            "is_concat": reading == "code",
            "ties_weights": self.options.shares != "edge",
        }

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Return logits (image, class)."""
        arch = self.space.check(arch)
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x, arch)
        logits: torch.Tensor = self.classifier(self.pool(x).flatten(1))
        return logits
