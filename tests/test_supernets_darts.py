from functools import partial

import numpy as np
import pytest
import torch
from darts_reference import Weights, network, norm
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from wsx.errors import OptionError, UnknownNameError
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.emit import emit_subnet
from wsx.exporters.extract import extract, to_module
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES
from wsx.supernets import build_supernet
from wsx.supernets.blocks import set_drop_path
from wsx.supernets.blocks_darts import FactorizedReduce
from wsx.supernets.darts import SHARES, DartsOptions, Operations

FLOAT64_TOLERANCE = 1e-12
FLOAT32_TOLERANCE = 1e-4
TINY = {"channels": 2, "cells": 4, "n_classes": 3, "image_size": 8}
SLOT = {"shares": "slot"}
EDGE = {"shares": "edge", "channels": 3, "cells": 3, "image_size": 9, "in_channels": 1}


@pytest.fixture(scope="module")
def make(randomise_norms):
    def build(space="darts", **options):
        supernet = randomise_norms(build_supernet(space, TINY | options, seed=0))
        with torch.no_grad():
            for weight in supernet.parameters():
                # Fresh kernels let the signal fade away beside the norms' shifts.
                weight.mul_(3.0 if weight.dim() == 4 else 1.0)
        return supernet.double().eval()

    return build


def uses(space, arch):
    return {
        (operation, slot, source < 2, kind)
        for kind, cell in enumerate(space.cells(arch))
        for node in cell
        for slot, (operation, source) in enumerate(node)
    }


def covering(space):
    """Archs that between them apply every operation to cell inputs and to nodes, in both slots and cells."""
    pool = space.sample(200, rng=np.random.default_rng(1), measure="encodings")
    archs, missing = [], set().union(*(uses(space, arch) for arch in pool))
    assert len(missing) == len(space.operations) * 2 * 2 * 2
    while missing:
        archs.append(max(pool, key=lambda arch: len(missing & uses(space, arch))))
        missing -= uses(space, archs[-1])
    return archs


def images(supernet, n=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(9)
    return torch.randn(n, *supernet.options.input_shape, dtype=dtype, generator=generator)


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def reference(supernet, x, arch):
    weights = Weights(supernet.state_dict())
    options = supernet.options
    text = supernet.space.format(arch)
    return network(x, text, weights, cells=options.cells, shares=options.shares)[0], weights


# One function ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "options"),
    [
        ("darts", {"shares": "slot", "cells": 5}),
        ("darts", {"shares": "slot", "cells": 1, "image_size": 5, "is_affine": False}),
        ("darts", EDGE),
        ("darts-nds", {"shares": "slot", "cells": 3}),
        ("darts-nds", EDGE),
    ],
)
@torch.no_grad()
def test_supernet_reference_and_extracted_subnet_are_one_function_of_one_cost(make, space, options):
    supernet = make(space, **options)
    x, macro = images(supernet), supernet.macro()
    recorder, n_exact = SubnetRecorder(supernet, BatchNormMode("running")), 0
    for arch in covering(supernet.space):
        expected, weights = reference(supernet, x, arch)
        assert relative(supernet(x, arch), expected) < FLOAT64_TOLERANCE
        cost = supernet.space.cost(arch, macro)
        assert weights.n_params() == cost.params
        # As ``extract`` does, which prepares the weights anew each time.
        subnet = to_module(recorder.record(arch), recorder.weights)
        n_params = sum(parameter.numel() for parameter in subnet.parameters())
        flops = []
        for layer in subnet.modules():
            layer.register_forward_hook(partial(count_multiply_adds, flops))
        assert relative(subnet(x[:1]), expected[:1]) < FLOAT64_TOLERANCE
        n_exact += supernet.space.is_cost_exact(arch)
        if supernet.space.is_cost_exact(arch):
            assert (n_params, sum(flops)) == (cost.params, cost.flops)
        else:
            assert n_params < cost.params
    assert n_exact >= 3
    assert relative(extract(supernet, arch)(x), expected) < FLOAT64_TOLERANCE
    # Also where cells compute what nothing reads.
    with FlopCounterMode(display=False) as counter:
        supernet(x[:1], arch)
    assert counter.get_total_flops() // 2 + supernet.options.n_classes == cost.flops


