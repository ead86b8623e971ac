import operator

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wsx.exporters import functions  # noqa: F401  (fills FUNCTIONS)
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.emit import emit_subnet
from wsx.exporters.extract import to_module
from wsx.exporters.operators import OPERATORS
from wsx.exporters.recorder import FUNCTIONS, Recorder, weight_file
from wsx.supernets.recurrence import recurrence

# float32 in another order of summation, values of order one.
ATOL = 2e-5


class Apply(nn.Module):
    """A module that does one thing to its input."""

    def __init__(self, function, *layers):
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)
        generator = torch.Generator().manual_seed(5)
        self.row = nn.Parameter(torch.rand(1, 4, 1, 1, generator=generator) + 0.5)
        self.matrix = nn.Parameter(torch.randn(7, 5, generator=generator))
        self.register_buffer("vector", torch.rand(7, generator=generator) + 0.5)

    def forward(self, x):
        return self.function(self, x)


def direct(function, *args, **kwargs):
    """A module that calls a torch function on its input."""
    return Apply(lambda m, x: function(x, *args, **kwargs))


def layer(*layers):
    return Apply(lambda m, x: nn.Sequential(*m.layers)(x), *layers)


def of(function):
    """A module whose function sees the input alone."""
    return Apply(lambda m, x: function(x))


CHW = (4, 9, 7)

