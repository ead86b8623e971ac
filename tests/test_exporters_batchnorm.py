import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from wsx.errors import ExportError, OptionError
from wsx.evaluators.blocks import cpu_block_size
from wsx.exporters.batchnorm import (
    BatchNormMode,
    calibrated_nodes,
    split_statistics,
)
from wsx.exporters.emission import Target
from wsx.exporters.emit import emit_calibration, emit_subnet
from wsx.exporters.extract import to_module
from wsx.exporters.recorder import Recorder, weight_file
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES

SPACE = SPACES["nasbench201"]
SHAPE = (3, 7, 5)
CALIBRATED = BatchNormMode("calibrated", 1, 16)
EPSILON = 1e-5


class Twin(nn.Module):
    """Two norms of equal width on different values, then one on two axes."""

    def __init__(self, *, is_affine=True, tracks_statistics=True):
        super().__init__()
        norm = {"affine": is_affine, "track_running_stats": tracks_statistics}
        generator = torch.Generator().manual_seed(1)
        self.a, self.b = nn.BatchNorm2d(3, **norm), nn.BatchNorm2d(3, **norm)
        self.c = nn.BatchNorm1d(3, **norm)
        self.scale = nn.Parameter(torch.rand(3, 1, 1, generator=generator) + 0.5)

    def forward(self, x):
        return self.c((self.a(x) + self.b(x * self.scale * 3.0 + 2.0).relu()).mean((2, 3)))


def record(model, mode, shape=SHAPE):
    weights = weight_file(model)
    mode = BatchNormMode.parse(mode) if isinstance(mode, str) else mode
    return Recorder(model, weights, shape, mode).record(), weights


def images(seed=0, n=16, shape=SHAPE):
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)