def count_multiply_adds(flops, layer, inputs, output):
    if isinstance(layer, nn.Conv2d):
        flops.append(output.numel() * layer.weight[0].numel())
    elif isinstance(layer, nn.Linear):
        flops.append(layer.weight.numel() + layer.bias.numel())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "options"),
    [("darts", SLOT), ("darts", EDGE), ("darts-nds", EDGE)],
)
def test_onnx_runtime_equals_the_supernet(make, run_onnx, space, options):
    supernet = make(space, **options).float()
    x = images(supernet, dtype=torch.float32)
    recorder = SubnetRecorder(supernet, BatchNormMode("running"))
    for arch in covering(supernet.space):
        model = emit_subnet(recorder.record(arch), recorder.weights)
        (exported,) = run_onnx(model, recorder.weights, x.numpy())
        with torch.no_grad():
            expected = supernet(x, arch)
        assert relative(torch.from_numpy(exported), expected) < FLOAT32_TOLERANCE


@pytest.mark.slow
@torch.no_grad()
def test_every_weight_and_statistic_shows_in_the_logits(make):
    supernet = make()
    x, arch = images(supernet), covering(supernet.space)[3]
    expected, weights = reference(supernet, x, arch)
    state = supernet.state_dict()
    for name in sorted(weights.used)[::9]:
        before = state[name].clone()
        state[name].mul_(1.1)
        assert relative(supernet(x, arch), expected) > 1e-8, name
        state[name].copy_(before)
    assert torch.equal(supernet(x, arch), make()(x, arch))


@pytest.mark.slow
@pytest.mark.parametrize("space", ["darts", "darts-nds"])
@torch.no_grad()
def test_order_of_pairs_matters_to_slots_and_not_to_edges(make, space):
    by_slot, by_edge = make(space, shares="slot"), make(space, shares="edge")
    x, described, gaps = images(by_slot), SPACES[space], []
    for arch in covering(described):
        other = described.parse(described.truth_text(arch))
        assert relative(by_edge(x, other), by_edge(x, arch)) < FLOAT64_TOLERANCE
        gaps.append(relative(by_slot(x, other), by_slot(x, arch)))
    # Those of which only operations without weights change slots stay the same.
    assert np.median(gaps) > 1e-6


@pytest.mark.slow
@torch.no_grad()
def test_two_equal_pairs_of_a_node_have_weights_of_their_own(make):
    described = SPACES["darts-nds"]
    arch = described.parse(
        "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('dil_conv_5x5', 0), "
        "('dil_conv_5x5', 0), ('skip_connect', 1), ('skip_connect', 1), ('none', 2), ('none', 2)], "
        "normal_concat=range(2, 6), reduce=[('skip_connect', 0), ('skip_connect', 0), "
        "('sep_conv_5x5', 1), ('sep_conv_5x5', 1), ('dil_conv_3x3', 3), ('dil_conv_3x3', 3), "
        "('max_pool_3x3', 0), ('max_pool_3x3', 0)], reduce_concat=range(2, 6))"
    )
    for shares in ("slot", "edge"):
        supernet = make("darts-nds", shares=shares, cells=3)
        expected, weights = reference(supernet, images(supernet), arch)
        assert relative(supernet(images(supernet), arch), expected) < FLOAT64_TOLERANCE
        cost = described.cost(arch, supernet.macro())
        assert described.is_cost_exact(arch)
        assert weights.n_params() == cost.params
        assert sum(p.numel() for p in extract(supernet, arch).parameters()) == cost.params


@pytest.mark.slow
def test_nds_archs_are_reachable_where_the_output_depends_on_the_input(make):
    supernet = make("darts-nds", cells=12, shares="slot")
    with torch.no_grad():
        for name, tensor in supernet.state_dict().items():
            # Nothing is ever negative, so that no ReLU stops a signal.
            tensor.mul_(0 if name.endswith("running_mean") else tensor.sign())
    rng, found = np.random.default_rng(2), []
    for _ in range(40):
        arch = np.array(supernet.space.draw(rng=rng, measure="encodings"))
        # Mostly none, so that many nodes give zeros.
        arch[(np.arange(24) % 3 < 2) & (rng.random(24) < 0.85)] = 0
        arch = tuple(arch.tolist())
        x = images(supernet, 2).abs().requires_grad_()
        (gradient,) = torch.autograd.grad(supernet(x, arch).square().sum(), x)
        found.append(bool(gradient.any()))
        assert found[-1] == supernet.space.is_reachable(arch), supernet.space.format(arch)
    assert 5 < sum(found) < 35


