import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wsx.data import load_data
from wsx.errors import OptionError, UnknownNameError
from wsx.evaluators.calibration import Calibrator, calibration_images
from wsx.evaluators.devices import CPU, SessionFactory
from wsx.evaluators.eager import EagerOracle
from wsx.evaluators.verify import EqualityGate
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.emit import emit_subnet
from wsx.exporters.extract import extract
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES
from wsx.supernets import build_supernet
from wsx.supernets.nasbench101 import NasBench101Options, NasBench101Supernet

SPACE = SPACES["nasbench101"]
TINY = {"channels": 7, "stacks": 2, "cells_per_stack": 1, "n_classes": 5, "image_size": 7}
FLOAT64_TOLERANCE = 1e-12
ONNX_TOLERANCE = 1e-4

CHAIN = "100000" + "10000" + "1000" + "100" + "10" + "1"
ARCHS = [
    SPACE.parse(text)
    for text in (
        "1-",  # input and output alone
        "111-3",  # with the projected input added
        "110111-1m",  # two share seven channels: four and three
        "1111001011-m31",  # three share them
        "111110001001011-13m1",  # four share them, and the input is added
        f"{CHAIN}-31m31",
        f"{CHAIN}-1m31m",
        f"{CHAIN}-m31m3",
        "110011000101000100101-13m33",
        # Every vertex reads the input; 1, 2 and 3 dangle in the second.
        "111110" + "00001" + "0001" + "001" + "01" + "0" + "-313m1",
        "111110" + "00000" + "0000" + "000" + "11" + "1" + "-3131m",
    )
]

VARIANTS = [
    # Random slices are the first channels in evaluation, see test_supernets_nasbench101_slices.py.
    *({"slicing": slicing} for slicing in ("fixed", "interpolate", "chunks")),
    {"is_affine": False, "channels": 4, "stacks": 3, "cells_per_stack": 2, "image_size": 5},
    {"tracks_statistics": False, "stacks": 1, "in_channels": 1, "n_classes": 2, "bn_momentum": 0.3},
]


@pytest.fixture
def make(randomise_norms):
    def make(space="nasbench101", seed=0, **options):
        return randomise_norms(build_supernet(space, TINY | options, seed=seed)).eval()

    return make


