import pytest
import torch
from darts_reference import Weights, norm, relu_conv_norm, separable
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from wsx.errors import OptionError, UnknownNameError
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.emit import emit_subnet
from wsx.exporters.extract import extract
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES
from wsx.supernets import build_supernet

SPACE = SPACES["cell64"]
# Every operation on every edge.
COVERING = [SPACE.parse(text) for text in ("123", "234", "341", "412")]
TINY = {"channels": 3, "cells": 2, "n_classes": 5, "image_size": 9}
VARIANTS = [
    {"reading": "text"},
    {"reading": "code", "in_channels": 1},
    {"reading": "code", "is_affine": True, "cells": 1},
]
FLOAT64_TOLERANCE = 1e-12
FLOAT32_TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def make(randomise_norms):
    def build(**options):
        return randomise_norms(build_supernet("cell64", TINY | options, seed=0)).double().eval()

    return build


def images(supernet, n=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(9)
    return torch.randn(n, *supernet.options.input_shape, dtype=dtype, generator=generator)


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def operation(x, weights, name, digit):
    name = f"{name}.{int(digit) - 1}"
    if digit == "1":
        return norm(F.max_pool2d(x, 3, 1, 1), weights, f"{name}.1")
    if digit == "4":
        return separable(x, weights, name, 1, 2)
    return separable(separable(x, weights, f"{name}.first", 1, 1), weights, f"{name}.second", 1, 1)


def reference(supernet, x, text):
    """The paper's network written out, and the weights that it reads."""
    weights = Weights(supernet.state_dict())
    for place in (0, 2):
        x = F.conv2d(x, weights[f"stem.{place}.weight"], padding=1)
        x = norm(x, weights, f"stem.{place + 1}")
    for position in range(supernet.options.cells):
        name = f"cells.{position}"
        source = relu_conv_norm(x, weights, f"{name}.preprocessing")
        first = operation(source, weights, f"{name}.edges.0", text[0])
        second = operation(source, weights, f"{name}.edges.1", text[1])
        second = second + operation(first, weights, f"{name}.edges.2", text[2])
        is_text = supernet.options.reading == "text"
        x = first + second if is_text else torch.cat([first, second], 1)
    return x.mean((2, 3)) @ weights["classifier.weight"].T + weights["classifier.bias"], weights


@pytest.mark.parametrize("options", VARIANTS)
@torch.no_grad()
def test_supernet_reference_and_extracted_subnet_are_one_function_of_one_cost(make, options):
    supernet = make(**options)
    x, macro = images(supernet), supernet.macro()
    for arch in COVERING:
        expected, weights = reference(supernet, x, SPACE.format(arch))
        assert relative(supernet(x, arch), expected) < FLOAT64_TOLERANCE
        subnet = extract(supernet, arch)
        assert relative(subnet(x), expected) < FLOAT64_TOLERANCE
        cost = SPACE.cost(arch, macro)
        assert weights.n_params() == sum(p.numel() for p in subnet.parameters()) == cost.params
        with FlopCounterMode(display=False) as counter:
            supernet(x[:1], arch)
        assert counter.get_total_flops() // 2 + supernet.options.n_classes == cost.flops


def test_the_readings_differ_in_kernel_and_concatenation(make):
    shapes = {
        reading: {name: tuple(t.shape) for name, t in make(reading=reading).state_dict().items()}
        for reading in ("text", "code")
    }
    kernel, preprocessing = "cells.1.edges.2.3.depthwise.weight", "cells.1.preprocessing.1.weight"
    assert (shapes["text"][kernel], shapes["code"][kernel]) == ((3, 1, 3, 3), (3, 1, 5, 5))
    assert (shapes["text"][preprocessing], shapes["code"][preprocessing]) == (
        (3, 3, 1, 1),
        (3, 6, 1, 1),
    )


def test_the_usual_macro_is_the_papers():
    supernet = build_supernet("cell64", {}, seed=0)
    reference_macro = SPACE.reference_macro
    assert {name: supernet.macro()[name] for name in reference_macro} == dict(reference_macro)
    assert supernet.stem[2].weight.shape == (48, 48, 3, 3)
    norms = [m for m in supernet.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {layer.momentum for layer in norms} == {0.4}
    assert [layer.affine for layer in norms] == [True] * 2 + [False] * (len(norms) - 2)
    assert {layer.momentum for layer in make_norms(bn_momentum=0.1)} == {0.1}


def make_norms(**options):
    supernet = build_supernet("cell64", TINY | options, seed=0)
    return [m for m in supernet.modules() if isinstance(m, torch.nn.BatchNorm2d)]


@pytest.mark.parametrize("options", VARIANTS[:2])
def test_onnx_runtime_equals_the_supernet(make, run_onnx, options):
    supernet = make(**options).float()
    x = images(supernet, dtype=torch.float32)
    recorder = SubnetRecorder(supernet, BatchNormMode("running"))
    for arch in COVERING:
        model = emit_subnet(recorder.record(arch), recorder.weights)
        (exported,) = run_onnx(model, recorder.weights, x.numpy())
        with torch.no_grad():
            expected = supernet(x, arch)
        assert relative(torch.from_numpy(exported), expected) < FLOAT32_TOLERANCE


def test_a_step_changes_just_what_the_arch_uses(make):
    supernet = make(is_affine=True).train()
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    for text in ("123", "341"):
        before = {name: value.clone() for name, value in supernet.state_dict().items()}
        optimizer.zero_grad(set_to_none=True)
        supernet(images(supernet, 4), SPACE.parse(text)).square().sum().backward()
        optimizer.step()
    used = reference(supernet, images(supernet), "341")[1].used
    for name, value in supernet.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(value, before[name]) == (name not in used), name


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reading": "paper"}, UnknownNameError, "no reading named 'paper'"),
        ({"bn_momentum": 0.0}, OptionError, r"bn_momentum is 0.0; it must lie in \(0, 1\]"),
        ({"bn_momentum": float("nan")}, OptionError, "bn_momentum is nan"),
        ({"bn_momentum": True}, OptionError, "must be of type float"),
        ({"channels": 0}, OptionError, "channels is 0"),
    ],
)
def test_options_out_of_range_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        build_supernet("cell64", options, seed=0)
