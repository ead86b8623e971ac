"""Convolutions with BatchNorm and inverted residual blocks, as mobile networks are built of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from wsx.supernets.blocks import DropPath
from wsx.supernets.pure import pure


@dataclass(frozen=True)
class Style:
    """What all layers of a network have in common.

    Attributes:
        activation: Makes the activation that follows a norm.
        is_affine: BatchNorm layers learn scale and shift.
        tracks_statistics: BatchNorm layers keep running averages.
    """

    activation: Callable[[], nn.Module]
    is_affine: bool
    tracks_statistics: bool


@pure
class ConvNorm(nn.Sequential):
    """Padded convolution without bias, BatchNorm, and perhaps an activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style: Style,
        *,
        stride: int = 1,
        is_depthwise: bool = False,
        is_activated: bool = True,
    ) -> None:
        conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=in_channels if is_depthwise else 1,
            bias=False,
        )
        norm = nn.BatchNorm2d(
            out_channels,
            affine=style.is_affine,
            track_running_stats=style.tracks_statistics,
        )
        super().__init__(conv, norm, *([style.activation()] if is_activated else []))


@pure
class MBConv(nn.Module):
    """An inverted residual block (MobileNetV2): 1x1 expansion, depthwise convolution, 1x1 projection.

    An expansion of 1 has no first convolution; the projection has no activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        expansion: int,
        style: Style,
        *,
        stride: int = 1,
        has_residual: bool = False,
        depth: float = 1.0,
    ) -> None:
        super().__init__()
        width = in_channels * expansion
        self.has_residual = has_residual
        self.expand = ConvNorm(in_channels, width, 1, style) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(
            width, width, kernel_size, style, stride=stride, is_depthwise=True
        )
        self.project = ConvNorm(width, out_channels, 1, style, is_activated=False)
        self.drop_path = DropPath(depth)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output, its input added where it has a residual."""
        y: torch.Tensor = self.project(self.depthwise(self.expand(x)))
        return x + self.drop_path(y) if self.has_residual else y
