"""Batch statistics in ONNX Runtime's own layout, beside PyTorch in float64 and beside plain ONNX."""

from collections import Counter

import numpy as np
import pytest
import torch
from merging_cases import EACH_SPACE, case, middling_size
from test_exporters_batchnorm import CALIBRATED, hooked_statistics, record
from torch import nn
from torch.nn import functional as F

from wsx.evaluators.blocks import cpu_block_size
from wsx.exporters import blocked_nodes
from wsx.exporters.batchnorm import BatchNormMode, calibrated_nodes, split_statistics
from wsx.exporters.emission import BLOCKED, Target
from wsx.exporters.emit import emit_calibration, emit_subnet
from wsx.exporters.subnets import SubnetRecorder

BLOCK = cpu_block_size()
TARGET = Target(block_size=BLOCK)
WIDE = 64
SIZE = 9

pytestmark = pytest.mark.skipif(not BLOCK, reason="ONNX Runtime has no blocked layout here")


def images(seed=0, n=12, channels=3, size=SIZE):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, channels, size, size)).astype(np.float32)


def blocked_kinds(model):
    return [node.op_type for node in model.graph.node if node.domain == BLOCKED]


class Case(nn.Module):
    """A first convolution, then some layers in the hands of a function."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.first = nn.Conv2d(3, WIDE, 3, padding=1, bias=False)
        self.layers = nn.ModuleDict(layers)
        self._forward = forward

    def forward(self, x):
        return self._forward(self.layers, self.first(x)).mean((2, 3))


def conv(n_in=WIDE, n_out=WIDE, kernel=3, **options):
    return nn.Conv2d(n_in, n_out, kernel, **{"padding": kernel // 2, "bias": False} | options)


def norm(n=WIDE, **options):
    return nn.BatchNorm2d(n, **options)


def squeeze(m, x):
    y = m["n"](m["c"](x))
    return y * y.mean((2, 3), keepdim=True).sigmoid()


FORMS = {
    "conv, norm, relu": Case(lambda m, x: m["n"](m["c"](x)).relu(), c=conv(), n=norm()),
    "first conv": Case(lambda m, x: m["n"](x), n=norm()),
    "bias": Case(lambda m, x: m["n"](m["c"](x)), c=conv(bias=True), n=norm()),
    "no affine": Case(lambda m, x: m["n"](m["c"](x)), c=conv(kernel=1), n=norm(affine=False)),
    "stride": Case(lambda m, x: m["n"](m["c"](x)), c=conv(stride=2), n=norm()),
    "dilation": Case(lambda m, x: m["n"](m["c"](x)), c=conv(dilation=2, padding=(2, 1)), n=norm()),
    "depthwise": Case(lambda m, x: m["n"](m["c"](x)), c=conv(groups=WIDE, kernel=5), n=norm()),
    "depthwise, bias": Case(
        lambda m, x: m["n"](m["c"](x)), c=conv(groups=WIDE, bias=True), n=norm()
    ),
    "grouped": Case(lambda m, x: m["n"](m["c"](x)).relu(), c=conv(groups=4), n=norm()),
    "wider": Case(lambda m, x: m["n"](m["c"](x)), c=conv(n_out=2 * WIDE), n=norm(2 * WIDE)),
    "narrow and back": Case(
        lambda m, x: m["o"](m["b"](m["n"](m["c"](x)))),
        c=conv(n_out=5),
        n=norm(5),
        b=conv(5),
        o=norm(),
    ),
    "norm of relu": Case(lambda m, x: m["n"](x.relu()), n=norm()),
    "norm of norm": Case(lambda m, x: m["o"](m["n"](x)), n=norm(), o=norm()),
    "two readers of a conv": Case(lambda m, x: m["n"](x) + x, n=norm()),
    "two norms of a conv": Case(lambda m, x: m["n"](x) + m["o"](x), n=norm(), o=norm()),
    "two readers of a norm": Case(lambda m, x: m["n"](x).relu() + m["n"](x), n=norm()),
    "three addends": Case(
        lambda m, x: (m["n"](x) + m["o"](m["c"](x)) + m["p"](m["c"](x.relu()))).relu(),
        c=conv(),
        n=norm(),
        o=norm(),
        p=norm(),
    ),
    "sum with itself": Case(lambda m, x: m["n"](x) + m["n"](x), n=norm()),
    "sum read twice": Case(
        lambda m, x: (lambda y: m["o"](y) + y.relu())(m["n"](x) + x), n=norm(), o=norm()
    ),
    "relu6": Case(lambda m, x: F.relu6(m["n"](x) * 3.0), n=norm()),
    "scalars": Case(
        lambda m, x: m["o"]((3.0 - m["n"](x) / 2.0) * (m["n"](x) + 1.5)), n=norm(), o=norm()
    ),
    "difference and product": Case(lambda m, x: (m["n"](x) - x) * m["o"](x), n=norm(), o=norm()),
    "average pool": Case(
        lambda m, x: m["n"](F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)) + m["o"](x),
        n=norm(),
        o=norm(),
    ),
    "average pool with padding": Case(
        lambda m, x: F.avg_pool2d(m["n"](x), 3, 2, 1, count_include_pad=True), n=norm()
    ),
    "max pool": Case(lambda m, x: F.max_pool2d(m["n"](x), 2, 2, ceil_mode=True), n=norm()),
    "concatenation": Case(
        lambda m, x: m["o"](torch.cat([m["n"](x), x, F.relu(x)], 1)), n=norm(), o=norm(3 * WIDE)
    ),
    "concatenation of rows": Case(lambda m, x: torch.cat([m["n"](x), x], 2), n=norm()),
    "squeeze and excite": Case(squeeze, c=conv(), n=norm()),
    "crop": Case(lambda m, x: m["n"](m["c"](x[:, :, 1:, 1:])), c=conv(), n=norm()),
    "single pixels": Case(
        lambda m, x: m["o"](m["c"](m["n"](x).mean((2, 3), keepdim=True))),
        c=conv(kernel=1),
        n=norm(),
        o=norm(),
    ),
}


def in_double(model, x):
    """PyTorch's answer in training mode, and mean and biased variance of what each norm reads; float64."""
    read = {}

    def note(name):
        def hook(layer, inputs):
            value = inputs[0].detach().numpy()
            read[name] = value.mean((0, 2, 3)), value.var((0, 2, 3))

        return hook

    norms = {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in norms.items()]
    model.double().train()
    with torch.no_grad():
        y = model(torch.from_numpy(x).double()).numpy()
    model.float().eval()
    for hook in hooks:
        hook.remove()
    return y, read


