"""Layers of DARTS' networks, with the stride as an argument where a layer serves several sources."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from wsx.supernets.blocks import batch_norm
from wsx.supernets.kernels import kernel_of
from wsx.supernets.pure import pure
from wsx.supernets.wsbn import norm_of, norm_per_input


class SeparableConv(nn.Module):
    """ReLU, depthwise convolution, pointwise convolution, BatchNorm; DARTS' ``dil_conv`` with dilation 2."""

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        is_affine: bool,
        tracks_statistics: bool,
        inputs: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        norm = {"is_affine": is_affine, "tracks_statistics": tracks_statistics}
        self.depthwise = nn.Conv2d(
            channels,
            channels,
            kernel_size,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=channels,
            bias=False,
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = norm_per_input(lambda: batch_norm(channels, **norm), inputs)

    def forward(self, x: torch.Tensor, stride: int = 1, source: int = 0) -> torch.Tensor:
        """Return the layer's output at 1/stride of the size, rounded up."""
        layer = self.depthwise
        kernel = kernel_of(layer)
        y = F.conv2d(F.relu(x), kernel, None, stride, layer.padding, layer.dilation, layer.groups)
        output: torch.Tensor = norm_of(self.norm, source)(self.pointwise(y))
        return output


class SepConv(nn.Module):
    """DARTS' ``sep_conv``: two separable convolutions, of which the first has the stride."""

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        *,
        is_affine: bool,
        tracks_statistics: bool,
        inputs: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        norm = {"is_affine": is_affine, "tracks_statistics": tracks_statistics}
        self.first = SeparableConv(channels, kernel_size, inputs=inputs, **norm)
        self.second = SeparableConv(channels, kernel_size, inputs=inputs, **norm)

    def forward(self, x: torch.Tensor, stride: int = 1, source: int = 0) -> torch.Tensor:
        """Return the output at 1/stride of the size, rounded up."""
        output: torch.Tensor = self.second(self.first(x, stride, source), source=source)
        return output


@pure
class FactorizedReduce(nn.Module):
    """Halves the size by two 1x1 convolutions of stride 2, one of them shifted by a pixel."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        is_affine: bool,
        tracks_statistics: bool,
        inputs: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        norm = {"is_affine": is_affine, "tracks_statistics": tracks_statistics}
        half = out_channels // 2
        self.conv = nn.Conv2d(in_channels, half, 1, stride=2, bias=False)
        self.conv_shifted = nn.Conv2d(in_channels, half, 1, stride=2, bias=False)
        self.norm = norm_per_input(lambda: batch_norm(out_channels, **norm), inputs)

    def forward(self, x: torch.Tensor, source: int = 0) -> torch.Tensor:
        """Return the output at half the size, rounded up."""
        x = F.relu(x)
        # Of an even size the shifted image gives as many pixels; an odd one lacks a row and a column.
        padded = F.pad(x, (0, 1, 0, 1)) if x.shape[-1] % 2 else x
        y = torch.cat([self.conv(x), self.conv_shifted(padded[:, :, 1:, 1:])], dim=1)
        output: torch.Tensor = norm_of(self.norm, source)(y)
        return output


class AuxiliaryHead(nn.Module):
    """DARTS' second classifier, at two thirds of the depth, for images of 8 pixels a side or more there."""

    def __init__(
        self, in_channels: int, n_classes: int, *, is_affine: bool, tracks_statistics: bool
    ) -> None:
        super().__init__()
        norm = {"is_affine": is_affine, "tracks_statistics": tracks_statistics}
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=3),
            nn.Conv2d(in_channels, 128, 1, bias=False),
            batch_norm(128, **norm),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            batch_norm(768, **norm),
            nn.ReLU(),
            # At DARTS' 8 pixels one is left, and this does nothing.
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(768, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (image, class)."""
        logits: torch.Tensor = self.classifier(self.features(x))
        return logits
