import numpy as np
import pytest
import torch

from wsx.exporters import extract as extract_module
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.emit import emit_subnet
from wsx.exporters.extract import extract, to_module
from wsx.exporters.recorder import Recorder, weight_file
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES

SPACE = SPACES["nasbench201"]
UNREACHABLE = (0, 3, 3, 0, 3, 0)
# Through twenty layers and more: logits of order one to ten.
FLOAT64_ATOL = 1e-10
FLOAT32_TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}

VARIANTS = [
    {},
    {"channels": 3, "cells": 2, "image_size": 11, "n_classes": 2, "in_channels": 1},
    {"is_affine": False},
    {"tracks_statistics": False, "image_size": 8},
    {"is_affine": False, "tracks_statistics": False, "channels": 5, "n_classes": 3},
]


def some_archs(n, seed=0):
    """Random archs that between them have every operation on every edge."""
    archs = SPACE.sample(n, rng=np.random.default_rng(seed), measure="encodings")
    covering = [tuple((edge + shift) % 5 for edge in range(6)) for shift in range(5)]
    return [*covering, *archs, UNREACHABLE, SPACE.arch_at(6111)]


def images(supernet, n=4, dtype=torch.float32):
    options = supernet.options
    shape = (n, options.in_channels, options.image_size, options.image_size)
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(9))


def differences(supernet, archs, extractor=extract):
    """Largest difference between the supernet and each extracted subnet, in float64."""
    x = images(supernet, dtype=torch.float64)
    with torch.no_grad():
        return [
            (supernet(x, arch) - extractor(supernet, arch)(x)).abs().max().item() for arch in archs
        ]


@pytest.mark.parametrize("options", VARIANTS)
def test_extracted_subnets_equal_the_supernet_in_float64(make_supernet, options):
    supernet = make_supernet(**options).double()
    assert max(differences(supernet, some_archs(3))) < FLOAT64_ATOL


@pytest.mark.parametrize("options", [{}, {"is_affine": False}])
def test_extracted_subnets_equal_the_supernet_in_training_mode(make_supernet, options):
    supernet = make_supernet(**options).double().train()
    x = images(supernet, n=6, dtype=torch.float64)
    for arch in some_archs(2):
        subnet = extract(supernet, arch).train()
        before = {name: value.clone() for name, value in subnet.state_dict().items()}
        expected, found = supernet(x, arch), subnet(x)
        torch.testing.assert_close(found, expected, rtol=0, atol=FLOAT64_ATOL)
        # The averages move alike: those of the supernet, by the names that the subnet gives them.
        moved = {n: v for n, v in subnet.state_dict().items() if not torch.equal(v, before[n])}
        own = {n.replace(".", "_"): v for n, v in supernet.state_dict().items()}
        assert any("running_mean" in name for name in moved)
        for name, value in moved.items():
            if "running" in name:
                torch.testing.assert_close(value, own[name.replace(".", "_")], rtol=0, atol=1e-12)


def test_gradients_of_an_extracted_subnet_are_those_of_the_supernet(make_supernet):
    supernet = make_supernet().double()
    x = images(supernet, dtype=torch.float64)
    arch = SPACE.arch_at(6111)
    subnet = extract(supernet, arch)
    supernet(x, arch).square().sum().backward()
    subnet(x).square().sum().backward()
    grads = {n.replace(".", "_"): p.grad for n, p in supernet.named_parameters()}
    for name, parameter in subnet.named_parameters():
        expected = grads.pop(name.replace(".", "_"))
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-9, atol=1e-9)
    assert all(grad is None for grad in grads.values())


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        (mode, options)
        for options in VARIANTS
        for mode in ("running", "batch")
        if mode == "batch" or options.get("tracks_statistics", True)
    ],
)
def test_onnx_runtime_equals_the_supernet(make_supernet, run_onnx, options, mode):
    supernet = make_supernet(**options)
    recorder = SubnetRecorder(supernet, BatchNormMode.parse(mode))
    x = images(supernet, n=6)
    for arch in some_archs(2):
        model = emit_subnet(recorder.record(arch), recorder.weights)
        (exported,) = run_onnx(model, recorder.weights, x.numpy())
        if mode == "batch":
            supernet.train()
        with torch.no_grad():
            expected = supernet(x, arch)
        # Training mode moved the averages of the torch module alone; batch mode reads none.
        supernet.eval()
        np.testing.assert_allclose(exported, expected, **FLOAT32_TOLERANCE)


def test_an_unreachable_arch_gives_every_image_the_same_logits(tiny_supernet, run_onnx):
    recorder = SubnetRecorder(tiny_supernet, BatchNormMode("running"))
    graph = recorder.record(UNREACHABLE)
    (exported,) = run_onnx(
        emit_subnet(graph, recorder.weights), recorder.weights, images(tiny_supernet).numpy()
    )
    assert np.ptp(exported, axis=0).max() < 1e-6
    others = {recorder.record(arch).function_key for arch in ((0,) * 6, (4, 3, 0, 0, 0, 0))}
    assert others == {graph.function_key}


# The comparison can fail -----------------------------------------------------------------------------------


def forgets_norm_statistics(supernet, arch):
    subnet = extract(supernet, arch)
    for layer in subnet.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.reset_running_stats()
    return subnet


def swaps_two_kernels(supernet, arch):
    weights = weight_file(supernet)
    options = supernet.options
    graph = Recorder(supernet, weights, (options.in_channels,) + (options.image_size,) * 2).record(
        arch
    )
    edges = [n.weights[0] for n in graph.nodes if n.op == "conv" and ".edges." in n.weights[0]]
    one, other = [name for name in edges if weights[name].shape == (16, 16, 3, 3)][:2]
    places = weights._places
    places[one], places[other] = places[other], places[one]
    return to_module(graph, weights)


def forgets_the_shift(supernet, arch):
    subnet = extract(supernet, arch)
    for layer in subnet.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.zeros_(layer.bias)
    return subnet


@pytest.mark.parametrize("broken", [forgets_norm_statistics, swaps_two_kernels, forgets_the_shift])
def test_a_broken_extraction_is_seen(make_supernet, broken):
    supernet = make_supernet().double()
    found = differences(supernet, [SPACE.arch_at(6111), (3, 3, 3, 3, 3, 3)], broken)
    assert min(found) > 1e-3


def test_a_broken_layer_rule_is_seen(make_supernet, monkeypatch):
    supernet = make_supernet().double()
    right = extract_module.LAYERS["conv"]

    def shifted(node, weights, statistics):
        layer = right(node, weights, statistics)
        with torch.no_grad():
            layer.weight.copy_(layer.weight.roll(1, 0))
        return layer

    monkeypatch.setitem(extract_module.LAYERS, "conv", shifted)
    assert min(differences(supernet, [SPACE.arch_at(6111)])) > 1e-3
