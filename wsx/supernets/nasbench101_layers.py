"""Convolutions of which archs use different numbers of channels.

How a layer with weights for most channels serves fewer of them is what Yu et al. (arXiv 2003.04276) call dynamic
channelling: ``fixed`` takes the first, ``random`` a contiguous run from a random start, ``shuffle`` a random
subset, ``interpolate`` averages neighbours down to as many. Random choices are made anew in every training
forward, for inputs and outputs of each layer apart; in evaluation they are the first channels. ``chunks``
shares nothing between numbers of channels: each has weights of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from wsx.errors import OptionError
from wsx.registry import unknown_name
from wsx.supernets._base import MacroOptions
from wsx.supernets.pure import pure
from wsx.supernets.slicing import shared_slice

SLICINGS = ("fixed", "random", "shuffle", "interpolate", "chunks")

Pick = slice | torch.Tensor | int
"""Which channels of all: a run, a subset (channel,), or to how many all of them are averaged."""


@dataclass(frozen=True)
class NasBench101Options(MacroOptions):
    """Width and depth of the macro, sharing between numbers of channels, and BatchNorm.

    Attributes:
        channels: Channels of the first stack (C); they double with each.
        stacks: Stacks of cells, a 2x2 max-pool before all but the first.
        cells_per_stack: Cells in each.
        slicing: One of ``SLICINGS``.
        bn_momentum: Share of a batch in the running averages of BatchNorm; the benchmark's is .003.
        is_affine: BatchNorm layers learn scale and shift.
        tracks_statistics: BatchNorm layers keep running averages.
    """

    channels: int = 128
    stacks: int = 3
    cells_per_stack: int = 3
    slicing: str = "fixed"
    bn_momentum: float = 0.1
    is_affine: bool = True
    tracks_statistics: bool = True

    def __post_init__(self) -> None:
        """Refuse what no network can be built of.

        Raises:
            OptionError: An integer is not positive, or the momentum lies outside (0, 1].
            UnknownNameError: There is no such slicing.
        """
        super().__post_init__()
        if self.slicing not in SLICINGS:
            raise unknown_name("slicing", self.slicing, list(SLICINGS))
        if not 0 < self.bn_momentum <= 1:
            raise OptionError(f"bn_momentum is {self.bn_momentum}; it must lie in (0, 1]")

    @property
    def norm(self) -> dict[str, Any]:
        """The BatchNorm options as PyTorch's keyword arguments."""
        return {
            "momentum": self.bn_momentum,
            "affine": self.is_affine,
            "track_running_stats": self.tracks_statistics,
        }


def pick_channels(slicing: str, n: int, n_all: int, *, is_training: bool) -> Pick:
    """Return which channels an arch uses that needs n of them."""
    if slicing == "interpolate":
        return n
    if n == n_all or slicing == "fixed" or not is_training:
        return slice(0, n)
    if slicing == "random":
        start = int(torch.randint(n_all - n + 1, ()))
        return slice(start, start + n)
    return torch.randperm(n_all)[:n].sort().values


def taken(weight: torch.Tensor, picks: Sequence[Pick]) -> torch.Tensor:
    """Return the channels of a parameter that are picked on its leading axes."""
    sizes = [pick for pick in picks if isinstance(pick, int)]
    if sizes:
        part = _averaged(shared_slice(weight, ...), sizes)
    else:
        index = list(picks)
        if len(index) == 2 and all(isinstance(pick, torch.Tensor) for pick in index):
            # Two subsets mean all their combinations.
            index[0] = index[0][:, None]  # type: ignore[index]
        part = shared_slice(weight, tuple(index))
    # Without gradients a parameter that is taken whole may stay itself, and keeps its name when recorded.
    return weight if part.shape == weight.shape and not torch.is_grad_enabled() else part


