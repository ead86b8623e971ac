"""The ProxylessNAS macro with a block of its own for every cell and option."""

from dataclasses import dataclass

import torch
from torch import nn

from wsx.spaces import Arch, Space
from wsx.spaces.proxylessnas import (
    BLOCKS,
    FIRST_CHANNELS,
    STEM_CHANNELS,
    ZERO,
    cells,
    has_residual,
    last_channels,
    scaled,
)
from wsx.supernets._base import SUPERNETS, Supernet
from wsx.supernets.blocks_mobile import ConvNorm, MBConv, Style
from wsx.supernets.image_options import ImageOptions
from wsx.supernets.kernels import share_kernels


@dataclass(frozen=True)
class ProxylessNasOptions(ImageOptions):
    """Width of the macro; kernels are shared by the blocks of a cell that have one expansion.

    Attributes:
        width_percent: Percent of the published channels, each count rounded to a multiple of 8; 135 is P1's.
    """

    width_percent: int = 135
    bn_epsilon: float = 1e-3


@SUPERNETS.register("proxylessnas")
class ProxylessNasSupernet(Supernet):
    """Stem, a fixed first block, 21 cells of six blocks each, feature mix, classifier.

    BatchNorm has epsilon 0.001 and momentum 0.1 unless told, activations are ReLU6 (P1's code).
    """

    options_type = ProxylessNasOptions

    def __init__(self, space: Space, options: ProxylessNasOptions) -> None:
        super().__init__(space, options)
        style = Style(nn.ReLU6, options.is_affine, options.tracks_statistics)
        width = options.width_percent
        channels = scaled(FIRST_CHANNELS, width)
        stem = scaled(STEM_CHANNELS, width)
        self.stem = nn.Sequential(
            ConvNorm(options.in_channels, stem, 3, style, stride=2),
            MBConv(stem, channels, 3, 1, style),
        )
        self.cells = nn.ModuleList()
        n_cells = len(cells(width))
        for place, (out_channels, stride) in enumerate(cells(width)):
            blocks = [
                MBConv(
                    channels,
                    out_channels,
                    kernel,
                    expansion,
                    style,
                    stride=stride,
                    has_residual=has_residual(place),
                    depth=options.path_depth(place, n_cells),
                )
                for kernel, expansion in BLOCKS
            ]
            for expansion in {expansion for _, expansion in BLOCKS}:
                alike = [i for i, block in enumerate(BLOCKS) if block[1] == expansion]
                largest_first = sorted(alike, key=lambda i: BLOCKS[i], reverse=True)
                share_kernels(options.kernels, *(blocks[i] for i in largest_first))
            self.cells.append(nn.ModuleList(blocks))
            channels = out_channels
        self.last = ConvNorm(channels, last_channels(width), 1, style)
        self.pool = options.pooling()
        self.classifier = nn.Linear(last_channels(width), options.n_classes)
        options.set_norms(self)

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Return logits (image, class)."""
        x = self.stem(x)
        for blocks, option in zip(self.cells, arch, strict=True):
            if option != ZERO:
                x = blocks[option](x)  # type: ignore[index]
        logits: torch.Tensor = self.classifier(self.pool(self.last(x)).flatten(1))
        return logits
