"""Gradients of archs against autograd by hand, and what computing them must leave alone."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from own_spaces import SMALL, ToyNet, isolated_registries, toy_space
from sharing_nets import ALL, CELL64, MACROS, SHARINGS, build, groups_of
from torch import nn

from wsx.analysis.gradients import gradient_cosines
from wsx.errors import ArchError, DataError, OptionError, TrainingError
from wsx.spaces import SPACES, ProductSpace
from wsx.supernets import build_supernet, supernet_of
from wsx.training import DataSpec, Recipe
from wsx.training.finetune import LoneSubnet
from wsx.training.gradients import arch_gradients, gradient_batches

RECIPE = Recipe(label_smoothing=0.1, channels_last=False)
TOLERANCE = 2e-6


def batches_for(net, n_batches=2, n=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n_classes = net.options.n_classes
    return [
        (net.example_inputs(n, generator)[0], torch.randint(n_classes, (n,), generator=generator))
        for _ in range(n_batches)
    ]


def loss_by_hand(output, labels, recipe):
    def one(logits):
        shares = torch.full_like(logits, recipe.label_smoothing / logits.shape[1])
        shares[torch.arange(len(labels)), labels] += 1 - recipe.label_smoothing
        return -(shares * logits.log_softmax(1)).sum(1).mean()

    logits, *others = output if isinstance(output, tuple) else (output,)
    return one(logits) + recipe.auxiliary_weight * sum(map(one, others))


def by_hand(net, arch, batches, recipe=RECIPE):
    """Gradients of one arch by parameter, None where it has none."""
    net = copy.deepcopy(net).train()
    names, parameters = zip(*net.named_parameters(), strict=True)
    sums = dict.fromkeys(names)
    for x, labels in batches:
        loss = loss_by_hand(net(x, arch), labels, recipe)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        for name, gradient in zip(names, found, strict=True):
            if gradient is not None:
                sums[name] = gradient / len(batches) + (0 if sums[name] is None else sums[name])
    return sums


def slow_cosine(one, other):
    dot = square = square_of_other = 0.0
    n = 0
    for name, gradient in one.items():
        if gradient is None or other[name] is None:
            continue
        x, y = gradient.double(), other[name].double()
        n += x.numel()
        dot += float((x * y).sum())
        square += float((x * x).sum())
        square_of_other += float((y * y).sum())
    norm = (square * square_of_other) ** 0.5
    return (dot / norm if norm else float("nan")), n


def assert_as_by_hand(net, archs, batches, recipe=RECIPE):
    found = gradient_cosines(arch_gradients(net, archs, batches, recipe), len(archs))
    slow = [by_hand(net, arch, batches, recipe) for arch in archs]
    for a, one in enumerate(slow):
        for b, other in enumerate(slow):
            cosine, n = slow_cosine(one, other)
            assert found.n_weights[a, b] == n
            assert found.cosine[a, b] == pytest.approx(cosine, rel=0, abs=1e-5, nan_ok=True)
    return found


def some(net, n=4):
    measure = next(iter(net.space.measures))
    return net.space.sample(n, rng=np.random.default_rng(3), measure=measure)


@pytest.mark.parametrize("space", sorted(set(MACROS) - {"nasbench101-v4"}))
@pytest.mark.parametrize("n_batches", [1, 3])
def test_cosines_are_those_of_autograd_by_hand(space, n_batches):
    net = build(space, None)
    assert_as_by_hand(net, some(net), batches_for(net, n_batches))


@pytest.mark.parametrize("sharing", [s for space, s in SHARINGS if space == "cell64"])
def test_groups_and_copies(sharing):
    net = build("cell64", sharing)
    assert_as_by_hand(net, some(net, 3), batches_for(net))


def test_archs_of_groups_that_share_nothing_have_no_cosine():
    net = build("cell64", {"groups": "random:4", "shared": "none"})
    (one, two, *_), (other, *_), *_ = groups_of(net, ALL)
    found = assert_as_by_hand(net, [one, two, other], batches_for(net))
    assert found.n_weights[0, 1] > 0
    assert found.n_weights[0, 2] == found.n_weights[1, 2] == 0
    assert np.isnan(found.cosine[:2, 2]).all()
    assert np.isfinite(found.cosine[0, 1])


def test_auxiliary_heads_count():
    net = build_supernet(
        "darts", MACROS["darts"] | {"has_auxiliary": True, "image_size": 32}, seed=0
    )
    archs, batches = some(net, 2), batches_for(net)
    with_head = assert_as_by_hand(net, archs, batches)
    without = arch_gradients(net, archs, batches, replace(RECIPE, auxiliary_weight=0.0))
    assert abs(gradient_cosines(without, 2).cosine[0, 1] - with_head.cosine[0, 1]) > 1e-4


def test_gradients_are_those_of_the_subnet_alone():
    # A plain module that owns nothing but this arch's operations.
    net = build("cell64", None)
    arch, batches = CELL64.parse("243"), batches_for(net, 2)
    subnet = LoneSubnet(net, arch)
    names = subnet.parameter_names()
    subnet.module.train()
    losses = [loss_by_hand(subnet.module(x), labels, RECIPE) for x, labels in batches]
    (sum(losses) / 2).backward()
    alone = {names[own]: p.grad.flatten() for own, p in subnet.module.named_parameters()}
    rows = arch_gradients(net, [arch], batches, RECIPE)
    assert sum(part.values.size for part in rows) == sum(g.numel() for g in alone.values())
    found = {name for name, g in by_hand(net, arch, batches).items() if g is not None}
    assert found == set(alone)
    in_order = [name for name, _ in net.named_parameters() if name in alone]
    for name, part in zip(in_order, rows, strict=True):
        assert torch.from_numpy(part.values[0]).allclose(alone[name], rtol=0, atol=TOLERANCE)


def test_only_the_slices_that_both_use_are_compared():
    with isolated_registries():
        space = toy_space()
        supernet_of(space)(ToyNet)
        net = build_supernet("toy", SMALL, seed=0)
        archs = [space.parse(f"kernel={k},width={w},activation=tanh") for k, w in ((1, 4), (3, 2))]
        batches = batches_for(net)
        found = gradient_cosines(arch_gradients(net, archs, batches, RECIPE), 2)
        slow = [by_hand(net, arch, batches) for arch in archs]
    # Of 4 channels of a 3x3 kernel on 2 channels: the middle of all, everything of the first 2.
    kernel = [4 * 2, 2 * 2 * 9]
    norm, last, bias = [2 * 4, 2 * 2], [3 * 4, 3 * 2], 3
    own = [sum(sizes) + bias for sizes in zip(kernel, norm, last, strict=True)]
    assert found.n_weights.tolist() == [[own[0], 4 + 4 + 6 + 3], [4 + 4 + 6 + 3, own[1]]]
    first = [{k: g.clone() for k, g in one.items()} for one in slow]
    for one in first:
        one["net.weight"] = one["net.weight"][:2, :, 1, 1]
        one["net.norm.weight"] = one["net.norm.weight"][:2]
        one["net.norm.bias"] = one["net.norm.bias"][:2]
        one["net.last.weight"] = one["net.last.weight"][:, :2]
    cosine, n = slow_cosine(*first)
    assert n == found.n_weights[0, 1]
    assert found.cosine[0, 1] == pytest.approx(cosine, rel=0, abs=1e-6)


class Planted(nn.Module):
    """Branches with weights of their own; one multiplies them by zero, one drifts from call to call."""

    space = ProductSpace("planted", {"branch": ("left", "again", "zero", "right", "drifting")})

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(4, 3), nn.Linear(4, 3)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x, arch):
        branch = self.space.values(arch)["branch"]
        if branch == "drifting":
            self.scale.mul_(3.0)
            return self.left(x * self.scale.clone()).tanh()
        if branch == "right":
            return self.right(x)
        return self.left(x) * (0.0 if branch == "zero" else 1.0)


def planted_batches():
    generator = torch.Generator().manual_seed(5)
    return [(torch.randn(8, 4, generator=generator), torch.arange(8) % 3)]


def planted(*branches, net=None, recipe=RECIPE):
    net = Planted() if net is None else net
    archs = [net.space.parse(f"branch={branch}") for branch in branches]
    return arch_gradients(net, archs, planted_batches(), recipe)


def test_equal_archs_agree_and_zero_gradients_say_nothing():
    found = gradient_cosines(planted("left", "again", "zero", "right"), 4)
    assert found.cosine[0, 1] == pytest.approx(1, rel=0, abs=1e-12)
    assert found.n_weights[0].tolist() == [15, 15, 15, 0]
    assert np.isnan(found.cosine[2]).all()
    assert np.isnan(found.cosine[3, :3]).all()


def test_no_arch_depends_on_those_before():
    net = Planted()
    first = planted("drifting", net=net)
    twice = planted("drifting", "left", "drifting", net=net)
    for one, part in zip(first, twice, strict=True):
        assert np.array_equal(part.values[2], one.values[0])
        assert np.array_equal(part.values[0], one.values[0])
    assert float(net.scale) == 1


def test_archs_of_nothing_but_zeros():
    net = build("nasbench201", None)
    archs = [
        SPACES["nasbench201"].parse(t)
        for t in ("|none~0|+|none~0|none~1|+" + "|none~0|none~1|none~2|",)
    ]
    archs += some(net, 2)
    assert_as_by_hand(net, archs, batches_for(net))


@pytest.mark.parametrize("options", [{}, {"dropout": 0.5}])
def test_nothing_of_the_supernet_or_the_generators_moves(options):
    net = build_supernet("nasbench201", MACROS["nasbench201"] | options, seed=0)
    next(net.parameters()).grad = torch.full_like(next(net.parameters()), 7.0)
    before = copy.deepcopy(net.state_dict())
    drawn, numpy_drawn = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    was_training = net.eval().training
    archs, batches = some(net), batches_for(net)
    inputs = [x.clone() for x, _ in batches]
    one = arch_gradients(net, archs, batches, RECIPE)
    assert net.training is was_training
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert np.array_equal(np.random.get_state()[1], numpy_drawn)  # noqa: NPY002
    assert float(next(net.parameters()).grad.min()) == 7.0
    assert all(p.grad is None for p in list(net.parameters())[1:])
    assert not any(vars(p) for p in net.parameters())
    assert all(torch.equal(x, y) for x, (y, _) in zip(inputs, batches, strict=True))
    again = arch_gradients(net, archs, batches, RECIPE)
    for part, other in zip(one, again, strict=True):
        assert np.array_equal(part.values, other.values)


def test_masks_of_dropout_are_those_of_the_seed():
    net = build_supernet("nasbench201", MACROS["nasbench201"] | {"dropout": 0.5}, seed=0)
    arch, batches = some(net, 1), batches_for(net)
    found = [arch_gradients(net, arch * 2, batches, RECIPE, seed=seed) for seed in (1, 2)]
    for part in found[0]:
        assert np.array_equal(part.values[0], part.values[1])
    pairs = zip(*found, strict=True)
    assert any(not np.array_equal(one.values, other.values) for one, other in pairs)


def test_progress_is_told_arch_by_arch():
    told = []
    net = Planted()
    archs = [(0,), (3,)]
    arch_gradients(net, archs, planted_batches(), RECIPE, on_arch=lambda *a: told.append(a))
    assert told == [(1, 2, "branch=left"), (2, 2, "branch=right")]


def test_wrong_archs_and_weights_that_diverged_are_refused():
    net, batches = Planted(), planted_batches()
    with pytest.raises(ArchError):
        arch_gradients(net, [(0,), (9,)], batches, RECIPE)
    with pytest.raises(OptionError, match="0 archs"):
        arch_gradients(net, [], batches, RECIPE)
    with pytest.raises(OptionError, match="0 batches"):
        arch_gradients(net, [(0,)], [], RECIPE)
    with torch.no_grad():
        net.right.weight[0, 0] = float("nan")
    assert planted("left", net=net)
    with pytest.raises(TrainingError, match="the loss of branch=right is nan"):
        planted("left", "right", net=net)


def test_a_gradient_that_is_not_finite_is_refused():
    class Steep(Planted):
        def forward(self, x, arch):
            # The root has a finite value and an infinite slope at 0.
            return super().forward(x, arch) + (self.right.bias * 0).sqrt()

    with pytest.raises(TrainingError, match=r"branch=left on right.bias is not finite"):
        planted("left", net=Steep())


@pytest.fixture(scope="module")
def train():
    return DataSpec("digits", n_train=64, n_valid=20, n_test=40).load().train


def test_batches_are_those_of_the_seed_and_of_no_augmentation(train):
    one, again, other = (
        gradient_batches(train, n_images=32, batch_size=8, seed=seed) for seed in (0, 0, 1)
    )
    assert [(len(x), len(labels)) for x, labels in one] == [(8, 8)] * 4
    x, labels = (torch.cat(parts) for parts in zip(*one, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(x, torch.cat([x for x, _ in again]), strict=True))
    assert not torch.equal(x, torch.cat([x for x, _ in other]))
    # Each is an image of the training set as it is, with its label, and none is in twice.
    whole = train.floats()
    rows = [int(np.flatnonzero((whole == image.numpy()).all((1, 2, 3)))[0]) for image in x]
    assert len(set(rows)) == 32
    assert np.array_equal(train.labels[rows], labels.numpy())
    assert rows != sorted(rows)
    everything = gradient_batches(train, n_images=64, batch_size=64, seed=0)
    assert sorted(everything[0][1].tolist()) == sorted(train.labels.tolist())


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"n_images": 0}, OptionError, "images are 0"),
        ({"batch_size": 0}, OptionError, "batch size 0"),
        ({"batch_size": -8}, OptionError, "batch size -8"),
        ({"n_images": 12}, OptionError, "a multiple of the batch size"),
        ({"seed": -1}, OptionError, "seed is -1"),
        ({"n_images": 72}, DataError, "has 64"),
    ],
)
def test_wrong_images_are_refused(train, values, error, message):
    with pytest.raises(error, match=message):
        gradient_batches(train, **{"n_images": 16, "batch_size": 8, "seed": 0} | values)