def _averaged(weight: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    if weight.dim() == 1:
        return F.adaptive_avg_pool1d(weight[None], sizes[0])[0]
    return F.adaptive_avg_pool2d(weight.permute(2, 3, 0, 1), (sizes[0], sizes[1])).permute(
        2, 3, 0, 1
    )


class SlicedBatchNorm(nn.BatchNorm2d):
    """BatchNorm of some of its channels; training moves the running averages of these alone."""

    def forward(self, x: torch.Tensor, pick: Pick) -> torch.Tensor:  # type: ignore[override]
        """Return x (image, channel, height, width) normalised with the picked channels' parameters."""
        momentum = self.momentum or 0.0
        uses_batch = self.training or self.running_mean is None
        if uses_batch:
            # From zero they become momentum times the statistics of the batch. With momentum 0 nothing
            # would move, and whoever set it may have put averages of one subnet here.
            mean, var = (
                t.new_zeros(x.shape[1]) if t is not None and momentum else None
                for t in (self.running_mean, self.running_var)
            )
        else:
            mean, var = self._taken(self.running_mean, pick), self._taken(self.running_var, pick)
        weight, bias = self._taken(self.weight, pick), self._taken(self.bias, pick)
        y = F.batch_norm(x, mean, var, weight, bias, uses_batch, momentum, self.eps)
        if uses_batch and mean is not None and var is not None:
            self._move(pick, mean, var, 1 - momentum)
        return y

    @staticmethod
    def _taken(weight: torch.Tensor | None, pick: Pick) -> torch.Tensor | None:
        return None if weight is None else taken(weight, [pick])

    def _move(self, pick: Pick, mean: torch.Tensor, var: torch.Tensor, kept: float) -> None:
        for average, share in ((self.running_mean, mean), (self.running_var, var)):
            if average is None:
                continue
            if isinstance(pick, int):
                # Each channel takes the statistics of the average that it lies in.
                lies_in = torch.arange(len(average), device=average.device) * pick // len(average)
                average.mul_(kept).add_(share[lies_in])
            else:
                average[pick] = average[pick] * kept + share


@pure
class ConvNormReLU(nn.Sequential):
    """Convolution without bias, BatchNorm, ReLU, with one number of channels."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, options: NasBench101Options
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels, **options.norm),
            nn.ReLU(),
        )


@pure
class SlicedConvNormReLU(nn.Module):
    """The same with weights for most channels, of which archs use some."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, options: NasBench101Options
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False
        )
        self.norm = SlicedBatchNorm(out_channels, **options.norm)
        self._slicing = options.slicing

    def forward(self, x: torch.Tensor, width: int) -> torch.Tensor:
        """Return so many channels of the layer's output."""
        conv = self.conv
        picks = [
            pick_channels(self._slicing, n, n_all, is_training=self.training)
            for n, n_all in ((width, conv.out_channels), (x.shape[1], conv.in_channels))
        ]
        y = F.conv2d(x, taken(conv.weight, picks), padding=conv.padding)
        return F.relu(self.norm(y, picks[0]))


class Chunks(nn.ModuleDict):
    """A layer of its own for each number of output channels."""

    def forward(self, x: torch.Tensor, width: int) -> torch.Tensor:
        """Return so many channels, all that their layer has."""
        y: torch.Tensor = self[str(width)](x)
        return y


def layer_of_widths(
    in_channels: int | None, widths: Sequence[int], kernel_size: int, options: NasBench101Options
) -> Chunks | SlicedConvNormReLU:
    """Return a layer, called with its input and a number of channels, that can give any of some numbers.

    Args:
        in_channels: Channels of its input; None for as many as it gives.
        widths: The numbers that it is asked for; where there is only one, nothing is sliced.
        kernel_size: Pixels a side.
        options: How numbers share.
    """
    if options.slicing == "chunks" or len(widths) == 1:
        return Chunks(
            {str(n): ConvNormReLU(in_channels or n, n, kernel_size, options) for n in widths}
        )
    most = max(widths)
    return SlicedConvNormReLU(in_channels or most, most, kernel_size, options)
