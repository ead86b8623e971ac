import numpy as np
import pytest
import torch
from heuristic_nets import images, make
from torch import nn

from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.emit import emit_subnet
from wsx.exporters.extract import extract
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES
from wsx.supernets.blocks import DropPath, set_drop_path
from wsx.supernets.blocks_mobile import MBConv, Style


def archs(space, n=2):
    return SPACES[space].sample(n, rng=np.random.default_rng(0), measure="encodings")


# Path dropout -----------------------------------------------------------------------------------------------


def nao_share(share, layer, n_layers):
    """NAO's schedule at the last step: keep_l = 1 - (l + 1) / L * (1 - keep)."""
    keep = 1 - share
    return 1 - (1 - (layer + 1) / n_layers * (1 - keep))


# Layers with paths to drop, in the order of the data: (number, of how many).
LAYERS = {
    "nasbench201": ({"cells": 2}, [(i, 6) for i in range(6)]),
    "nasbench101": ({"stacks": 2, "cells_per_stack": 2}, [(i, 4) for i in range(4)]),
    "cell64": ({"cells": 3}, [(i, 3) for i in range(3)]),
    # Eight slots a cell.
    "darts": ({"ramps_drop_path": True}, [(i, 3) for i in range(3) for _ in range(8)]),
    "nasbenchmacro": ({}, [(i, 8) for i in range(8) for _ in range(2)]),
    # The first block is fixed.
    "proxylessnas": ({}, [(0, 1)] + [(i, 21) for i in range(21) for _ in range(6)]),
}


@pytest.mark.parametrize("space", LAYERS)
def test_the_share_of_dropped_paths_grows_with_depth(space):
    options, layers = LAYERS[space]
    supernet = make(space, **options)
    set_drop_path(supernet, 0.4)
    shares = [m.share for m in supernet.modules() if isinstance(m, DropPath)]
    expected = [nao_share(0.4, *layer) for layer in layers]
    assert shares == pytest.approx(expected, abs=1e-12, rel=0)
    set_drop_path(supernet, 0.0)
    assert {m.share for m in supernet.modules() if isinstance(m, DropPath)} == {0.0}
    flat = make(space, **options | {"ramps_drop_path": False})
    set_drop_path(flat, 0.4)
    assert {m.share for m in flat.modules() if isinstance(m, DropPath)} == {0.4}


def test_darts_drops_as_much_in_every_cell_unless_told():
    supernet = make("darts")
    set_drop_path(supernet, 0.4)
    assert {m.share for m in supernet.modules() if isinstance(m, DropPath)} == {0.4}


@pytest.mark.parametrize("space", ["nasbench201", "cell64"])
@torch.no_grad()
def test_whole_outputs_of_cells_are_dropped_for_some_images(space):
    supernet = make(space).train()
    cell = supernet.cells[1] if space == "cell64" else supernet.stages[0][0]
    cell.drop_path.depth = 1.0
    arch = (3, 3, 1, 2, 1, 4) if space == "nasbench201" else (1, 2, 3)
    channels = {"nasbench201": 3, "cell64": 2}[space]
    x = torch.randn(60, channels, 5, 5, generator=torch.Generator().manual_seed(0))
    whole = cell(x, arch)
    set_drop_path(supernet, 0.5)
    ratio = (cell(x, arch) / whole).flatten(1)
    assert torch.equal(ratio.min(1).values.round(), ratio.max(1).values.round())
    kept = ratio.mean(1).round()
    assert set(kept.tolist()) == {0.0, 2.0}
    # 60 coins: five standard deviations are 19.
    assert 11 < int((kept == 0).sum()) < 49
    torch.testing.assert_close(cell.eval()(x, arch), make_eval(cell, x, arch), rtol=0, atol=0)


def make_eval(cell, x, arch):
    cell.drop_path.share = 0.0
    return cell.eval()(x, arch)


@torch.no_grad()
def test_blocks_with_a_residual_drop_what_they_add():
    style = Style(nn.ReLU, is_affine=True, tracks_statistics=True)
    x = torch.randn(60, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    block = MBConv(4, 4, 3, 2, style, has_residual=True).train()
    added = block(x) - x
    set_drop_path(block, 0.5)
    dropped = block(x)
    is_bare = (dropped == x).flatten(1).all(1)
    assert 11 < int(is_bare.sum()) < 49
    expected = (x + 2 * added)[~is_bare]
    torch.testing.assert_close(dropped[~is_bare], expected, rtol=0, atol=1e-5)
    # Without a residual nothing would be left of the image.
    chain = MBConv(4, 4, 3, 2, style).train()
    set_drop_path(chain, 0.9)
    assert torch.equal(chain(x), chain(x))


# Global dropout ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", LAYERS)
@torch.no_grad()
def test_dropout_zeroes_pooled_features_while_training_alone(space):
    supernet, plain = make(space, dropout=0.25), make(space)
    x, features = images(supernet, 8, dtype=torch.float32), {}
    (arch, *_) = archs(space)
    for name, net in (("dropped", supernet), ("plain", plain)):
        net.classifier.register_forward_pre_hook(
            lambda _, args, name=name: features.update({name: args[0].clone()})
        )
    assert torch.equal(supernet(x, arch), plain(x, arch))
    supernet.train()(x, arch)
    plain.train()(x, arch)
    is_dropped = features["dropped"] == 0
    kept = ~is_dropped & (features["plain"] != 0)
    ratio = features["dropped"][kept] / features["plain"][kept]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 4 / 3), rtol=0, atol=1e-4)
    n = is_dropped.numel()
    was_zero = int((features["plain"] == 0).sum())
    n_dropped = int(is_dropped.sum()) - was_zero
    # Five standard deviations of n coins of 1/4.
    assert abs(n_dropped - 0.25 * (n - was_zero)) < 5 * (n * 3 / 16) ** 0.5 + 1


def test_dropout_is_in_extracted_subnets_and_not_in_exported_ones():
    supernet, plain = make("nasbench201", dropout=0.25), make("nasbench201")
    (arch, *_) = archs("nasbench201")
    layers = [m for m in extract(supernet, arch).modules() if isinstance(m, nn.Dropout)]
    assert [layer.p for layer in layers] == [0.25]
    files = []
    for net in (supernet, plain):
        recorder = SubnetRecorder(net, BatchNormMode("running"))
        files.append(emit_subnet(recorder.record(arch), recorder.weights).SerializeToString())
    assert files[0] == files[1]
