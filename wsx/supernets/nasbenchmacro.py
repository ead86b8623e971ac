"""The NAS-Bench-Macro macro with weights of its own for every layer and option."""

from dataclasses import dataclass

import torch
from torch import nn

from wsx.spaces import Arch, Space
from wsx.spaces.nasbenchmacro import BLOCKS, IDENTITY, LAST_CHANNELS, layers
from wsx.supernets._base import SUPERNETS, MacroOptions, Supernet
from wsx.supernets.blocks_mobile import ConvNorm, MBConv, Style
from wsx.supernets.pure import pure


@dataclass(frozen=True)
class NasBenchMacroOptions(MacroOptions):
    """Width of the macro, and how its BatchNorm layers behave.

    Attributes:
        channels: Channels of the stem; the stages have 2, 4 and 8 times as many.
        is_affine: BatchNorm layers learn scale and shift.
        tracks_statistics: BatchNorm layers keep running averages.
    """

    channels: int = 32
    is_affine: bool = True
    tracks_statistics: bool = True


@pure
class Layer(nn.Module):
    """The three options of a layer; an identity that changes the shape is a strided 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, style: Style) -> None:
        super().__init__()
        self.identity = (
            nn.Identity()
            if stride == 1
            else ConvNorm(in_channels, out_channels, 1, style, stride=stride, is_activated=False)
        )
        self.blocks = nn.ModuleDict()
        for option, (kernel, expansion) in BLOCKS.items():
            self.blocks[str(option)] = MBConv(
                in_channels,
                out_channels,
                kernel,
                expansion,
                style,
                stride=stride,
                has_residual=stride == 1,
            )

    def forward(self, x: torch.Tensor, option: int) -> torch.Tensor:
        """Return one option of the layer applied to its input."""
        y: torch.Tensor = self.identity(x) if option == IDENTITY else self.blocks[str(option)](x)
        return y


@SUPERNETS.register("nasbenchmacro")
class NasBenchMacroSupernet(Supernet):
    """Stem, eight layers of three options each, a last convolution, classifier."""

    options_type = NasBenchMacroOptions

    def __init__(self, space: Space, options: NasBenchMacroOptions) -> None:
        super().__init__(space, options)
        style = Style(nn.ReLU, 1e-5, options.is_affine, options.tracks_statistics)
        channels = options.channels
        self.stem = ConvNorm(options.in_channels, channels, 3, style)
        self.layers = nn.ModuleList()
        for out_channels, stride in layers(options.channels):
            self.layers.append(Layer(channels, out_channels, stride, style))
            channels = out_channels
        self.last = ConvNorm(channels, LAST_CHANNELS, 1, style)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(LAST_CHANNELS, options.n_classes)

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Return logits (image, class)."""
        x = self.stem(x)
        for layer, option in zip(self.layers, arch, strict=True):
            x = layer(x, option)
        logits: torch.Tensor = self.classifier(self.pool(self.last(x)).flatten(1))
        return logits
