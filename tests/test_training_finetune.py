import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from own_spaces import SMALL, ToyNet, isolated_registries, toy_space
from timeline_runs import ARCHS, DATA, RECIPE, timeline_run
from torch.nn import functional as F

from wsx.errors import CheckpointError, OptionError, TrainingError, UnknownNameError
from wsx.supernets import build_supernet, supernet_of
from wsx.training.augment import Batches
from wsx.training.finetune import Finetuning, LoneSubnet, finetune, supernet_momentum

ARCH = ARCHS[1]
SETTINGS = Finetuning(0.05, seed=4)
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return timeline_run(tmp_path_factory.getbasetemp(), 0)


@pytest.fixture
def supernet(run):
    return run.load()[0]


def batches_of(recipe, seed=4):
    return Batches(DATA.load().train, recipe, seed=seed, device=torch.device("cpu"))


def tuned(supernet, n_batches, *, momentum=None, recipe=None):
    recipe = recipe or SETTINGS.recipe(RECIPE)
    subnet = LoneSubnet(supernet, ARCH)
    found = finetune(subnet, batches_of(recipe), recipe, n_batches, seed=4, momentum=momentum)
    return dict(found)


def by_hand(supernet, n, velocity):
    """Return the supernet's state after n steps of SGD on one arch, every update written out."""
    supernet = copy.deepcopy(supernet).train()
    batches, velocity = batches_of(RECIPE), dict(velocity)
    for step in range(n):
        x, labels = batches[step]
        parameters = dict(supernet.named_parameters())
        loss = F.cross_entropy(supernet(x, ARCH), labels)
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        used = {k: g for k, g in zip(parameters, gradients, strict=True) if g is not None}
        norm = torch.cat([g.flatten() for g in used.values()]).norm()
        scale = min(1.0, RECIPE.clip / (float(norm) + 1e-6))
        with torch.no_grad():
            for name, gradient in used.items():
                g = gradient * scale + RECIPE.weight_decay * parameters[name]
                old = velocity.get(name)
                v = g if old is None else RECIPE.momentum * old + g
                velocity[name] = v
                parameters[name] -= SETTINGS.lr * (g + RECIPE.momentum * v)
    return supernet.state_dict()


def assert_near(weights, state):
    assert len(weights) > 20
    for name, array in weights.items():
        np.testing.assert_allclose(
            array, state[name].numpy(), rtol=TOLERANCE, atol=TOLERANCE, err_msg=name
        )


@pytest.mark.parametrize("n", [0, 1, 5])
def test_k_steps_equal_a_loop_on_the_supernet_written_by_hand(supernet, n):
    found = tuned(supernet, [n])
    assert list(found) == [n]
    assert_near(found[n], by_hand(supernet, n, {}))


def test_the_momentum_of_the_run_goes_on(run, supernet):
    momentum = supernet_momentum(run, run.load()[1])
    found = tuned(supernet, [3], momentum=momentum)[3]
    assert_near(found, by_hand(supernet, 3, momentum))
    fresh = tuned(supernet, [3])[3]
    largest = max(float(np.abs(found[name] - fresh[name]).max()) for name in fresh)
    assert largest > 100 * TOLERANCE


def test_momentum_is_that_of_the_last_step_only(run):
    checkpoint = run.load("epoch-0001")[1]
    with pytest.raises(CheckpointError, match="momentum of step 4 only; epoch-0001 is of step 2"):
        supernet_momentum(run, checkpoint)


def test_stops_on_the_way_change_nothing(supernet):
    one = tuned(supernet, [5])[5]
    many = tuned(supernet, [5, 0, 2, 1, 2])
    assert list(many) == [0, 1, 2, 5]
    assert all(np.array_equal(one[name], many[5][name]) for name in one)
    moved = [name for name in one if not np.array_equal(many[0][name], one[name])]
    # Parameters and running averages alike.
    assert set(moved) == set(one)


def test_the_supernet_stays_as_it_is(supernet):
    before = copy.deepcopy(supernet.state_dict())
    found = tuned(supernet, [0, 3])
    assert all(torch.equal(t, before[name]) for name, t in supernet.state_dict().items())
    assert all(np.array_equal(array, before[name]) for name, array in found[0].items())
    assert not supernet.training


def test_the_rate_is_constant_however_long_the_training(supernet):
    recipe = SETTINGS.recipe(replace(RECIPE, warmup_epochs=3.0, drop_path=0.5, restart_epochs=1))
    assert (recipe.lr, recipe.lr_min, recipe.warmup_epochs) == (0.05, 0.05, 0.0)
    plain = tuned(supernet, [3])[3]
    odd = tuned(supernet, [3, 9], recipe=recipe)[3]
    assert all(np.array_equal(plain[name], odd[name]) for name in plain)


def test_ranks_of_the_recipe_are_kept(supernet):
    recipe = replace(SETTINGS.recipe(RECIPE), n_ranks=2)
    assert not np.array_equal(
        tuned(supernet, [1], recipe=recipe)[1]["classifier.weight"],
        tuned(supernet, [1])[1]["classifier.weight"],
    )


def test_a_training_that_diverges_says_so(supernet):
    recipe = replace(SETTINGS.recipe(RECIPE), lr=1e30, lr_min=1e30, clip=0.0)
    with pytest.raises(TrainingError, match="the loss is"):
        tuned(supernet, [4], recipe=recipe)


def test_slices_are_trained_and_have_no_momentum_of_their_own():
    with isolated_registries():
        supernet_of(toy_space())(ToyNet)
        toy = build_supernet("toy", SMALL, seed=0).eval()
        subnet = LoneSubnet(toy, (0, 0, 0))
        names = list(subnet.weights())
        assert any(name.startswith("derived.") for name in names)
        recipe = replace(RECIPE, batch_size=2)
        found = finetune(subnet, batches_of(RECIPE), recipe, [1], seed=0, momentum={})
        with pytest.raises(OptionError, match=r"weights of the subnet are slices .* fresh"):
            next(found)


@pytest.mark.parametrize("lr", [0.0, -0.1, float("nan"), float("inf")])
def test_rates_out_of_range_are_refused(lr):
    with pytest.raises(OptionError, match="lr must be above 0 and finite"):
        Finetuning(lr)


def test_other_settings_out_of_range_are_refused():
    with pytest.raises(OptionError, match="seed at least 0"):
        Finetuning(0.1, seed=-1)
    with pytest.raises(UnknownNameError, match="supernet"):
        Finetuning(0.1, momentum="supernets")
