from functools import partial

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

from wsx.exporters.extract import extract
from wsx.spaces import Cost
from wsx.spaces.nasbenchmacro import BLOCKS, NASBENCHMACRO
from wsx.supernets import build_supernet

ARCHS = [*covering_archs(NASBENCHMACRO), (0,) * 8]
SMALL = {"channels": 3, "n_classes": 5, "image_size": 13}
TINY = {"channels": 2, "n_classes": 10, "image_size": 8, "in_channels": 1}


@pytest.fixture(scope="module")
def supernet(randomise_norms):
    return randomise_norms(build_supernet("nasbenchmacro", SMALL, seed=1)).eval()


def test_extracted_subnets_equal_the_supernet(supernet):
    double = build_supernet("nasbenchmacro", SMALL, seed=1).double().eval()
    double.load_state_dict(supernet.state_dict())
    subnets = extracted(double, ARCHS)
    assert max(map(partial(extraction_error, double), ARCHS, subnets)) <= 1e-12
    assert extraction_error(double, ARCHS[0], extract(double, ARCHS[0])) <= 1e-12
    assert extraction_error(double, ARCHS[0], subnets[1]) > 1e-2


@pytest.mark.parametrize("mode", ["running", "batch"])
def test_onnx_runtime_equals_the_supernet(supernet, run_onnx, mode):
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    assert max(onnx_error(supernet, arch, run_onnx, mode) for arch in ARCHS) <= 1e-4
    supernet.load_state_dict(before)


def test_cost_equals_hooks_and_the_extracted_module(supernet):
    for arch, subnet in zip(ARCHS, extracted(supernet, ARCHS), strict=True):
        params, multiply_adds = hooked_cost(supernet, images(supernet, n=1), arch)
        assert NASBENCHMACRO.cost(arch, supernet.macro()) == Cost(params, sum(multiply_adds))
        assert sum(p.numel() for p in subnet.parameters()) == params
    bare = build_supernet("nasbenchmacro", SMALL | {"is_affine": False}, seed=0).eval()
    cost = NASBENCHMACRO.cost(ARCHS[1], bare.macro())
    assert cost.params == sum(p.numel() for p in extract(bare, ARCHS[1]).parameters())


def test_blocks_of_a_layer_and_layers_of_a_stage_share_nothing(supernet):
    x = images(supernet)
    with torch.no_grad():
        one, other = (
            supernet(x, arch) for arch in ((0, 0, 0, 1, 0, 0, 0, 0), (0, 0, 0, 0, 1, 0, 0, 0))
        )
    assert (one - other).abs().max() > 1e-2


def owner(name):
    """(layer, option) that a tensor's name belongs to, None outside the layers."""
    _, part, *rest = name.split(".")
    if part != "layers":
        return None
    return int(rest[0]), 0 if rest[1] == "identity" else int(rest[2])


def test_a_step_changes_its_blocks_and_nothing_else(randomise_norms):
    tiny = randomise_norms(build_supernet("nasbenchmacro", TINY, seed=0))
    archs = [*ARCHS, ARCHS[0]]
    states = states_of_training(tiny, archs)
    for before, after, arch in zip(states[:-1], states[1:], archs, strict=True):
        # An identity has weights only where it changes the shape.
        inside = {
            (i, option) for i, option in enumerate(arch) if option in BLOCKS or i in (0, 2, 5)
        }
        assert {owner(name) for name in changed_names(before, after)} == inside | {None}


def test_the_check_sees_an_optimiser_that_decays_everything(randomise_norms):
    tiny = randomise_norms(build_supernet("nasbenchmacro", TINY, seed=0))
    before, after = states_of_training(tiny, [(0,) * 8], decays_all=True)
    assert (7, 2) in {owner(name) for name in changed_names(before, after)}
