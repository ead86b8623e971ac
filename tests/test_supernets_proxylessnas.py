from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from mobile_checks import (
    changed_names,
    covering_archs,
    extracted,
    extraction_error,
    hooked_cost,
    images,
    onnx_error,
    states_of_training,
)

from wsx.errors import OptionError
from wsx.exporters.extract import extract
from wsx.spaces import Cost
from wsx.spaces.proxylessnas import PROXYLESSNAS, ZERO
from wsx.supernets import build_supernet
from wsx.supernets.proxylessnas import ProxylessNasOptions, ProxylessNasSupernet

ARCHS = covering_archs(PROXYLESSNAS)
# An odd size at every stride: 40, 20, 10, 5, 3, 2.
SMALL = {"width_percent": 35, "n_classes": 5, "image_size": 40}
TINY = {"width_percent": 10, "n_classes": 10, "image_size": 8, "in_channels": 1}


@pytest.fixture(scope="module")
def supernet(randomise_norms):
    return randomise_norms(build_supernet("proxylessnas", SMALL, seed=1)).eval()


def test_every_option_is_covered():
    for place, n in enumerate(PROXYLESSNAS.n_options):
        assert {arch[place] for arch in ARCHS} == set(range(n))


@pytest.mark.slow
def test_extracted_subnets_equal_the_supernet(supernet):
    double = build_supernet("proxylessnas", SMALL, seed=1).double().eval()
    double.load_state_dict(supernet.state_dict())
    subnets = extracted(double, ARCHS)
    assert max(map(partial(extraction_error, double), ARCHS, subnets)) <= 1e-12
    assert extraction_error(double, ARCHS[0], extract(double, ARCHS[0])) <= 1e-12
    assert extraction_error(double, ARCHS[0], subnets[1]) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["running", "batch"])
def test_onnx_runtime_equals_the_supernet(supernet, run_onnx, mode):
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    assert max(onnx_error(supernet, arch, run_onnx, mode) for arch in ARCHS[::3]) <= 1e-4
    supernet.load_state_dict(before)


def test_zero_leaves_the_residual(supernet):
    x = images(supernet)
    arch = ARCHS[0]
    place = arch.index(ZERO)
    with torch.no_grad():
        for layer in supernet.cells[place].modules():
            if isinstance(layer, torch.nn.Conv2d):
                assert layer.weight.abs().max() > 0
        found = supernet(x, arch)
        state = supernet.cells[place].state_dict()
        kept = {name: tensor.clone() for name, tensor in state.items()}
        for tensor in state.values():
            tensor.zero_()
        # Blocks of nothing add nothing to their input, so any option is a Zero now.
        expected = supernet(x, (*arch[:place], 3, *arch[place + 1 :]))
        supernet.cells[place].load_state_dict(kept)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_cost_equals_hooks_and_the_extracted_module(supernet):
    archs = (*ARCHS[::2], tuple(0 if n == 6 else ZERO for n in PROXYLESSNAS.n_options))
    for arch, subnet in zip(archs, extracted(supernet, archs), strict=True):
        params, multiply_adds = hooked_cost(supernet, images(supernet, n=1), arch)
        assert PROXYLESSNAS.cost(arch, supernet.macro()) == Cost(params, sum(multiply_adds))
        assert sum(p.numel() for p in subnet.parameters()) == params


def test_the_published_network_costs_what_the_table_says(shared_data):
    options = ProxylessNasOptions(n_classes=1000, image_size=224)
    with torch.device("meta"):
        published = ProxylessNasSupernet(PROXYLESSNAS, options).eval()
        x = torch.empty(1, 3, 224, 224)
    rows = pq.read_table(shared_data / "proxylessnas" / "ground_truth.parquet").to_pylist()
    for row in rows[::12]:
        arch = PROXYLESSNAS.parse(row["architecture"])
        params, multiply_adds = hooked_cost(published, x, arch)
        assert PROXYLESSNAS.cost(arch, published.macro()) == Cost(params, sum(multiply_adds))
        # As the table was made: layer by layer, in single precision.
        in_float32 = np.float32(0)
        for n in multiply_adds:
            in_float32 = np.float32(in_float32 + np.float32(n))
        assert (params, int(in_float32)) == (row["params"], row["flops"])


def owner(name):
    """(cell, option) that a tensor's name belongs to, None outside the cells."""
    parts = name.split(".")
    return (int(parts[2]), int(parts[3])) if parts[1] == "cells" else None


def test_a_step_changes_its_blocks_and_nothing_else(randomise_norms):
    tiny = randomise_norms(build_supernet("proxylessnas", TINY, seed=0))
    archs = [ARCHS[0], ARCHS[4], ARCHS[0]]
    states = states_of_training(tiny, archs)
    for before, after, arch in zip(states[:-1], states[1:], archs, strict=True):
        inside = {(place, option) for place, option in enumerate(arch) if option != ZERO}
        changed = {owner(name) for name in changed_names(before, after)}
        assert changed == inside | {None}


@pytest.mark.slow
def test_the_check_sees_an_optimiser_that_decays_everything(randomise_norms):
    tiny = randomise_norms(build_supernet("proxylessnas", TINY, seed=0))
    before, after = states_of_training(tiny, [ARCHS[0]], decays_all=True)
    assert (0, 5) in {owner(name) for name in changed_names(before, after)}


def test_norms_are_those_of_p1(supernet):
    norms = [m for m in supernet.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.1)}
    assert len(norms) == 1 + 2 + 21 * 6 * 3 + 1
    bare = build_supernet(
        "proxylessnas", TINY | {"is_affine": False, "tracks_statistics": False}, seed=0
    )
    names = set(bare.state_dict())
    assert not any("running" in name for name in names)
    cost = PROXYLESSNAS.cost(ARCHS[0], bare.macro())
    assert cost.params == sum(p.numel() for p in extract(bare.eval(), ARCHS[0]).parameters())


def test_wrong_widths_are_refused():
    for width in (0, -5, 1.35, "135"):
        with pytest.raises(OptionError, match="width_percent"):
            build_supernet("proxylessnas", {"width_percent": width}, seed=0)
