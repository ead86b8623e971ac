"""The layers of NAS-Bench-101's supernet: convolution, BatchNorm, ReLU, at one or several widths."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from wsx.supernets.blocks import batch_norm
from wsx.supernets.channels import SLICINGS, SlicedBatchNorm, pick_channels
from wsx.supernets.image_options import ImageOptions
from wsx.supernets.kernels import kernel_of
from wsx.supernets.pure import pure
from wsx.supernets.wsbn import norm_of, norm_per_input


@dataclass(frozen=True)
class NasBench101Options(ImageOptions):
    """Width and depth of the macro, sharing between numbers of channels, and BatchNorm.

    The benchmark's ``bn_momentum`` is .003.

    Attributes:
        channels: Channels of the first stack (C); they double with each.
        stacks: Stacks of cells, a 2x2 max-pool before all but the first.
        cells_per_stack: Cells in each.
        slicing: One of ``SLICINGS``, see ``wsx.supernets.channels``.
        has_wsbn: An operation has a BatchNorm layer for every set of vertices that may feed it.
    """

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {**ImageOptions.choices, "slicing": SLICINGS}

    channels: int = 128
    stacks: int = 3
    cells_per_stack: int = 3
    slicing: str = "fixed"
    has_wsbn: bool = False


@pure
class ConvNormReLU(nn.Sequential):
    """Convolution without bias, BatchNorm, ReLU, with one number of channels."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        options: NasBench101Options,
        inputs: Iterable[int] | None = None,
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
            norm_per_input(lambda: batch_norm(out_channels, **options.norm), inputs),
            nn.ReLU(),
        )

    def forward(self, x: torch.Tensor, number: int = 0) -> torch.Tensor:
        """Return the layer's output, with the BatchNorm of an input by its number."""
        conv, norm, relu = self
        y: torch.Tensor = relu(norm_of(norm, number)(conv(x)))
        return y


@pure
class SlicedConvNormReLU(nn.Module):
    """The same with weights for most channels, of which archs use some."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        options: NasBench101Options,
        inputs: Iterable[int] | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False
        )
        self.norm = norm_per_input(
            lambda: SlicedBatchNorm(
                out_channels,
                affine=options.is_affine,
                track_running_stats=options.tracks_statistics,
            ),
            inputs,
        )
        self._slicing = options.slicing

    def forward(self, x: torch.Tensor, width: int, number: int = 0) -> torch.Tensor:
        """Return so many channels of the output, with the BatchNorm of an input by its number."""
        conv = self.conv
        picks = [
            pick_channels(self._slicing, n, n_all, is_training=self.training)
            for n, n_all in ((width, conv.out_channels), (x.shape[1], conv.in_channels))
        ]
        y = F.conv2d(x, kernel_of(conv, picks), padding=conv.padding)
        return F.relu(norm_of(self.norm, number)(y, picks[0]))


class Chunks(nn.ModuleDict):
    """A layer of its own for each number of output channels."""

    def forward(self, x: torch.Tensor, width: int, number: int = 0) -> torch.Tensor:
        """Return so many channels, all that their layer has, with the BatchNorm of an input."""
        y: torch.Tensor = self[str(width)](x, number)
        return y


def layer_of_widths(
    in_channels: int | None,
    widths: Sequence[int],
    kernel_size: int,
    options: NasBench101Options,
    inputs: Sequence[int] | None = None,
) -> Chunks | SlicedConvNormReLU:
    """Return a layer, called with its input and a number of channels, that can give any of some numbers.

    Args:
        in_channels: Channels of its input; None for as many as it gives.
        widths: The numbers that it is asked for; where there is only one, nothing is sliced.
        kernel_size: Pixels a side.
        options: How numbers share.
        inputs: Numbers of the inputs that have a BatchNorm layer each; None for one that all share.
    """
    if options.slicing == "chunks" or len(widths) == 1:
        return Chunks(
            {
                str(n): ConvNormReLU(in_channels or n, n, kernel_size, options, inputs)
                for n in widths
            }
        )
    most = max(widths)
    return SlicedConvNormReLU(in_channels or most, most, kernel_size, options, inputs)
