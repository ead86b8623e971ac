"""A space of one's own: kernel, width, depth and activation of a small network, all weights shared.

wsx train --space examples/own_space.py:SPACE --data digits --set epochs=5 --out own-run
wsx evaluate own-run --space examples/own_space.py:SPACE --all --bn calibrated:4x100 --out own.h5
"""

import torch
from torch import nn
from torch.nn import functional as F

from wsx.spaces import Arch, ProductSpace
from wsx.supernets import supernet_of
from wsx.supernets.sliced_norm import SlicedBatchNorm2d
from wsx.supernets.slicing import shared_slice

ACTIVATIONS = {"relu": F.relu, "silu": F.silu}
LARGEST, WIDEST = 5, 16
SPACE = ProductSpace(
    "own-cnn",
    {
        "kernel": (3, LARGEST),
        "width": (8, 12, WIDEST),
        "depth": (1, 2, 3),
        "activation": tuple(ACTIVATIONS),
    },
    summary="a small network of one kernel size, width and activation",
)


class Layer(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in, LARGEST, LARGEST))
        self.norm = SlicedBatchNorm2d(n_out)
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: torch.Tensor, width: int, kernel: int) -> torch.Tensor:
        rim = (LARGEST - kernel) // 2
        middle = slice(rim, LARGEST - rim)
        weight = shared_slice(self.weight, (slice(width), slice(x.shape[1]), middle, middle))
        y: torch.Tensor = self.norm(F.conv2d(x, weight, padding=kernel // 2))
        return y


@supernet_of(SPACE)
class Net(nn.Module):
    def __init__(self, n_classes: int, in_channels: int, pool: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(n, WIDEST) for n in (in_channels, WIDEST, WIDEST))
        self.classifier = nn.Linear(WIDEST, n_classes)
        self.pool = nn.MaxPool2d(pool)

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        choice = SPACE.values(arch)
        for layer in list(self.layers)[: choice["depth"]]:
            x = ACTIVATIONS[choice["activation"]](layer(x, choice["width"], choice["kernel"]))
        weight = shared_slice(self.classifier.weight, (..., slice(choice["width"])))
        return F.linear(self.pool(x).mean((2, 3)), weight, self.classifier.bias)
