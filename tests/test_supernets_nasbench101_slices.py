import pytest
import torch
from test_supernets_nasbench101 import ARCHS, SPACE, TINY, images, live_edges, slow_widths
from torch import nn
from torch.nn import functional as F

from wsx.supernets import build_supernet, seeded
from wsx.supernets.blocks import set_drop_path
from wsx.supernets.channels import SlicedBatchNorm, pick_channels, taken
from wsx.supernets.nasbench101_layers import (
    ConvNormReLU,
    NasBench101Options,
    SlicedConvNormReLU,
)
from wsx.supernets.slicing import untouched_outside_slices

FOUR_SHARE, CHAIN = ARCHS[4], ARCHS[5]
OPS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")


def expected_slice(name, tensor, arch, options):
    """The part of a tensor that a step on an arch may change where the first channels are shared."""
    reached = torch.zeros_like(tensor, dtype=torch.bool)
    parts = name.split(".")
    if parts[0] != "stacks":
        return ~reached
    if parts[3] == "residual":
        return ~reached if (0, 6) in live_edges(arch) else reached
    vertex, channels = int(parts[4]) + 1, options.channels * 2 ** int(parts[1])
    width = slow_widths(arch, channels).get(vertex)
    is_projection = parts[5] == "projection"
    uses = (0, vertex) in live_edges(arch) if is_projection else OPS[arch[20 + vertex]] == parts[6]
    if width is None or not uses:
        return reached
    if options.slicing == "chunks":
        return ~reached if parts[6 if is_projection else 7] == str(width) else reached
    if tensor.dim() == 4 and not is_projection:
        reached[:width, :width] = True
    else:
        reached[:width] = True
    return reached


def train_step(supernet, optimizer, arch, x):
    optimizer.zero_grad(set_to_none=True)
    supernet(x, arch).square().sum().backward()
    with untouched_outside_slices(optimizer, supernet.parameters()):
        optimizer.step()


def trained(supernet):
    return {
        name: tensor.clone()
        for name, tensor in supernet.state_dict().items()
        if "num_batches" not in name
    }


@pytest.mark.parametrize("slicing", ["fixed", "chunks"])
def test_a_step_changes_its_slice_and_nothing_else(randomise_norms, slicing):
    supernet = build_supernet("nasbench101", TINY | {"slicing": slicing}, seed=1)
    randomise_norms(supernet).train()
    optimizer = torch.optim.SGD(
        supernet.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1, nesterov=True
    )
    x = images(supernet, n=4)
    momentum = {}
    for arch in (CHAIN, ARCHS[8], FOUR_SHARE, ARCHS[0], ARCHS[9]):
        before = trained(supernet)
        train_step(supernet, optimizer, arch, x)
        for name, tensor in trained(supernet).items():
            reached = expected_slice(name, tensor, arch, supernet.options)
            changed = tensor != before[name]
            assert not changed[~reached].any(), name
            # All but a stray zero gradient of a running average moves.
            assert not reached.any() or changed[reached].float().mean() > 0.9, name
        for name, parameter in supernet.named_parameters():
            now = optimizer.state[parameter].get("momentum_buffer")
            if now is not None:
                reached = expected_slice(name, parameter, arch, supernet.options)
                old = momentum.get(name, torch.zeros_like(now))
                assert torch.equal(now[~reached], old[~reached]), name
                momentum[name] = now.clone()


def test_the_check_sees_a_step_without_the_guard():
    supernet = build_supernet("nasbench101", TINY, seed=1).train()
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.01, weight_decay=0.1)
    before = trained(supernet)
    supernet(images(supernet), FOUR_SHARE).square().sum().backward()
    optimizer.step()
    name = "stacks.0.0.vertices.0.ops.conv1x1-bn-relu.conv.weight"
    after = trained(supernet)[name]
    reached = expected_slice(name, after, FOUR_SHARE, supernet.options)
    assert (after != before[name])[~reached].any()


# Random slices ---------------------------------------------------------------------------------------------


def changed_channels(slicing, seed):
    """Rows and columns of one kernel that a seeded training step on a narrow arch changes."""
    supernet = build_supernet("nasbench101", TINY | {"slicing": slicing, "channels": 16}, seed=1)
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.01, weight_decay=0.1)
    before = trained(supernet)
    with seeded(seed):
        train_step(supernet.train(), optimizer, FOUR_SHARE, images(supernet))
    own = "stacks.0.0.vertices.0.ops.conv1x1-bn-relu"
    changed = {name: tensor != before[name] for name, tensor in trained(supernet).items()}
    kernel = changed[f"{own}.conv.weight"][:, :, 0, 0]
    rows, columns = kernel.any(1), kernel.any(0)
    assert torch.equal(kernel, rows[:, None] & columns[None])
    for statistic in ("weight", "running_mean", "running_var"):
        assert torch.equal(changed[f"{own}.norm.{statistic}"], rows), statistic
    return [tuple(mask.nonzero().flatten().tolist()) for mask in (rows, columns)]