@pytest.mark.parametrize("form", FORMS)
def test_batch_statistics_in_blocks_are_those_of_pytorch(form, randomise_norms, run_onnx):
    model = randomise_norms(FORMS[form]).eval()
    expected, _ = in_double(model, images())
    graph, weights = record(model, "batch", (3, SIZE, SIZE))
    emitted = emit_subnet(graph, weights, target=TARGET)
    assert "Conv" in blocked_kinds(emitted)
    (found,) = run_onnx(emitted, weights, images())
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("form", [name for name in FORMS if name != "no affine"])
def test_calibration_in_blocks_measures_what_the_norms_read(form, randomise_norms, run_onnx):
    model = randomise_norms(FORMS[form]).eval()
    # Images with a mean: what is guessed of it must drop out again.
    x = images() + 2.0
    _, read = in_double(model, x)
    graph, weights = record(model, CALIBRATED, (3, SIZE, SIZE))
    measured = run_onnx(emit_calibration(graph, weights, target=TARGET), weights, x)
    nodes = calibrated_nodes(graph)
    statistics = split_statistics(graph, *measured)
    assert {str(node.weights[0]).removesuffix(".weight") for node in nodes} == set(read)
    for node in nodes:
        mean, variance = statistics[node.digest]
        true_mean, true_variance = read[str(node.weights[0]).removesuffix(".weight")]
        np.testing.assert_allclose(mean, true_mean, rtol=0, atol=2e-5)
        np.testing.assert_allclose(variance, true_variance, rtol=2e-5)


def test_everything_between_the_first_layer_and_the_last_stays_in_blocks():
    graph, weights = record(FORMS["three addends"].eval(), "batch", (3, SIZE, SIZE))
    model = emit_subnet(graph, weights, target=TARGET)
    kinds = blocked_kinds(model)
    assert (kinds.count("ReorderInput"), kinds.count("ReorderOutput")) == (0, 1)
    plain = [node.op_type for node in model.graph.node if node.domain != BLOCKED]
    # Last passes add all there is to add, and apply the last ReLU; the other one's value has a second reader. What
    # is left adds epsilon to variances.
    wide = {"Add", "Relu", "BatchNormalization", "Conv", "GlobalAveragePool"}
    assert Counter(kind for kind in plain if kind in wide) == {
        "Relu": 1,
        "Add": 3,
        "GlobalAveragePool": 1,
    }


def test_a_mean_far_from_zero_keeps_its_variance(run_onnx):
    # Channels whose mean is a thousand deviations: the variance of squares minus the square of means would keep
    # one digit of seven.
    model = Case(lambda m, x: m["n"](m["c"](x)), c=conv(kernel=1), n=norm()).eval()
    with torch.no_grad():
        model.first.weight.abs_()
        model.layers["c"].weight.abs_()
    x = 1000.0 + images(n=32)
    model.first.padding = (0, 0)
    _, read = in_double(model, x)
    graph, weights = record(model, CALIBRATED, (3, SIZE, SIZE))
    _, variances = run_onnx(emit_calibration(graph, weights, target=TARGET), weights, x)
    ((true_mean, true_variance),) = read.values()
    assert (true_mean / np.sqrt(true_variance)).min() > 1000
    # Float32 leaves that much of the values themselves.
    np.testing.assert_allclose(variances, true_variance, rtol=2e-3)


