"""A pure block is run once and repeated: what is recorded must be what running it every time gives."""

import numpy as np
import pytest
import torch
from torch import nn

from wsx.errors import ExportError
from wsx.exporters import functions  # noqa: F401  (fills the table of what can be recorded)
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.recorder import Recorder, Trace, weight_file
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES
from wsx.supernets import build_supernet
from wsx.supernets.pure import pure

SMALL = {
    "nasbench201": {"channels": 4, "cells": 2},
    "nasbench101": {"channels": 4, "cells_per_stack": 1},
    "darts": {"channels": 4, "cells": 3},
    "nasbenchmacro": {"channels": 4},
    "proxylessnas": {"width_percent": 25, "image_size": 32},
    "cell64": {"channels": 4},
}


@pytest.mark.parametrize("name", SMALL)
def test_what_is_repeated_is_what_running_gives(name, monkeypatch):
    net = build_supernet(name, SMALL[name], seed=0).eval()
    archs = SPACES[name].sample(6, rng=np.random.default_rng(1), measure="encodings")
    repeated = SubnetRecorder(net, BatchNormMode.parse("batch"))
    graphs = [repeated.record(arch) for arch in [*archs, *archs]][len(archs) :]
    assert repeated._recorder.fragments
    monkeypatch.setattr(
        Trace,
        "call_block",
        lambda self, block, forward, args, kwargs: forward(block, *args, **kwargs),
    )
    plain = SubnetRecorder(net, BatchNormMode.parse("batch"))
    assert [plain.record(arch) for arch in archs] == graphs
    assert not plain._recorder.fragments


class Net(nn.Module):
    """Calls a block as a test says: ``use(block, x, *arguments)``."""

    def __init__(self, block, use):
        super().__init__()
        self.block = block
        self.use = use

    def forward(self, x, *arguments):
        return self.use(self.block, x, *arguments)


def recorder_of(block, use, shape=(4, 6, 6)):
    net = Net(block, use).eval()
    return Recorder(net, weight_file(net), shape)


@pure
class Mix(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1, bias=False)
        self.runs = 0

    def forward(self, x, y=None, power=1):
        self.runs += 1
        return self.conv(x) - (x if y is None else y) ** power


def ops_of(graph):
    return [(node.op, node.inputs) for node in graph.nodes]


def test_arguments_equal_once_are_told_apart_the_next_time():
    block = Mix()
    recorder = recorder_of(block, lambda block, x, same: block(x, x if same else x.relu()))
    first, second = recorder.record(True), recorder.record(False)
    assert block.runs == 1
    assert ops_of(first)[-1] == ("sub", (1, 3))
    assert [op for op, _ in ops_of(second)] == ["input", "relu", "conv", "scalar", "pow", "sub"]


def test_options_and_shapes_are_part_of_what_was_learnt():
    block = Mix()
    use = lambda block, x, power, rows: block(x[:, :, :rows], power=power)  # noqa: E731
    recorder = recorder_of(block, use)
    graphs = {key: recorder.record(*key) for key in ((1, 6), (2, 6), (2, 3), (1, 6))}
    assert block.runs == 3
    assert len({graph.function_key for graph in graphs.values()}) == 3
    assert graphs[2, 3].output.shape == (-1, 4, 3, 6)


def test_a_pure_block_may_not_read_other_values():
    @pure
    class Sneaky(nn.Module):
        def forward(self, x):
            return x + self.stash

    def use(block, x):
        block.stash = x.relu()
        return block(x)

    with pytest.raises(ExportError, match=r"a value from outside a cell or pure block.*block"):
        recorder_of(Sneaky(), use).record()


def test_what_cannot_be_repeated_is_run_each_time():
    @pure
    class Halves(nn.Module):
        def forward(self, x, scale=None):
            a, b = x.chunk(2, dim=1)
            return (a, b) if scale is None else a * scale - b

    recorder = recorder_of(Halves(), lambda block, x: torch.cat(block(x)[::-1], 1))
    assert recorder.record() == recorder.record()
    assert recorder.record().output.shape == (-1, 4, 6, 6)
    # A tensor that is no weight of the module may differ in the next recording.
    recorder = recorder_of(Halves(), lambda block, x, s: block(x, torch.full((1,), s)))
    two, three = recorder.record(2.0), recorder.record(3.0)
    assert not recorder.fragments
    assert two.function_key != three.function_key


def test_tensors_pass_through_a_pure_block():
    block = Mix()
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(block(x, power=2), block.conv(x) - x**2)
    block(x)
    assert block.runs == 2


def test_an_error_in_a_pure_block_names_it():
    @pure
    class Wrong(nn.Module):
        def forward(self, x):
            return torch.fft.fft(x)

    with pytest.raises(ExportError, match="in module block"):
        recorder_of(Wrong(), lambda block, x: block(x)).record()