def is_run(channels):
    return channels == tuple(range(channels[0], channels[0] + len(channels)))


@pytest.mark.parametrize("slicing", ["random", "shuffle"])
def test_random_slices_are_drawn_at_every_training_forward(slicing):
    found = [changed_channels(slicing, seed) for seed in range(6)]
    assert changed_channels(slicing, 3) == found[3]
    assert {len(channels) for picks in found for channels in picks} == {4}
    assert len({rows for rows, _ in found}) > 2
    assert any(rows != columns for rows, columns in found)
    assert all(is_run(rows) for rows, _ in found) == (slicing == "random")


@pytest.mark.parametrize("slicing", ["random", "shuffle"])
def test_evaluation_takes_the_first_channels(randomise_norms, slicing):
    fixed = randomise_norms(build_supernet("nasbench101", TINY, seed=1)).eval()
    other = build_supernet("nasbench101", TINY | {"slicing": slicing}, seed=2).eval()
    other.load_state_dict(fixed.state_dict())
    x = images(fixed)
    with torch.no_grad():
        for arch in ARCHS:
            assert torch.equal(other(x, arch), fixed(x, arch))
        # With all channels in use there is nothing to draw.
        assert torch.equal(other.train()(x, CHAIN), fixed.train()(x, CHAIN))
        assert not torch.equal(other(x, FOUR_SHARE), fixed(x, FOUR_SHARE))


def test_picks_are_uniform():
    with seeded(0):
        starts = [pick_channels("random", 3, 5, is_training=True).start for _ in range(600)]
        subsets = [
            tuple(pick_channels("shuffle", 3, 5, is_training=True).tolist()) for _ in range(2000)
        ]
    assert sorted(set(starts)) == [0, 1, 2]
    # 600 draws of 1/3 have a standard deviation of 12; 2,000 of 1/10 one of 13.
    assert all(abs(starts.count(start) - 200) < 60 for start in range(3))
    assert len(set(subsets)) == 10
    assert all(abs(subsets.count(subset) - 200) < 67 for subset in set(subsets))
    assert all(list(subset) == sorted(subset) for subset in subsets)


@pytest.mark.parametrize("pick", [slice(0, 3), slice(2, 5), torch.tensor([0, 3, 5])], ids=str)
def test_a_slice_of_the_kernel_gives_a_slice_of_what_the_whole_layer_gives(pick):
    """So slicing what layers give, as some code does, is the same function and needs no option."""
    options = NasBench101Options()
    layer = SlicedConvNormReLU(6, 6, 3, options).double().train()
    x = torch.randn(4, 2, 5, 5, dtype=torch.float64)
    inputs = slice(1, 3)
    kernel = layer.conv.weight
    sliced = F.relu(layer.norm(F.conv2d(x, taken(kernel, [pick, inputs]), padding=1), pick))
    padded = torch.zeros(4, 6, 5, 5, dtype=torch.float64)
    padded[:, inputs] = x
    whole = F.relu(layer.norm(F.conv2d(padded, kernel, padding=1), slice(0, 6)))
    torch.testing.assert_close(sliced, whole[:, pick], rtol=0, atol=1e-12)


# Interpolation ---------------------------------------------------------------------------------------------