def test_fewer_images_than_are_guessed_from(randomise_norms, run_onnx):
    model = randomise_norms(FORMS["three addends"]).eval()
    assert blocked_nodes.N_GUESSED > 2
    x = images(n=2)
    expected, _ = in_double(model, x)
    graph, weights = record(model, "batch", (3, SIZE, SIZE))
    (found,) = run_onnx(emit_subnet(graph, weights, target=TARGET), weights, x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_a_dead_channel_stays_finite(run_onnx):
    model = Case(lambda m, x: m["n"](m["c"](x)), c=conv(), n=norm()).eval()
    with torch.no_grad():
        model.layers["c"].weight[3] = 0.0
    graph, weights = record(model, "batch", (3, SIZE, SIZE))
    (found,) = run_onnx(emit_subnet(graph, weights, target=TARGET), weights, images())
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, 3], 0.0, rtol=0, atol=1e-6)


def test_a_supernets_calibration_in_blocks_agrees_with_hooks(make_supernet, run_onnx):
    supernet = make_supernet(channels=32, cells=2, image_size=8)
    recorder = SubnetRecorder(supernet, CALIBRATED)
    x = images(3, n=24, size=8)
    for index in (6111, 857, 12_000):
        arch = recorder.space.arch_at(index)
        graph = recorder.record(arch)
        model = emit_calibration(graph, recorder.weights, target=TARGET)
        measured = split_statistics(graph, *run_onnx(model, recorder.weights, x))
        expected, _ = hooked_statistics(supernet, arch, x)
        for node in calibrated_nodes(graph):
            mean, variance = measured[node.digest]
            true_mean, true_variance = expected[str(node.weights[0]).removesuffix(".weight")]
            np.testing.assert_allclose(mean, true_mean, rtol=0, atol=1e-4)
            np.testing.assert_allclose(variance, true_variance, rtol=1e-3, atol=1e-5)


def n_reductions(model):
    return blocked_kinds(model).count("GlobalAveragePool")


# All layers of the 64-arch cell have one size.
@pytest.mark.parametrize("space", [one for one in EACH_SPACE if one.values != ("cell64",)])
def test_small_layers_can_be_left_in_plain_layout(space, run_onnx):
    some = case(space, "calibrated:2x16")
    x = images(4, n=16, size=some.images.floats().shape[-1])
    weights, graph = some.recorder.weights, some.graphs[0]
    target = Target(block_size=BLOCK, min_block_values=middling_size(some.graphs))
    plain, partly, whole = (
        emit_calibration(graph, weights, target=some) for some in (Target(), target, TARGET)
    )
    assert 0 < n_reductions(partly) < n_reductions(whole)
    (means, variances), (true_means, true_variances) = (
        run_onnx(model, weights, x) for model in (partly, plain)
    )
    spread = np.sqrt(true_variances + 1e-5)
    assert np.abs((means - true_means) / spread).max() < 1e-4
    np.testing.assert_allclose(variances, true_variances, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("space", EACH_SPACE)
def test_spaces_calibrate_alike_in_blocks_and_in_plain_onnx(space, run_onnx):
    some = case(space, "calibrated:2x16")
    x = images(4, n=16, size=some.images.floats().shape[-1])
    weights = some.recorder.weights
    for graph in some.graphs[:2]:
        blocked = emit_calibration(graph, weights, target=TARGET)
        # Norms take two each; some are as wide as no block is.
        n_norms = len(calibrated_nodes(graph))
        assert blocked_kinds(blocked).count("GlobalAveragePool") > n_norms // 2
        (means, variances), (true_means, true_variances) = (
            run_onnx(model, weights, x) for model in (blocked, emit_calibration(graph, weights))
        )
        spread = np.sqrt(true_variances + 1e-5)
        np.testing.assert_allclose(means / spread, true_means / spread, rtol=0, atol=1e-4)
        # Few pixels are left behind sixty layers, whose roundings add up.
        np.testing.assert_allclose(variances, true_variances, rtol=5e-4, atol=1e-8)


def test_models_that_are_kept_are_plain_onnx(make_supernet):
    recorder = SubnetRecorder(make_supernet(channels=32), BatchNormMode("batch"))
    model = emit_subnet(recorder.record(recorder.space.arch_at(857)), recorder.weights)
    assert blocked_kinds(model) == []
    assert [opset.domain for opset in model.opset_import] == [""]


def test_what_blocks_need_is_not_exported(make_supernet, tmp_path):
    recorder = SubnetRecorder(make_supernet(channels=32), CALIBRATED)
    graph = recorder.record(recorder.space.arch_at(857))
    n_bytes = recorder.weights.n_bytes
    emit_calibration(graph, recorder.weights, target=TARGET)
    assert recorder.weights.scratch.n_bytes > 0
    assert recorder.weights.n_bytes == n_bytes
    recorder.weights.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.bin"]
    # Twice the same kernels are kept once.
    n_scratch = recorder.weights.scratch.n_bytes
    emit_calibration(graph, recorder.weights, target=TARGET)
    assert recorder.weights.scratch.n_bytes == n_scratch
