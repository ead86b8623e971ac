"""BatchNorm over as many channels as an arch has: the first ones of the widest."""

import torch
from torch import nn
from torch.nn import functional as F

from wsx.supernets.slicing import shared_slice


class SlicedBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm layer that takes its first channels where its input has fewer than it.

    All archs share scale, shift and running averages of a channel, so that running averages are those of no
    arch; score with batch or calibrated statistics.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x (image, channel, height, width) normalised; in training the averages in use move along."""
        part, momentum = slice(x.shape[1]), self.momentum or 0.0
        uses_batch = self.training or self.running_mean is None
        mean, variance = self.running_mean, self.running_var
        if uses_batch and not momentum:
            # Nothing would move, and whoever set it may keep averages of one narrow subnet here.
            mean = variance = None
        return F.batch_norm(
            x,
            None if mean is None else mean[part],
            None if variance is None else variance[part],
            None if self.weight is None else shared_slice(self.weight, part),
            None if self.bias is None else shared_slice(self.bias, part),
            training=uses_batch,
            momentum=momentum,
            eps=self.eps,
        )
