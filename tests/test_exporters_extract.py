import copy
import warnings

import numpy as np
import torch
from recorded_nets import SHAPE, Net, recorded
from torch import nn
from torch.nn import functional as F

from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.emit import emit_subnet
from wsx.exporters.extract import extract, to_module
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES

SPACE = SPACES["nasbench201"]


def module_of(forward, **layers):
    graph, weights = recorded(forward, **layers)
    return to_module(graph, weights)


def test_names_that_meet_in_a_module_stay_apart(run_onnx):
    # Dots become underscores, and some names are taken by nn.Module itself or by values of the ONNX graph.
    layers = {
        "a": Net(None, b_c=nn.Parameter(torch.tensor(2.0))),
        "a_b": Net(None, c=nn.Parameter(torch.tensor(3.0))),
        "code": nn.Conv2d(4, 4, 1),
        "v0": nn.Parameter(torch.tensor(5.0)),
        "v1": nn.Parameter(torch.tensor(7.0)),
        "logits": nn.Parameter(torch.tensor(11.0)),
        "images": nn.Parameter(torch.tensor(13.0)),
    }

    def forward(m, x):
        x = m.code(x * m.a.b_c + m.a_b.c)
        return (x * m.v0 + m.v1) * m.logits + m.images

    model = Net(forward, **layers).eval()
    graph, weights = recorded(forward, **layers)
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(to_module(graph, weights)(x), expected, rtol=1e-6, atol=1e-5)
    (exported,) = run_onnx(emit_subnet(graph, weights), weights, x.numpy())
    np.testing.assert_allclose(exported, expected, rtol=1e-5, atol=1e-4)


def test_a_weight_used_in_two_ways_becomes_two_layers():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    module = module_of(lambda m, x: m.c(x) + F.conv2d(x, m.c.weight, padding=1), c=conv)
    kinds = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    assert sorted(layer.bias is None for layer in kinds) == [False, True]
    once = module_of(lambda m, x: m.c(m.c(x)), c=conv)
    assert sum(isinstance(layer, nn.Conv2d) for layer in once.modules()) == 1


def test_an_extracted_subnet_can_be_copied_saved_trained_and_initialised_afresh(
    tiny_supernet, tmp_path
):
    arch = SPACE.arch_at(6111)
    subnet = extract(tiny_supernet, arch)
    assert not subnet.training
    x = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    before = subnet(x)
    torch.testing.assert_close(copy.deepcopy(subnet)(x), before, rtol=0, atol=0)
    torch.save(subnet.state_dict(), tmp_path / "subnet.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        subnet.train()(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in subnet.parameters())
    for layer in subnet.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    assert not torch.allclose(subnet.eval()(x), before)
    subnet.load_state_dict(torch.load(tmp_path / "subnet.pt"))
    torch.testing.assert_close(subnet(x), before, rtol=0, atol=0)


def test_an_extracted_subnet_owns_just_what_the_arch_uses(tiny_supernet):
    for arch in SPACE.sample(5, rng=np.random.default_rng(1), measure="reachable"):
        subnet = extract(tiny_supernet, arch)
        graph = SubnetRecorder(tiny_supernet, BatchNormMode("running")).record(arch)
        sizes = {n: p.numel() for n, p in tiny_supernet.named_parameters()}
        used = sum(sizes[name] for name in graph.weight_names() if name in sizes)
        assert sum(p.numel() for p in subnet.parameters()) == used
        assert used < sum(sizes.values())