def images(supernet, n=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(9)
    return supernet.example_inputs(n, generator)[0].to(dtype)


# An independent reading of the benchmark ----------------------------------------------------------------------


def live_edges(arch, n=7):
    """Edges on a path from input to output, by listing all paths."""
    edges = [p for p, bit in zip(itertools.combinations(range(n), 2), arch, strict=False) if bit]

    def paths(start):
        if start == n - 1:
            return [[start]]
        return [[start, *rest] for i, j in edges if i == start for rest in paths(j)]

    return {edge for path in paths(0) for edge in itertools.pairwise(path)}


def slow_widths(arch, channels, n=7):
    edges = live_edges(arch, n)
    feeding = [v for v in range(1, n - 1) if (v, n - 1) in edges]
    widths = {v: channels // len(feeding) for v in feeding}
    for v in feeding[: channels - sum(widths.values())]:
        widths[v] += 1
    for v in range(n - 2, 0, -1):
        targets = [j for i, j in edges if i == v]
        if targets and v not in feeding:
            widths[v] = max(widths[j] for j in targets)
    return widths


class SlowForward:
    """The benchmark's network from the weights of a supernet that shares the first channels, or chunks."""

    def __init__(self, supernet):
        self.state = supernet.state_dict()
        self.options = supernet.options

    def layer(self, prefix, x, width, kernel):
        chunk = f"{prefix}.{width}" if f"{prefix}.{width}.0.weight" in self.state else prefix
        is_plain = f"{chunk}.0.weight" in self.state
        conv, norm = ("0", "1") if is_plain else ("conv", "norm")
        weight = self.state[f"{chunk}.{conv}.weight"][:width, : x.shape[1]]
        y = F.conv2d(x, weight, padding=(kernel - 1) // 2)
        of = {
            name: self.state[f"{chunk}.{norm}.{name}"][:width, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        }
        y = (y - of["running_mean"]) / torch.sqrt(of["running_var"] + 1e-5)
        return torch.relu(y * of["weight"] + of["bias"])

    def cell(self, prefix, x, arch, channels):
        edges, widths = live_edges(arch), slow_widths(arch, channels)
        values = {}
        for v in sorted(widths):
            own, total = f"{prefix}.vertices.{v - 1}", 0
            for source in sorted(i for i, j in edges if j == v):
                if source:
                    total = total + values[source][:, : widths[v]]
                else:
                    total = total + self.layer(f"{own}.projection", x, widths[v], 1)
            name = ("conv3x3-bn-relu", "conv1x1-bn-relu", "")[arch[20 + v]]
            kernel = 3 - 2 * arch[20 + v]
            values[v] = (
                self.layer(f"{own}.ops.{name}", total, widths[v], kernel)
                if name
                else F.max_pool2d(total, 3, 1, 1)
            )
        feeding = [values[v] for v in sorted(widths) if (v, 6) in edges]
        y = torch.cat(feeding, 1) if feeding else 0
        return y + self.layer(f"{prefix}.residual", x, channels, 1) if (0, 6) in edges else y

    def __call__(self, x, arch):
        options = self.options
        x = self.layer("stem", x, options.channels, 3)
        for stack in range(options.stacks):
            if stack:
                x = F.max_pool2d(x, 2, 2, ceil_mode=True)
            for cell in range(options.cells_per_stack):
                x = self.cell(f"stacks.{stack}.{cell}", x, arch, options.channels * 2**stack)
        return F.linear(
            x.mean((2, 3)), self.state["classifier.weight"], self.state["classifier.bias"]
        )


@pytest.mark.parametrize("slicing", ["fixed", "chunks"])
def test_the_supernet_computes_the_benchmarks_network(make, slicing):
    supernet = make(slicing=slicing, cells_per_stack=2).double()
    x = images(supernet, dtype=torch.float64)
    outputs = []
    for arch in ARCHS:
        with torch.no_grad():
            expected, found = SlowForward(supernet)(x, arch), supernet(x, arch)
        assert (found - expected).abs().max() <= 1e-11 * expected.abs().max()
        outputs.append(found)
    assert all((a - b).abs().max() > 1e-4 for a, b in itertools.combinations(outputs, 2))


# Three paths -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_extracted_subnets_equal_the_supernet_and_cost_what_the_space_says(make, options):
    supernet = make(**options).double()
    x = images(supernet, dtype=torch.float64)
    for arch in ARCHS:
        subnet = extract(supernet, arch)
        flops = []

        def count(layer, inputs, output, flops=flops):
            per_output = layer.weight[0].numel() + (layer.bias is not None)
            flops.append(output[0].numel() * per_output)

        hooks = [
            layer.register_forward_hook(count)
            for layer in subnet.modules()
            if isinstance(layer, (nn.Conv2d, nn.Linear))
        ]
        with torch.no_grad():
            found, expected = subnet(x), supernet(x, arch)
        assert (found - expected).abs().max() <= FLOAT64_TOLERANCE * expected.abs().max()
        cost = SPACE.cost(arch, supernet.macro())
        assert cost.params == sum(p.numel() for p in subnet.parameters())
        assert (cost.flops, len(hooks)) == (sum(flops), len(flops))


@pytest.mark.parametrize("mode", ["running", "batch"])
@pytest.mark.parametrize("options", VARIANTS[:4], ids=str)
def test_onnx_runtime_equals_the_supernet(make, run_onnx, options, mode):
    supernet = make(**options)
    recorder = SubnetRecorder(supernet, BatchNormMode.parse(mode))
    x = images(supernet, n=6)
    for arch in (*ARCHS[3:6], ARCHS[-1]):
        model = emit_subnet(recorder.record(arch), recorder.weights)
        (exported,) = run_onnx(model, recorder.weights, x.numpy())
        supernet.train(mode == "batch")
        with torch.no_grad():
            expected = supernet(x, arch).numpy()
        supernet.eval()
        assert np.abs(exported - expected).max() <= ONNX_TOLERANCE * np.abs(expected).max()


def test_calibrated_scores_of_subnets_of_many_widths_agree_in_any_order(make):
    data = load_data("digits", n_train=32, n_valid=8, n_test=8)
    supernet = make(in_channels=1, image_size=8, n_classes=10, tracks_statistics=False)
    mode = BatchNormMode.parse("calibrated:2x16")
    shown = calibration_images(data.train, mode)
    recorder = SubnetRecorder(supernet, mode)
    factory = SessionFactory(recorder.weights, CPU)
    calibrate = Calibrator(factory, recorder.weights, shown, mode)
    gate = EqualityGate(EagerOracle(supernet, mode, shown), recorder, factory, data.test, calibrate)
    for arch in (ARCHS[4], ARCHS[5], ARCHS[4]):
        graph = recorder.record(arch)
        model = emit_subnet(graph, recorder.weights, statistics=calibrate(graph))
        agreement = gate.check(arch, model.SerializeToString())
        assert agreement.is_equal
        assert agreement.scale > 0


def test_weights_that_are_taken_whole_are_not_stored_twice(make):
    supernet = make()
    recorder = SubnetRecorder(supernet, BatchNormMode("running"))
    before = recorder.weights.n_bytes
    recorder.record(ARCHS[5])
    assert recorder.weights.n_bytes == before
    recorder.record(ARCHS[4])
    after = recorder.weights.n_bytes
    assert after > before
    recorder.record(ARCHS[4])
    assert recorder.weights.n_bytes == after


# What spaces need --------------------------------------------------------------------------------------------


def test_a_space_without_varying_widths_has_no_waste_and_slices_nothing(make):
    space = SPACES["nasbench101-1shot1c"]
    supernet = make("nasbench101-1shot1c", channels=8, image_size=4)
    widths, in_channels, expected = (8, 16), 8, 3 * 9 * 8 + 16
    for width in widths:
        half = width // 2
        expected += 5 * (in_channels * half + 10 * half * half + 3 * 2 * half)
        in_channels = width
    assert sum(p.numel() for p in supernet.parameters()) == expected + 16 * 5 + 5
    x = images(supernet)
    supernet.train()
    for arch in space.sample(60, rng=np.random.default_rng(0), measure="archs"):
        supernet(x, arch).sum().backward()
    assert [name for name, p in supernet.named_parameters() if p.grad is None] == []
    assert not any(hasattr(p, "_wsx_reached") for p in supernet.parameters())


@pytest.mark.parametrize(
    ("name", "rows", "has_residual"),
    [("", 7, True), ("-a3", 3, True), ("-v3", 7, True), ("-no-residual", 7, False)],
)
def test_weights_are_as_wide_as_the_space_needs(make, name, rows, has_residual):
    supernet = make(f"nasbench101{name}")
    shapes = {n: tuple(p.shape) for n, p in supernet.named_parameters() if p.dim() == 4}
    (conv,) = (s for n, s in shapes.items() if "0.0.vertices.0.ops.conv3x3" in n)
    assert conv == (rows, rows, 3, 3)
    assert any("residual" in n for n in shapes) == has_residual
    n_vertices = len({n.split(".")[4] for n in shapes if ".vertices." in n})
    assert n_vertices == supernet.space.n_vertices - 2
    space = supernet.space
    for arch in space.sample(3, rng=np.random.default_rng(0), measure="encodings"):
        assert supernet(images(supernet), arch).shape == (3, 5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"channels": 3}, OptionError, "up to 4 vertices of nasbench101 share them"),
        ({"slicing": "chunk"}, UnknownNameError, "Did you mean chunks"),
        ({"bn_momentum": 0.0}, OptionError, r"bn_momentum is 0\.0; it must lie in \(0, 1\]"),
        ({"bn_momentum": float("nan")}, OptionError, "bn_momentum is nan"),
        ({"stacks": 0}, OptionError, "stacks is 0; it must be at least 1"),
        ({"cells": 3}, UnknownNameError, "no supernet option named 'cells'"),
    ],
)
def test_impossible_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        build_supernet("nasbench101", TINY | options, seed=0)


def test_other_spaces_are_refused():
    with pytest.raises(OptionError, match="holds no weights for space nasbench201"):
        NasBench101Supernet(SPACES["nasbench201"], NasBench101Options(**TINY))
