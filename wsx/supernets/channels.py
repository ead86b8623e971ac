"""Channels of layers of which archs use different numbers.

How a layer with weights for most channels serves fewer of them is what Yu et al. (arXiv 2003.04276) call dynamic
channelling: ``fixed`` takes the first, ``random`` a contiguous run from a random start, ``shuffle`` a random
subset, ``interpolate`` averages neighbours down to as many. Random choices are made anew in every training
forward, for inputs and outputs of each layer apart; in evaluation they are the first channels. ``chunks``
shares nothing between numbers of channels: each has weights of its own.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from wsx.supernets.slicing import computed_from, shared_slice

SLICINGS = ("fixed", "random", "shuffle", "interpolate", "chunks")

Pick = slice | torch.Tensor | int
"""Which channels of all: a run, a subset (channel,), or to how many all of them are averaged."""


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


def taken(
    weight: torch.Tensor, picks: Sequence[Pick], window: tuple[slice, ...] = ()
) -> torch.Tensor:
    """Return the part of a shared parameter that an arch uses.

    Args:
        weight: The parameter.
        picks: Which channels, on its leading axes.
        window: Which pixels, on its last axes.
    """
    sizes = [pick for pick in picks if isinstance(pick, int)]
    if sizes:
        part = computed_from(weight, _averaged(shared_slice(weight, (..., *window)), sizes))
    else:
        index = list(picks)
        if len(index) == 2 and all(isinstance(pick, torch.Tensor) for pick in index):
            # Two subsets mean all their combinations.
            index[0] = index[0][:, None]  # type: ignore[index]
        part = shared_slice(weight, (*index, ..., *window))
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
