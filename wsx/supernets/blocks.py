"""Layers that several supernets are built of."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from wsx.supernets.pure import pure
from wsx.supernets.wsbn import norm_of, norm_per_input


def batch_norm(channels: int, *, is_affine: bool, tracks_statistics: bool) -> nn.BatchNorm2d:
    """Return a BatchNorm layer; ``ImageOptions.set_norms`` gives it momentum and epsilon."""
    return nn.BatchNorm2d(channels, affine=is_affine, track_running_stats=tracks_statistics)


@pure
class ReLUConvBN(nn.Sequential):
    """ReLU, convolution without bias, BatchNorm, of which there may be one per input."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        is_affine: bool,
        tracks_statistics: bool,
        inputs: Iterable[int] | None = None,
    ) -> None:
        norm = {"is_affine": is_affine, "tracks_statistics": tracks_statistics}
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride=stride,
                padding=kernel_size // 2,
                bias=False,
            ),
            norm_per_input(lambda: batch_norm(out_channels, **norm), inputs),
        )

    def forward(self, x: torch.Tensor, number: int = 0) -> torch.Tensor:
        """Return the layer's output, with the BatchNorm of an input by its number."""
        relu, conv, norm = self
        y: torch.Tensor = norm_of(norm, number)(conv(relu(x)))
        return y


@pure
class ReductionBlock(nn.Module):
    """The residual block of stride 2 that doubles the channels between stages of NAS-Bench-201."""

    def __init__(self, in_channels: int, *, is_affine: bool, tracks_statistics: bool) -> None:
        super().__init__()
        out_channels = 2 * in_channels
        norm: dict[str, Any] = {"is_affine": is_affine, "tracks_statistics": tracks_statistics}
        self.conv_a = ReLUConvBN(in_channels, out_channels, 3, stride=2, **norm)
        self.conv_b = ReLUConvBN(out_channels, out_channels, 3, **norm)
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, stride=2, ceil_mode=True, count_include_pad=False),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output at half the size."""
        output: torch.Tensor = self.conv_b(self.conv_a(x)) + self.shortcut(x)
        return output


class DropPath(nn.Module):
    """Zeroes its input for a random share of the images while training, and scales the others up.

    Attributes:
        depth: How much of the share that is set applies here; NAO's schedule is (layer + 1) / layers.
        share: Share of images dropped; set by ``set_drop_path`` as training goes on.
    """

    def __init__(self, depth: float = 1.0) -> None:
        super().__init__()
        self.depth = depth
        self.share = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x (image, ...) with whole images zeroed, in evaluation mode x itself."""
        if not self.training or self.share == 0.0:
            return x
        kept = torch.rand(len(x), *(1 for _ in x.shape[1:]), device=x.device) >= self.share
        return x * (kept / (1 - self.share)).to(x.dtype)


def set_drop_path(model: nn.Module, share: float) -> None:
    """Set the share of images, in [0, 1), that ``DropPath`` layers drop, each as much of it as its depth says."""
    for module in model.modules():
        if isinstance(module, DropPath):
            module.share = share * module.depth