CASES = {
    # convolution
    "conv2d": (CHW, layer(nn.Conv2d(4, 6, 3))),
    "conv2d stride padding bias": (CHW, layer(nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=True))),
    "conv2d oblong": (
        CHW,
        layer(nn.Conv2d(4, 6, (5, 3), stride=(2, 1), padding=(2, 0), bias=False)),
    ),
    "conv2d groups dilation": (CHW, layer(nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4))),
    "conv2d grouped": (CHW, layer(nn.Conv2d(4, 6, 1, groups=2, bias=False))),
    "conv2d sliced kernel": (
        CHW,
        Apply(
            lambda m, x: F.conv2d(x, m.layers[0].weight[:3, :, 1:4, 1:4], padding=1),
            nn.Conv2d(4, 6, 5),
        ),
    ),
    "conv1d": ((4, 11), layer(nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2))),
    "conv3d": ((2, 5, 7, 3), layer(nn.Conv3d(2, 4, 3, padding=1, stride=(1, 2, 1), groups=2))),
    # linear
    "linear 2-d": ((7,), layer(nn.Linear(7, 3))),
    "linear 2-d no bias": ((7,), layer(nn.Linear(7, 3, bias=False))),
    "linear 3-d": ((5, 7), layer(nn.Linear(7, 3))),
    "linear 4-d no bias": (CHW, layer(nn.Linear(7, 3, bias=False))),
    "matmul function": ((3, 7), Apply(lambda m, x: torch.matmul(x, m.matrix))),
    "matmul weight first": ((5, 3), Apply(lambda m, x: torch.matmul(m.matrix, x))),
    "matmul operator, weight first": ((5, 3), Apply(lambda m, x: m.matrix @ x)),
    "matmul operator, weight last": ((3, 7), Apply(lambda m, x: x @ m.matrix)),
    "matmul stretched": (
        (2, 3, 5),
        of(lambda x: x.mean(1, keepdim=True) @ x.transpose(2, 3)),
    ),
    "matmul operator": ((3, 5), of(lambda x: x @ x.transpose(1, 2))),
    "matmul method 4-d": ((2, 3, 5), of(lambda x: x.matmul(x.transpose(2, 3)))),
    # norms
    "batch_norm 2d": (CHW, layer(nn.BatchNorm2d(4))),
    "batch_norm 2d plain": (CHW, layer(nn.BatchNorm2d(4, affine=False, eps=1e-2))),
    "batch_norm 1d": ((7,), layer(nn.BatchNorm1d(7))),
    "batch_norm 1d 3-d": ((4, 7), layer(nn.BatchNorm1d(4))),
    "batch_norm 3d": ((2, 5, 7, 3), layer(nn.BatchNorm3d(2))),
    # pooling
    "avg_pool": (CHW, layer(nn.AvgPool2d(2))),
    "avg_pool ceil": (CHW, layer(nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False))),
    "avg_pool ceil counts": (CHW, layer(nn.AvgPool2d(2, ceil_mode=True))),
    "avg_pool padding": (CHW, layer(nn.AvgPool2d(3, stride=1, padding=1))),
    "avg_pool padding left out": (
        CHW,
        layer(nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)),
    ),
    "avg_pool ceil padding": (
        CHW,
        layer(nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)),
    ),
    "avg_pool ceil padding counts": (
        (4, 8, 6),
        layer(nn.AvgPool2d(3, 2, padding=1, ceil_mode=True)),
    ),
    "avg_pool window past the end": (
        (4, 7, 7),
        layer(nn.AvgPool2d(2, 3, padding=1, ceil_mode=True, count_include_pad=False)),
    ),
    "avg_pool oblong": (CHW, layer(nn.AvgPool2d((3, 2), stride=(1, 2)))),
    "max_pool": (CHW, layer(nn.MaxPool2d(2))),
    "max_pool ceil": (CHW, layer(nn.MaxPool2d(2, ceil_mode=True))),
    "max_pool padding": (CHW, layer(nn.MaxPool2d(3, stride=2, padding=1))),
    "max_pool ceil padding": (
        (4, 8, 6),
        layer(nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)),
    ),
    "max_pool window past the end": (
        (4, 7, 7),
        layer(nn.MaxPool2d(2, 3, padding=1, ceil_mode=True)),
    ),
    "adaptive 1": (CHW, layer(nn.AdaptiveAvgPool2d(1))),
    "adaptive dividing": ((4, 9, 6), layer(nn.AdaptiveAvgPool2d((3, 2)))),
    # binary operators, each side
    "symbols": (CHW, of(lambda x: (x + x.relu()) * x - x / (x.abs() + 1.0))),
    "add scalar": (CHW, of(lambda x: 2 + (x + 1.5))),
    "sub scalar": (CHW, of(lambda x: 2.0 - (x - 1.5))),
    "mul scalar": (CHW, of(lambda x: 2 * (x * 1.5))),
    "div scalar": (CHW, of(lambda x: 2.0 / (x / 1.5 + 9.0))),
    "pow scalar": (CHW, of(lambda x: 2.0 ** (x**2 * 0.1))),
    "negative": (CHW, of(lambda x: -x)),
    "in place": (CHW, of(lambda x: operator.iadd(operator.imul(x * 1.0, 3.0), 1.0))),
    "in place sub div": (CHW, of(lambda x: operator.isub(operator.itruediv(x * 1.0, 3.0), 1.0))),
    "in place pow": (CHW, of(lambda x: operator.ipow(x * 1.0, 2))),
    "parameter right": (CHW, Apply(lambda m, x: (x + m.row) * m.row - m.row / (x / m.row + 9.0))),
    "parameter left": (CHW, Apply(lambda m, x: m.row + m.row * (m.row - m.row / (x + 9.0)))),
    "parameter pow": (CHW, Apply(lambda m, x: m.row ** (x * 0.3) + (x.abs() + 0.1) ** m.row)),
    "buffer": (CHW, Apply(lambda m, x: m.vector * x)),
    "integer tensor": (CHW, Apply(lambda m, x: x * torch.arange(7))),
    "parameter's method": (
        CHW,
        Apply(
            lambda m, x: m.row.add(x).sub(m.row.mul(x)) + m.row.div(x.abs() + 1.0) + m.row.pow(x)
        ),
    ),
    "torch.add": (CHW, Apply(lambda m, x: torch.add(torch.add(m.row, x), x))),
    "torch.sub": (CHW, Apply(lambda m, x: torch.sub(m.row, torch.sub(x, 2.0)))),
    "torch.mul": (CHW, Apply(lambda m, x: torch.mul(m.row, torch.mul(x, 2.0)))),
    "torch.div": (CHW, Apply(lambda m, x: torch.div(m.row, torch.div(x, 9.0) + 2.0))),
    "torch.pow": (CHW, Apply(lambda m, x: torch.pow(torch.abs(x) + 0.1, m.row))),
    "broadcast symbols": (CHW, of(lambda x: x * x.mean((2, 3), keepdim=True))),
    # one operand
    **{
        f"torch.{name}": (CHW, direct(getattr(torch, name)))
        for name in ("sigmoid", "tanh", "exp", "abs", "erf", "neg", "relu")
    },
    **{
        f"Tensor.{name}": (CHW, of(operator.methodcaller(name)))
        for name in ("sigmoid", "tanh", "exp", "abs", "erf", "neg", "relu")
    },
    **{
        f"F.{name}": (CHW, direct(getattr(F, name)))
        for name in ("relu", "relu6", "silu", "hardswish", "hardsigmoid", "gelu", "sigmoid", "tanh")
    },
    "log": (CHW, of(lambda x: torch.log(x.abs() + 0.1) + (x.abs() + 0.1).log())),
    "sqrt": (CHW, of(lambda x: torch.sqrt(x.abs()) + (x * x + 0.1).sqrt())),
    "layers": (
        CHW,
        layer(
            nn.ReLU(inplace=True), nn.Hardswish(), nn.SiLU(), nn.ReLU6(), nn.GELU(), nn.Sigmoid()
        ),
    ),
    "hardtanh": (CHW, layer(nn.Hardtanh(-0.5, 0.25))),
    "hardtanh default": (CHW, direct(F.hardtanh)),
    "clamp": (CHW, of(lambda x: torch.clamp(x, -0.5, 0.5) + x.clamp(min=0.1) + x.clamp(max=0.2))),
    "leaky_relu": (CHW, of(lambda x: F.leaky_relu(x) + F.leaky_relu(x, 0.3))),
    "elu": (CHW, of(lambda x: F.elu(x) + F.elu(x, alpha=0.3))),
    "softmax": (CHW, of(lambda x: F.softmax(x, dim=1) + torch.softmax(x, -1) + x.softmax(2))),
    "log_softmax": (
        CHW,
        of(lambda x: F.log_softmax(x, dim=1) + torch.log_softmax(x, -1) + x.log_softmax(2)),
    ),
    "dropout": (CHW, layer(nn.Dropout(0.3), nn.Dropout2d(0.4), nn.ReLU())),
    # reductions
    "mean": (CHW, of(lambda x: torch.mean(x, (2, 3)) + x.mean(-1).mean(2))),
    "mean keepdim": (
        CHW,
        of(lambda x: x.mean(dim=[-1], keepdim=True) + torch.mean(x, 1, keepdim=True)),
    ),
    "sum": (CHW, of(lambda x: torch.sum(x, (2, 3)) + x.sum(-1).sum(-1))),
    "sum keepdim": (
        CHW,
        of(lambda x: x.sum(dim=(1, 2, 3), keepdim=True) + torch.sum(x, 1, keepdim=True)),
    ),
    # moving values
    "flatten": (CHW, of(lambda x: x.flatten(1) + torch.flatten(x, 1))),
    "flatten inner": (
        CHW,
        of(lambda x: x.flatten(1, 2) + torch.flatten(x, start_dim=-3, end_dim=-2)),
    ),
    "nn.Flatten": (CHW, layer(nn.Flatten())),
    "reshape": (CHW, of(lambda x: x.reshape(x.shape[0], 2, -1) + torch.reshape(x, (-1, 2, 126)))),
    "view": (CHW, of(lambda x: x.view(x.size(0), -1) * x.view(-1, 252))),
    "view sizes": (CHW, of(lambda x: x.view((-1, 4, 63)))),
    "permute": (CHW, of(lambda x: x.permute(0, 3, 1, 2) + torch.permute(x, (0, -1, 1, 2)))),
    "transpose": (CHW, of(lambda x: x.transpose(1, -1) + torch.transpose(x, -1, 1))),
    "cat": (CHW, of(lambda x: torch.cat([x, x.relu(), -x], 1))),
    "cat last": (CHW, of(lambda x: torch.concat((x, x * 2.0), dim=-1))),
    "slice": (CHW, of(lambda x: x[:, 1:3, ::2, -4:] + x[:, :2, 0:9:2, :4])),
    "slice nothing": (CHW, of(lambda x: x[:] + x[:, :])),
    "chunk": (CHW, of(lambda x: torch.cat(x.chunk(3, dim=2)[::-1], 2))),
    "torch.chunk uneven": (CHW, of(lambda x: torch.cat(torch.chunk(x, 4, 2)[::-1], 2))),
    "split": (CHW, of(lambda x: torch.cat(x.split(4, dim=2)[::-1], 2))),
    "split uneven": (CHW, of(lambda x: torch.split(x, 5, 2)[0])),
    "split uneven rest": (CHW, of(lambda x: torch.split(x, 7, 2)[1])),
    "split sections": (CHW, of(lambda x: torch.cat(torch.split(x, [2, 4, 3], 2)[::-1], 2))),
    "pad": (CHW, of(lambda x: F.pad(x, (1, 2, 0, 3)))),
    "pad value channels": (CHW, of(lambda x: F.pad(x, (0, 0, 1, 0, 2, 1), value=0.7))),
    "contiguous": (CHW, of(lambda x: x.transpose(1, 2).contiguous() + 0.0)),
}


