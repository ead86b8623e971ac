"""A toy space of one's own, and registries that forget what a test registers."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wsx.contracts import ContractError, check_contract, subject_of
from wsx.spaces import SPACES, ProductSpace, loading
from wsx.supernets import SUPERNETS, supernet_of
from wsx.supernets.sliced_norm import SlicedBatchNorm2d
from wsx.supernets.slicing import shared_slice

DECISIONS = {"kernel": (1, 3), "width": (2, 4), "activation": ("relu", "tanh")}
SMALL = {"n_classes": 3, "in_channels": 2, "image_size": 6}


@contextmanager
def isolated_registries() -> Iterator[None]:
    modules = set(sys.modules)
    with (
        patch.object(SPACES, "_entries", dict(SPACES._entries)),
        patch.object(SUPERNETS, "_entries", dict(SUPERNETS._entries)),
        patch.object(loading, "_ORIGINS", dict(loading._ORIGINS)),
    ):
        yield
    for name in set(sys.modules) - modules:
        if "own" in name and not name.startswith("wsx."):
            del sys.modules[name]


def toy_space(name="toy"):
    return ProductSpace(name, DECISIONS)


class ToyNet(nn.Module):
    """One shared convolution, of which archs use the middle and the first channels."""

    values = staticmethod(toy_space().values)

    def __init__(self, n_classes: int, in_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4, in_channels, 3, 3))
        nn.init.kaiming_normal_(self.weight)
        self.norm = SlicedBatchNorm2d(4)
        self.last = nn.Linear(4, n_classes)

    def kernel(self, width, kernel):
        rim = (3 - kernel) // 2
        middle = slice(rim, 3 - rim)
        return shared_slice(self.weight, (slice(width), slice(None), middle, middle))

    def features(self, x, arch):
        choice = self.values(arch)
        x = F.conv2d(
            x, self.kernel(choice["width"], choice["kernel"]), padding=choice["kernel"] // 2
        )
        return getattr(torch, choice["activation"])(self.norm(x)).mean((2, 3))

    def forward(self, x, arch):
        y = self.features(x, arch)
        return F.linear(y, shared_slice(self.last.weight, (..., slice(y.shape[1]))), self.last.bias)


def subject(space=None, net=ToyNet, n_archs=8, **options):
    space = space or toy_space()
    supernet_of(space)(net)
    return subject_of(space, SMALL | options, n_archs=n_archs)


def breaks(contract, which):
    with pytest.raises(ContractError) as caught:
        check_contract(contract, which)
    assert caught.value.contract == contract
    assert f"breaks the contract '{contract}'" in str(caught.value)
    return str(caught.value)
