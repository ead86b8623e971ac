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
from wsx.supernets._base import SUPERNETS, MacroOptions, Supernet
from wsx.supernets.blocks_mobile import ConvNorm, MBConv, Style


@dataclass(frozen=True)
class ProxylessNasOptions(MacroOptions):
    """Width of the macro, and how its BatchNorm layers behave.

    Attributes:
        width_percent: Percent of the published channels, each count rounded to a multiple of 8; 135 is P1's.
        is_affine: BatchNorm layers learn scale and shift.
        tracks_statistics: BatchNorm layers keep running averages.
    """

    width_percent: int = 135
    is_affine: bool = True
    tracks_statistics: bool = True


@SUPERNETS.register("proxylessnas")
class ProxylessNasSupernet(Supernet):
    """Stem, a fixed first block, 21 cells of six blocks each, feature mix, classifier.

    BatchNorm has epsilon 0.001 and momentum 0.1, activations are ReLU6 (P1's code).
    """

    options_type = ProxylessNasOptions

    def __init__(self, space: Space, options: ProxylessNasOptions) -> None:
        super().__init__(space, options)
        style = Style(nn.ReLU6, 1e-3, options.is_affine, options.tracks_statistics)
        width = options.width_percent
        channels = scaled(FIRST_CHANNELS, width)
        stem = scaled(STEM_CHANNELS, width)
        self.stem = nn.Sequential(
            ConvNorm(options.in_channels, stem, 3, style, stride=2),
            MBConv(stem, channels, 3, 1, style),
        )
        self.cells = nn.ModuleList()
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
                )
                for kernel, expansion in BLOCKS
            ]
            self.cells.append(nn.ModuleList(blocks))
            channels = out_channels
        self.last = ConvNorm(channels, last_channels(width), 1, style)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last_channels(width), options.n_classes)

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Return logits (image, class)."""
        x = self.stem(x)
        for blocks, option in zip(self.cells, arch, strict=True):
            if option != ZERO:
                x = blocks[option](x)  # type: ignore[index]
        logits: torch.Tensor = self.classifier(self.pool(self.last(x)).flatten(1))
        return logits