def slow_average(weight, axis, n):
    """Bins of adaptive average pooling, written out."""
    n_all = weight.shape[axis]
    bins = [range(i * n_all // n, -(-(i + 1) * n_all // n)) for i in range(n)]
    rows = [torch.stack([weight.select(axis, j) for j in part]).mean(0) for part in bins]
    return torch.stack(rows, axis)


def test_interpolation_averages_neighbouring_channels():
    weight = torch.randn(7, 5, 3, 3, dtype=torch.float64)
    expected = slow_average(slow_average(weight, 0, 3), 1, 2)
    torch.testing.assert_close(taken(weight, [3, 2]), expected, rtol=0, atol=1e-15)
    scale = torch.randn(7, dtype=torch.float64)
    torch.testing.assert_close(taken(scale, [3]), slow_average(scale, 0, 3), rtol=0, atol=1e-15)
    assert torch.equal(taken(weight, [7, 5]), weight)


def test_interpolated_layers_are_trained_whole_and_count_every_channel():
    supernet = build_supernet("nasbench101", TINY | {"slicing": "interpolate"}, seed=1).train()
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.01, weight_decay=0.1)
    before = trained(supernet)
    train_step(supernet, optimizer, FOUR_SHARE, images(supernet))
    own = "stacks.0.0.vertices.0.ops.conv1x1-bn-relu"
    after = trained(supernet)
    for name in ("conv.weight", "norm.weight", "norm.bias", "norm.running_var"):
        assert (after[f"{own}.{name}"] != before[f"{own}.{name}"]).all(), name
    assert torch.equal(
        after[f"{own.replace('1x1', '3x3')}.conv.weight"],
        before[f"{own.replace('1x1', '3x3')}.conv.weight"],
    )


# BatchNorm of some channels ----------------------------------------------------------------------------------


def batch_norms(pick, *, momentum, **options):
    """A sliced layer, and an ordinary one of just the picked channels, with equal values."""
    sliced = SlicedBatchNorm(6, momentum=momentum, **options).double()
    with torch.no_grad():
        for tensor in (*sliced.parameters(), sliced.running_mean, sliced.running_var):
            tensor.uniform_(0.5, 2.0)
    plain = nn.BatchNorm2d(3, momentum=momentum, **options).double()
    picked = {
        name: tensor[pick] if tensor.dim() else tensor
        for name, tensor in sliced.state_dict().items()
    }
    plain.load_state_dict(picked)
    return sliced, plain


@pytest.mark.parametrize("pick", [slice(0, 3), slice(2, 5), torch.tensor([0, 3, 5])], ids=str)
@pytest.mark.parametrize("is_affine", [True, False])
def test_batch_norm_of_some_channels_is_a_layer_of_these_alone(pick, is_affine):
    sliced, plain = batch_norms(pick, momentum=0.3, affine=is_affine)
    before = {name: tensor.clone() for name, tensor in sliced.state_dict().items()}
    outside = torch.ones(6, dtype=torch.bool)
    outside[pick] = False
    for _ in range(2):
        x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
        torch.testing.assert_close(sliced(x, pick), plain(x), rtol=0, atol=1e-12)
    for name in ("running_mean", "running_var"):
        found, expected = getattr(sliced, name), getattr(plain, name)
        torch.testing.assert_close(found[pick], expected, rtol=0, atol=1e-12)
        assert torch.equal(found[outside], before[name][outside])
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(sliced.eval()(x, pick), plain.eval()(x), rtol=0, atol=1e-12)


def test_interpolated_statistics_converge_to_those_of_the_data():
    layer = SlicedBatchNorm(6, momentum=0.5).double()
    x = torch.randn(64, 3, 4, 4, dtype=torch.float64) * 3 + 1
    for _ in range(60):
        layer(x, 3)
    expected = x.mean((0, 2, 3)).repeat_interleave(2)
    torch.testing.assert_close(layer.running_mean, expected, rtol=0, atol=1e-12)
    y = layer.eval()(x, 3).detach()
    assert y.mean().abs() < 1e-12
    assert abs(float(y.std()) - 1) < 1e-2


def test_with_momentum_zero_nothing_moves_whatever_lies_in_the_averages():
    layer = SlicedBatchNorm(6, momentum=0.0)
    layer.running_mean = torch.full((2,), 7.0)
    x = torch.randn(5, 4, 2, 2)
    y = layer(x, slice(0, 4))
    assert y.mean((0, 2, 3)).abs().max() < 1e-5
    assert layer.running_mean.tolist() == [7.0, 7.0]


def test_options_reach_every_batch_norm():
    options = TINY | {"bn_momentum": 0.3, "is_affine": False, "tracks_statistics": False}
    for slicing in ("fixed", "chunks"):
        supernet = build_supernet("nasbench101", options | {"slicing": slicing}, seed=0)
        norms = [m for m in supernet.modules() if isinstance(m, nn.BatchNorm2d)]
        assert {(m.momentum, m.eps, m.affine, m.track_running_stats) for m in norms} == {
            (0.3, 1e-5, False, False)
        }
        kinds = [m for m in supernet.modules() if isinstance(m, (ConvNormReLU, SlicedConvNormReLU))]
        assert len(norms) == len(kinds)


def test_drop_path_zeroes_cells_while_training_alone():
    supernet = build_supernet("nasbench101", TINY | {"stacks": 1}, seed=0)
    x = images(supernet, n=64)
    with torch.no_grad():
        plain = supernet.eval()(x, CHAIN)
        set_drop_path(supernet, 0.5)
        assert torch.equal(supernet(x, CHAIN), plain)
        dropped = supernet.train()(x, CHAIN)
    is_bare = (dropped - supernet.classifier.bias).abs().amax(1) < 1e-7
    assert 10 < int(is_bare.sum()) < 54
    assert SPACE.cell(CHAIN).feeding == (5,)