# Training --------------------------------------------------------------------------------------------------


def step(supernet, optimizer, arch):
    optimizer.zero_grad(set_to_none=True)
    output = supernet(images(supernet, 4), arch)
    logits, *auxiliary = output if isinstance(output, tuple) else (output,)
    sum(head.square().sum() for head in [logits, *auxiliary]).backward()
    optimizer.step()


@pytest.mark.parametrize("shares", SHARES)
def test_a_step_changes_just_what_the_arch_uses(make, shares):
    supernet = make(shares=shares).train()
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    one, *_, other = covering(supernet.space)
    step(supernet, optimizer, one)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    step(supernet, optimizer, other)
    used = reference(supernet, images(supernet), other)[1].used
    for name, value in supernet.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(value, before[name]) == (name not in used), name


def auxiliary_reference(x, weights):
    """The head on the output of a cell, written out for 8 pixels a side."""
    x = F.avg_pool2d(x.clamp(min=0), 5, 3)
    for place in (2, 5):
        x = F.conv2d(x, weights[f"auxiliary.features.{place}.weight"])
        x = norm(x, weights, f"auxiliary.features.{place + 1}").clamp(min=0)
    return (
        x[:, :, 0, 0] @ weights["auxiliary.classifier.weight"].T
        + weights["auxiliary.classifier.bias"]
    )


def test_the_auxiliary_head_reads_the_second_reduction_and_trains_alone(make):
    supernet = make(has_auxiliary=True, image_size=32)
    arch, x = covering(supernet.space)[0], images(supernet)
    assert isinstance(supernet(x, arch), torch.Tensor)
    weights = Weights(supernet.state_dict())
    text = supernet.space.format(arch)
    logits, outputs = network(x, text, weights, cells=4, shares="slot")
    # Training mode with averages instead of statistics of the batch, to compare with the reference.
    supernet.training = True
    found, auxiliary = supernet(x, arch)
    assert relative(found, logits) < FLOAT64_TOLERANCE
    assert relative(auxiliary, auxiliary_reference(outputs[2], weights)) < FLOAT64_TOLERANCE
    auxiliary.sum().backward()
    reached = {name for name, p in supernet.named_parameters() if p.grad is not None}
    assert any(name.startswith("cells.2.") for name in reached)
    assert not any(name.startswith(("cells.3.", "classifier")) for name in reached)
    cost = supernet.space.cost(arch, supernet.macro())
    assert sum(p.numel() for p in extract(supernet, arch).parameters()) == cost.params


def test_drop_path_drops_operations_but_not_identities():
    layer = Operations(4, DartsOptions(), is_strided=True).train()
    x = torch.ones(200, 4, 6, 6)
    set_drop_path(layer, 0.5)
    torch.default_generator.manual_seed(0)
    assert layer(x, "skip_connect", 1) is x
    assert not layer(x, "none", 1).any()
    for operation in (*layer.candidates, "max_pool_3x3", "avg_pool_3x3"):
        dropped = (layer(x, operation, 2) == 0).flatten(1).all(1)
        assert 60 < int(dropped.sum()) < 140, operation
    layer.eval()
    assert torch.equal(layer(x, "max_pool_3x3", 1), x)


# Options and blocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 5, 8])
def test_factorized_reduce_sees_every_second_pixel_of_either_parity(size):
    layer = FactorizedReduce(1, 2, is_affine=True, tracks_statistics=True).eval()
    with torch.no_grad():
        layer.conv.weight.fill_(1.0)
        layer.conv_shifted.weight.fill_(1.0)
    x = torch.arange(1.0, size * size + 1).reshape(1, 1, size, size)
    even, odd = layer(x)[0] * (1 + 1e-5) ** 0.5
    padded = F.pad(x, (0, 1, 0, 1))[0, 0]
    half = (size + 1) // 2
    torch.testing.assert_close(even, x[0, 0, ::2, ::2], rtol=1e-6, atol=0)
    torch.testing.assert_close(odd, padded[1::2, 1::2][:half, :half], rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shares": "edges"}, UnknownNameError, "no shares named 'edges'. Did you mean edge"),
        ({"shares": 1}, OptionError, "must be of type str"),
        ({"cells": 0}, OptionError, "cells is 0"),
        ({"has_auxiliary": True, "image_size": 28}, OptionError, "image_size 28 there are 7"),
    ],
)
def test_options_out_of_range_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        build_supernet("darts", options, seed=0)