def record(model, shape, mode="running"):
    weights = weight_file(model)
    return Recorder(model, weights, shape, BatchNormMode.parse(mode)).record(), weights


def images(shape, n=3, dtype=np.float32):
    return np.random.default_rng(len(shape)).standard_normal((n, *shape)).astype(dtype)


@pytest.mark.parametrize("name", CASES)
def test_torch_module_and_onnx_runtime_compute_the_same(name, randomise_norms, run_onnx):
    shape, model = CASES[name]
    model = randomise_norms(model).eval()
    graph, weights = record(model, shape)
    x = torch.from_numpy(images(shape))
    with torch.no_grad():
        expected = model(x.clone())
        extracted = to_module(graph, weights)(x.clone())
    assert graph.output.shape == (-1, *expected.shape[1:])
    np.testing.assert_allclose(extracted, expected, rtol=0, atol=1e-6)
    onnx_model = emit_subnet(graph, weights)
    (exported,) = run_onnx(onnx_model, weights, x.numpy())
    assert exported.shape == expected.shape
    np.testing.assert_allclose(exported, expected, rtol=ATOL, atol=ATOL)


def test_the_table_covers_every_operator_and_every_function(monkeypatch):
    recorded, called = set(), set()
    for function, record_it in list(FUNCTIONS.items()):

        def counted(*args, _function=function, _record=record_it, **kwargs):
            called.add(_function)
            return _record(*args, **kwargs)

        monkeypatch.setitem(FUNCTIONS, function, counted)
    for shape, model in CASES.values():
        for mode in ("running", "batch"):
            recorded |= {node.op for node in record(model.eval(), shape, mode)[0].nodes}
    # Those of text are covered by the recurrent space's tests.
    assert recorded - {"input"} == set(OPERATORS) - {"embedding", "last", "outputs", "scan"}
    assert called == set(FUNCTIONS) - {recurrence, F.embedding}
