"""What the tests of export folders share."""

from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional as F

from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.recorder import Recorder, weight_file
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES

SPACE = SPACES["nasbench201"]
FACTS = {"checkpoint_sha256": "f" * 64}


def archs(n, seed=0):
    return SPACE.sample(n, rng=np.random.default_rng(seed), measure="reachable")


def running(supernet):
    return SubnetRecorder(supernet, BatchNormMode("running"))


def run_file(path, x):
    """Run one file alone, as somebody who never heard of wsx would."""
    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def content(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


class Sliced(nn.Module):
    """A space of kernels cut from a shared one: the first two options of an arch say how wide."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1, bias=False)
        self.last = nn.Linear(12, 2)
        with torch.no_grad():
            values = torch.randn(self.conv.weight.shape, generator=torch.Generator().manual_seed(0))
            self.conv.weight.copy_(values)

    def forward(self, x, arch):
        width = 1 + arch[0] + 5 * (arch[1] > 0)
        y = F.conv2d(x, self.conv.weight[:width], padding=1).relu().mean((2, 3))
        return F.linear(y, self.last.weight[:, :width], self.last.bias)


def sliced_recorder(model):
    weights = weight_file(model)
    recorder = Recorder(model, weights, (3, 6, 6))
    return SimpleNamespace(
        space=SPACE,
        mode=BatchNormMode("running"),
        macro={"ties_weights": True},
        weights=weights,
        record=recorder.record,
    )


def assert_equal_outputs(model, folder, wanted):
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    assert set(folder.rows) == set(wanted)
    for arch in wanted:
        with torch.no_grad():
            expected = model(x, arch)
        found = run_file(folder.path / folder.row(arch).file, x.numpy())
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
