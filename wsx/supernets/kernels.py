"""Convolutions that share a kernel: the smaller ones take the middle of the largest.

``separate``: every convolution has a kernel of its own. ``centre``: those that differ in size alone use the
middle of the largest, 1x1 that of 3x3, 3x3 that of 5x5. ``transform``: the middle is multiplied, flattened, by
a learnt matrix (pixel, pixel), one for all channels, which starts as the identity; from size to size, so that 3x3
comes from 5x5 as transformed (Cai et al., "Once-for-All", arXiv 1908.09791; a heuristic of Yu et al.,
arXiv 2003.04276). Kernels are all that is shared: each size keeps its BatchNorm.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from wsx.supernets.channels import Pick, taken
from wsx.supernets.slicing import shared_slice

KERNELS = ("separate", "centre", "transform")


class SharedConv2d(nn.Conv2d):
    """A convolution whose kernel others carve theirs out of, or which carves its own out of a larger one.

    Args:
        conv: What it takes the place of; square, without bias.
        source: The next larger convolution of the group; None where this is the largest, which owns the kernel.
        has_transform: What is carved out is multiplied by a learnt matrix.
    """

    def __init__(
        self, conv: nn.Conv2d, source: "SharedConv2d | None", *, has_transform: bool
    ) -> None:
        size = conv.kernel_size[0]
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            size,
            stride=conv.stride[0],
            padding=int(conv.padding[0]),
            dilation=conv.dilation[0],
            groups=conv.groups,
            bias=False,
            device="meta",
        )
        # In a list it is no child: it has another parent, and its weight would be stored twice.
        self._source = [] if source is None else [source]
        self.register_parameter(
            "weight", cast(nn.Parameter, conv.weight) if source is None else None
        )
        carves = source is not None and has_transform
        self.transform = nn.Parameter(torch.eye(size**2)) if carves else None

    def reset_parameters(self) -> None:
        """Initialise as ``nn.Conv2d`` does, a transform as the identity."""
        if self.weight is not None:
            super().reset_parameters()
        if (transform := getattr(self, "transform", None)) is not None:
            nn.init.eye_(transform)

    def carved(self, size: int, picks: Sequence[Pick]) -> torch.Tensor:
        """Return the middle of the kernel, so many pixels a side, for some of its channels."""
        own = self.kernel_size[0]
        window = _middle(own, size)
        if not self._source:
            return taken(self.weight, picks, window)
        if self.transform is None:
            return self._source[0].carved(size, picks)
        # Only rows of pixels that are asked for: a step must not move the others.
        pixels = torch.arange(own**2, device=self.transform.device).reshape(own, own)
        matrix = shared_slice(self.transform, pixels[window].flatten())
        kernel = self._source[0].carved(own, picks)
        return F.linear(kernel.flatten(2), matrix).reshape(*kernel.shape[:2], size, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolution of x (image, channel, height, width)."""
        y: torch.Tensor = self._conv_forward(x, kernel_of(self), None)
        return y


def _middle(size: int, part: int) -> tuple[slice, slice]:
    rim = (size - part) // 2
    return slice(rim, size - rim), slice(rim, size - rim)


def kernel_of(conv: nn.Conv2d, picks: Sequence[Pick] = ()) -> torch.Tensor:
    """Return the kernel of a convolution, its own or carved out of a larger one, for some of its channels.

    Args:
        conv: The convolution.
        picks: Which output and input channels; empty for all that it has.
    """
    if isinstance(conv, SharedConv2d):
        return conv.carved(conv.kernel_size[0], picks or (slice(conv.out_channels),))
    return taken(conv.weight, picks) if picks else conv.weight


def share_kernels(kernels: str, *layers: nn.Module) -> None:
    """Let like layers share the kernels of those convolutions that differ in size.

    Args:
        kernels: One of ``KERNELS``.
        layers: With the same convolutions but for their sizes, the largest first; one with fewer channels takes
            the first ones.
    """
    if kernels == "separate":
        return
    for path, largest in list(layers[0].named_modules()):
        if not isinstance(largest, nn.Conv2d):
            continue
        group = [cast(nn.Conv2d, layer.get_submodule(path)) for layer in layers]
        if len({conv.kernel_size for conv in group}) == 1:
            continue
        source = None
        for layer, conv in zip(layers, group, strict=True):
            source = SharedConv2d(conv, source, has_transform=kernels == "transform")
            layer.set_submodule(path, source)
