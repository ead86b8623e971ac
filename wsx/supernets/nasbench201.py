"""The NAS-Bench-201 macro with a weight for every (cell, edge, operation), or fewer where edges share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

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
from wsx.supernets._base import SUPERNETS, Supernet
from wsx.supernets.blocks import DropPath, ReductionBlock, ReLUConvBN, batch_norm
from wsx.supernets.image_options import ImageOptions
from wsx.supernets.kernels import share_kernels
from wsx.supernets.pure import pure
from wsx.supernets.shares import check_wsbn, edge_owners, sources_of


@dataclass(frozen=True)
class NasBench201Options(ImageOptions):
    """Width and depth of the macro, and how its operations share weights.

    Attributes:
        channels: Channels of the first stage (C).
        cells: Cells per stage (N).
        shares: Who owns the weights of an operation: ``edge``, ``node`` or ``inner``, see
            ``wsx.supernets.shares``.
        has_wsbn: An operation has a BatchNorm layer for every node that it may read.
    """

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **ImageOptions.choices,
        "shares": ("edge", "node", "inner"),
    }

    channels: int = 16
    cells: int = 5
    shares: str = "edge"
    has_wsbn: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            OptionError: A number is out of range, or ``has_wsbn`` of no use.
            UnknownNameError: A text is none of the option's values.
        """
        super().__post_init__()
        check_wsbn(self.shares, has_wsbn=self.has_wsbn)


@pure
class Edge(nn.ModuleDict):
    """The candidate operations of one edge, or of several; those without weights need no module."""

    def __init__(self, channels: int, options: NasBench201Options, sources: Sequence[int]) -> None:
        inputs = sources if options.has_wsbn else None
        super().__init__(
            {
                "nor_conv_1x1": ReLUConvBN(channels, channels, 1, inputs=inputs, **options.norm),
                "nor_conv_3x3": ReLUConvBN(channels, channels, 3, inputs=inputs, **options.norm),
                "avg_pool_3x3": nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
            }
        )
        share_kernels(options.kernels, self["nor_conv_3x3"], self["nor_conv_1x1"])

    def forward(self, x: torch.Tensor, option: int, source: int) -> torch.Tensor:
        """Return one operation of an edge, other than ``none``, applied to its source."""
        if option == SKIP:
            return x
        if option == POOL:
            y: torch.Tensor = self["avg_pool_3x3"](x)
        else:
            y = self[{CONV_1X1: "nor_conv_1x1", CONV_3X3: "nor_conv_3x3"}[option]](x, source)
        return y


class Cell(nn.Module):
    """One cell: a node is the sum of the operations on its incoming edges."""

    def __init__(self, channels: int, options: NasBench201Options, depth: float) -> None:
        super().__init__()
        self.owners = edge_owners(options.shares, EDGES)
        self.edges = nn.ModuleList(
            Edge(channels, options, sources) for sources in sources_of(self.owners, EDGES)
        )
        self.drop_path = DropPath(depth)

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Return the output node, or zeros where no path reaches it."""
        edges = list(self.edges)
        values: list[torch.Tensor | None] = [x] + [None] * (N_NODES - 1)
        # Edges are in the order of their targets: a node is complete before one leaves it.
        for owner, (source, target), option in zip(self.owners, EDGES, arch, strict=True):
            if option == NONE or (value := values[source]) is None:
                continue
            term, total = edges[owner](value, option, source), values[target]
            values[target] = term if total is None else total + term
        output = values[-1]
        y: torch.Tensor = x * 0.0 if output is None else self.drop_path(output)
        return y


@SUPERNETS.register("nasbench201")
class NasBench201Supernet(Supernet):
    """Stem, three stages of cells with a reduction block before the second and third, classifier."""

    options_type = NasBench201Options
    options: NasBench201Options

    def __init__(self, space: Space, options: NasBench201Options) -> None:
        super().__init__(space, options)
        width = options.channels
        self.stem = nn.Sequential(
            nn.Conv2d(options.in_channels, width, 3, padding=1, bias=False),
            batch_norm(width, **options.norm),
        )
        self.stages = nn.ModuleList()
        self.reductions = nn.ModuleList()
        n = options.cells
        for stage in range(3):
            if stage:
                self.reductions.append(ReductionBlock(width, **options.norm))
                width *= 2
            depths = [options.path_depth(stage * n + place, 3 * n) for place in range(n)]
            self.stages.append(nn.ModuleList(Cell(width, options, depth) for depth in depths))
        self.last = nn.Sequential(batch_norm(width, **options.norm), nn.ReLU())
        self.pool = options.pooling()
        self.classifier = nn.Linear(width, options.n_classes)
        options.set_norms(self)

    def macro(self) -> dict[str, int]:
        """Return the options that a subnet's cost depends on, and whether its edges share weights."""
        return {**super().macro(), "ties_weights": self.options.shares != "edge"}

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