def by_hand(x, layer, statistics=None):
    """Normalise (image, channel, ...) with given statistics, or its own; float64."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    mean, variance = (x.mean(tuple(axes)), x.var(tuple(axes))) if statistics is None else statistics
    wide = (1, -1, *[1] * (x.ndim - 2))
    weight = np.ones(3) if layer.weight is None else layer.weight.detach().double().numpy()
    bias = np.zeros(3) if layer.bias is None else layer.bias.detach().double().numpy()
    y = (x - mean.reshape(wide)) / np.sqrt(variance.reshape(wide) + EPSILON)
    return y * weight.reshape(wide) + bias.reshape(wide), (mean, variance)


def twin_by_hand(model, x, statistics=(None, None, None)):
    """Output and statistics of the three norms, written without torch."""
    x = x.astype(np.float64)
    scale = model.scale.detach().double().numpy()
    a, of_a = by_hand(x, model.a, statistics[0])
    b, of_b = by_hand(x * scale * 3.0 + 2.0, model.b, statistics[1])
    c, of_c = by_hand((a + np.maximum(b, 0)).mean((2, 3)), model.c, statistics[2])
    return c, (of_a, of_b, of_c)


# The text of a mode ----------------------------------------------------------------------------------------


@given(st.integers(1, 999_999), st.integers(1, 999_999))
def test_modes_and_texts_are_inverse(n_steps, batch_size):
    text = f"calibrated:{n_steps}x{batch_size}"
    mode = BatchNormMode.parse(text)
    assert (mode.n_steps, mode.batch_size, mode.n_images) == (
        n_steps,
        batch_size,
        n_steps * batch_size,
    )
    assert str(mode) == text
    for plain in ("batch", "running"):
        assert BatchNormMode.parse(plain) == BatchNormMode(plain)
        assert str(BatchNormMode(plain)) == plain


@given(st.text() | st.from_regex(r"calibrated:[\dx-]*"))
def test_other_texts_are_refused_or_come_back_as_they_were(text):
    problem = "calibrated:STEPSxBATCH (such as calibrated:4x256)"
    try:
        assert str(BatchNormMode.parse(text)) == text
    except OptionError as error:
        problem = str(error)
    assert "calibrated:STEPSxBATCH (such as calibrated:4x256)" in problem


@pytest.mark.parametrize(
    "text",
    ["", "Batch", "calibrated", "calibrated:0x4", "calibrated:4x0", "calibrated:-1x4", "calibrated:04x4",
     "calibrated:4x256 ", "calibrated:1٣x4", "calibrated:9999999x1", "batch:4x4"],
)  # fmt: skip
def test_malformed_modes_are_refused(text):
    with pytest.raises(OptionError, match="is none of: batch, running"):
        BatchNormMode.parse(text)


# Rewrites --------------------------------------------------------------------------------------------------


def test_nodes_that_differ_in_running_averages_alone_become_one():
    class Same(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.BatchNorm2d(3, affine=False) for _ in range(2))

        def forward(self, x):
            return self.a(x) + self.b(x)

    def norms(mode):
        return [
            node
            for node in record(Same().eval(), mode)[0].nodes
            if node.op.startswith("batch_norm")
        ]

    assert len(norms("running")) == 2
    assert len(norms("batch")) == len(norms(CALIBRATED)) == 1
    assert norms("batch")[0].weights == (None, None)


def test_modes_have_function_keys_of_their_own(randomise_norms):
    model = randomise_norms(Twin()).eval()
    graphs = [record(model, mode)[0] for mode in ("running", "batch", CALIBRATED)]
    assert len({graph.function_key for graph in graphs}) == 3
    assert [len(calibrated_nodes(graph)) for graph in graphs] == [0, 0, 3]


def test_running_needs_tracked_statistics():
    model = Twin(tracks_statistics=False).eval()
    with pytest.raises(ExportError, match=r"tracks_statistics=False; use batch or calibrated"):
        record(model, "running")
    record(model, "batch")


def test_a_calibrated_graph_needs_statistics_to_be_emitted(randomise_norms):
    graph, weights = record(randomise_norms(Twin()).eval(), CALIBRATED)
    with pytest.raises(ExportError, match="has no statistics; calibrate the graph"):
        emit_subnet(graph, weights)


def test_a_subnet_without_norms_cannot_be_calibrated():
    graph, weights = record(nn.Conv2d(3, 2, 1).eval(), CALIBRATED)
    with pytest.raises(ExportError, match="no BatchNorm layers to calibrate"):
        emit_calibration(graph, weights)


# Against a computation by hand -----------------------------------------------------------------------------

variants = pytest.mark.parametrize("is_affine", [True, False])
TARGETS = {
    "reductions": Target(has_fused_norm=False),
    "fused": Target(),
    "blocked": Target(block_size=cpu_block_size()),
}
forms = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


def twin(randomise_norms, is_affine, tracks_statistics=True):
    model = Twin(is_affine=is_affine, tracks_statistics=tracks_statistics)
    return randomise_norms(model).eval()


@variants
@forms
@pytest.mark.parametrize("tracks_statistics", [True, False])
def test_batch_mode_computes_with_the_batchs_statistics(
    randomise_norms, run_onnx, is_affine, target, tracks_statistics
):
    model = twin(randomise_norms, is_affine, tracks_statistics)
    graph, weights = record(model, "batch")
    x = images()
    expected, _ = twin_by_hand(model, x)
    emitted = emit_subnet(graph, weights, target=target)
    fused = [n for n in emitted.graph.node if any(a.name == "training_mode" for a in n.attribute)]
    assert len(fused) == 3 * target.has_fused_norm
    (exported,) = run_onnx(emitted, weights, x)
    np.testing.assert_allclose(exported, expected, rtol=0, atol=2e-5)
    with torch.no_grad():
        module = to_module(graph, weights)(torch.from_numpy(x))
    np.testing.assert_allclose(module, expected, rtol=0, atol=2e-5)


@variants
def test_running_mode_computes_with_the_tracked_averages(randomise_norms, run_onnx, is_affine):
    model = twin(randomise_norms, is_affine)
    graph, weights = record(model, "running")
    tracked = [
        (layer.running_mean.double().numpy(), layer.running_var.double().numpy())
        for layer in (model.a, model.b, model.c)
    ]
    expected, _ = twin_by_hand(model, images(), tracked)
    (exported,) = run_onnx(emit_subnet(graph, weights), weights, images())
    np.testing.assert_allclose(exported, expected, rtol=0, atol=2e-5)


@variants
@forms
def test_calibration_measures_and_the_calibrated_subnet_uses_the_statistics(
    randomise_norms, run_onnx, is_affine, target
):
    model = twin(randomise_norms, is_affine)
    graph, weights = record(model, CALIBRATED)
    calibration, x = images(1), images(2, n=3)
    _, expected = twin_by_hand(model, calibration)
    means, variances = run_onnx(
        emit_calibration(graph, weights, target=target), weights, calibration
    )
    # Biased variance: with 16 values in a row the unbiased one would be 7 % larger.
    statistics = split_statistics(graph, means, variances)
    nodes = calibrated_nodes(graph)
    by_weights = {node.weights: statistics[node.digest] for node in nodes}
    if is_affine:
        measured = [by_weights[f"{name}.weight", f"{name}.bias"] for name in "abc"]
    else:
        measured = [statistics[node.digest] for node in nodes]
    for (mean, variance), (true_mean, true_variance) in zip(measured, expected, strict=True):
        np.testing.assert_allclose(mean, true_mean, rtol=0, atol=1e-5)
        np.testing.assert_allclose(variance, true_variance, rtol=1e-5, atol=1e-6)
    logits, _ = twin_by_hand(model, x, expected)
    (exported,) = run_onnx(emit_subnet(graph, weights, statistics=statistics), weights, x)
    np.testing.assert_allclose(exported, logits, rtol=0, atol=5e-5)
    with torch.no_grad():
        module = to_module(graph, weights, statistics)(torch.from_numpy(x))
    np.testing.assert_allclose(module, logits, rtol=0, atol=5e-5)


def test_two_norms_of_equal_width_do_not_overwrite_each_others_statistics(run_onnx):
    # ONNX Runtime merges equal initializers and writes a training norm's outgoing statistics over the incoming
    # ones, so that layers of equal width once all had the statistics of the last.
    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(4))

        def forward(self, x):
            for n, norm in enumerate(self.norms):
                x = norm(x) * (n + 2.0) + n
            return x

    graph, weights = record(Chain().eval(), CALIBRATED)
    model = emit_calibration(graph, weights)
    means, variances = (row.reshape(4, 3) for row in run_onnx(model, weights, images()))
    # Each norm hands on mean 0 and variance 1, so that the next sees mean n and variance (n + 2) squared.
    np.testing.assert_allclose(means[1:], np.arange(3)[:, None] + np.zeros(3), rtol=0, atol=1e-4)
    np.testing.assert_allclose(
        variances[1:], (np.arange(3)[:, None] + 2.0) ** 2 + np.zeros(3), rtol=1e-3
    )
    x = images().astype(np.float64)
    np.testing.assert_allclose(means[0], x.mean((0, 2, 3)), rtol=0, atol=1e-5)
    incoming = [
        name
        for node in model.graph.node
        for name in node.input[3:]
        if node.op_type == "BatchNormalization"
    ]
    assert len(set(incoming)) == len(incoming) == 8


def hooked_statistics(supernet, arch, x):
    """Mean and biased variance at each norm that an arch uses, by the name of its weight; float64."""
    found = {}

    def note(name):
        def hook(layer, inputs):
            value = inputs[0].double().detach().numpy()
            found[name] = value.mean((0, 2, 3)), value.var((0, 2, 3))

        return hook

    norms = {n: m for n, m in supernet.named_modules() if isinstance(m, nn.BatchNorm2d)}
    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in norms.items()]
    momenta = [layer.momentum for layer in norms.values()]
    for layer in norms.values():
        layer.train()
        layer.momentum = 0.0
    with torch.no_grad():
        logits = supernet(torch.from_numpy(x), arch)
    for hook, layer, momentum in zip(hooks, norms.values(), momenta, strict=True):
        hook.remove()
        layer.eval()
        layer.momentum = momentum
    return found, logits.numpy()


@forms
def test_a_supernets_calibration_agrees_with_hooks(make_supernet, run_onnx, target):
    supernet = make_supernet(image_size=8)
    recorder = SubnetRecorder(supernet, CALIBRATED)
    x = images(3, n=24, shape=(3, 8, 8))
    for index in (6111, 857, 12_000):
        arch = SPACE.arch_at(index)
        graph = recorder.record(arch)
        model = emit_calibration(graph, recorder.weights, target=target)
        means, variances = run_onnx(model, recorder.weights, x)
        expected, _ = hooked_statistics(supernet, arch, x)
        for node in calibrated_nodes(graph):
            mean, variance = split_statistics(graph, means, variances)[node.digest]
            true_mean, true_variance = expected[str(node.weights[0]).removesuffix(".weight")]
            np.testing.assert_allclose(mean, true_mean, rtol=0, atol=1e-4)
            np.testing.assert_allclose(variance, true_variance, rtol=1e-3, atol=1e-5)


def test_batch_statistics_survive_a_mean_far_from_zero(run_onnx):
    # The variance of squares minus the square of means would lose every digit here.
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x):
            return self.norm(x + 3000.0)

    graph, weights = record(One().eval(), "batch")
    expected = F.batch_norm(torch.from_numpy(images()).double(), None, None, training=True)
    (exported,) = run_onnx(
        emit_subnet(graph, weights, target=TARGETS["reductions"]), weights, images()
    )
    np.testing.assert_allclose(exported, expected, rtol=0, atol=2e-3)
