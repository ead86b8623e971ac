"""The NAS-Bench-Macro macro with weights of its own for every layer and option."""

from dataclasses import dataclass

import torch
from torch import nn

from wsx.spaces import Arch, Space
from wsx.spaces.nasbenchmacro import BLOCKS, IDENTITY, LAST_CHANNELS, layers
from wsx.supernets._base import SUPERNETS, Supernet
from wsx.supernets.blocks_mobile import ConvNorm, MBConv, Style
from wsx.supernets.image_options import ImageOptions
from wsx.supernets.kernels import share_kernels
from wsx.supernets.pure import pure


@dataclass(frozen=True)
class NasBenchMacroOptions(ImageOptions):
    """Width of the macro; a shared 3x3 kernel is the middle of the first half of the 5x5's channels.

    Attributes:
        channels: Channels of the stem; the stages have 2, 4 and 8 times as many.
    """

    channels: int = 32


@pure
class Layer(nn.Module):
    """The three options of a layer; an identity that changes the shape is a strided 1x1 convolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        style: Style,
        options: NasBenchMacroOptions,
        depth: float,
    ) -> None:
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
                depth=depth,
            )
        largest_first = sorted(BLOCKS, key=lambda option: BLOCKS[option], reverse=True)
        share_kernels(options.kernels, *(self.blocks[str(option)] for option in largest_first))

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
        style = Style(nn.ReLU, options.is_affine, options.tracks_statistics)
        channels = options.channels
        self.stem = ConvNorm(options.in_channels, channels, 3, style)
        self.layers = nn.ModuleList()
        shapes = layers(options.channels)
        for position, (out_channels, stride) in enumerate(shapes):
            depth = options.path_depth(position, len(shapes))
            self.layers.append(Layer(channels, out_channels, stride, style, options, depth))
            channels = out_channels
        self.last = ConvNorm(channels, LAST_CHANNELS, 1, style)
        self.pool = options.pooling()
        self.classifier = nn.Linear(LAST_CHANNELS, options.n_classes)
        options.set_norms(self)

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Return logits (image, class)."""
        x = self.stem(x)
        for layer, option in zip(self.layers, arch, strict=True):
            x = layer(x, option)
        logits: torch.Tensor = self.classifier(self.pool(self.last(x)).flatten(1))
        return logits
