"""Warm restarts of the learning rate, path dropout over steps, and which steps leave a checkpoint."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_training_resume import N_STEPS, make_config
from test_training_step import linear_trainer

from wsx.errors import OptionError
from wsx.supernets.checkpoint import read_facts
from wsx.training import loop, open_run, train_supernet
from wsx.training.text_recipes import TextRecipe

N_PER_EPOCH = 4


def rates(**recipe):
    trainer, batches = linear_trainer(**recipe)
    assert batches.n_steps_per_epoch == N_PER_EPOCH
    return [trainer.lr_at(step) for step in range(trainer.n_steps)]


def torch_rates(n_steps, period, *, lr, lr_min):
    """As P1's cosine_restart has it: PyTorch's schedule, stepped after every batch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, period, eta_min=lr_min
    )
    found = []
    for _ in range(n_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("restart_epochs", [1, 2, 3, 6])
@pytest.mark.parametrize("lr_min", [0.0, 0.01])
def test_restarts_are_those_of_pytorch(restart_epochs, lr_min):
    values = {"lr": 0.4, "lr_min": lr_min}
    found = rates(epochs=6, restart_epochs=restart_epochs, **values)
    expected = torch_rates(24, restart_epochs * N_PER_EPOCH, **values)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    tops = [step for step, rate in enumerate(found) if rate == 0.4]
    assert tops == list(range(0, 24, restart_epochs * N_PER_EPOCH))


def test_one_restart_period_is_the_plain_cosine():
    assert rates(epochs=3, lr=0.4, restart_epochs=3) == rates(epochs=3, lr=0.4)
    assert rates(epochs=3, lr=0.4, restart_epochs=2) != rates(epochs=3, lr=0.4)


@pytest.mark.parametrize(("rises", "expected"), [(True, [0.0, 0.1, 0.2, 0.3]), (False, [0.4] * 4)])
def test_path_dropout_rises_or_holds(monkeypatch, rises, expected):
    shares = []
    monkeypatch.setattr(loop, "set_drop_path", lambda model, share: shares.append(share))
    trainer, _ = linear_trainer(epochs=1, drop_path=0.4, raises_drop_path=rises)
    found = [shares[-1] for _ in trainer.run()]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    # The layers are looked for only where there is something to set.
    assert len(shares) == len(set(expected))


def test_restarts_begin_after_the_warm_up():
    found = rates(epochs=6, lr=0.4, warmup_epochs=2.0, restart_epochs=2)
    np.testing.assert_allclose(found[:8], 0.4 * np.arange(1, 9) / 8, rtol=1e-12, atol=0)
    np.testing.assert_allclose(found[8:], torch_rates(16, 8, lr=0.4, lr_min=0.0), rtol=1e-9, atol=0)


def test_the_last_period_may_be_cut_short():
    found = rates(epochs=5, lr=0.4, restart_epochs=2)
    assert found[16:] == found[:4]


def test_a_restarted_rate_is_what_the_step_uses():
    trainer, _ = linear_trainer(epochs=4, lr=0.4, restart_epochs=1)
    assert [progress.lr for progress in trainer.run()] == [
        trainer.lr_at(step % N_PER_EPOCH) for step in range(16)
    ]


@pytest.mark.parametrize("name", ["restart_epochs", "checkpoint_last_steps"])
@pytest.mark.parametrize("value", [-1, float("nan")])
def test_bad_values_are_refused(name, value):
    with pytest.raises(OptionError, match=f"{name} is {value}"):
        replace(make_config().recipe, **{name: value})


def checkpoints(folder, **recipe):
    config = make_config()
    values = {"n_paths": 1, "checkpoint_steps": 0, **recipe}
    run = train_supernet(replace(config, recipe=replace(config.recipe, **values)), folder)
    return [path.stem for path in run.checkpoint_paths]


def test_each_of_the_last_steps_leaves_a_checkpoint(tmp_path):
    late = [f"step-{step:07d}" for step in (6, 7, 8)]
    assert checkpoints(tmp_path / "c", checkpoint_epochs=9, checkpoint_last_steps=4) == [
        *late,
        "epoch-0003",
    ]
    # Step 6 ends an epoch that has a checkpoint anyway: it keeps that name.
    assert checkpoints(tmp_path / "d", checkpoint_epochs=2, checkpoint_last_steps=4) == [
        "epoch-0002",
        *late[1:],
        "epoch-0003",
    ]


def test_more_last_steps_than_there_are_means_all(tmp_path):
    names = checkpoints(tmp_path / "run", checkpoint_last_steps=10**9)
    assert len(names) == N_STEPS
    paths = open_run(tmp_path / "run").checkpoint_paths
    assert [read_facts(path)["step"] for path in paths] == list(range(1, N_STEPS + 1))


def test_both_kinds_of_steps_go_together(tmp_path):
    names = checkpoints(
        tmp_path / "run", checkpoint_epochs=9, checkpoint_steps=4, checkpoint_last_steps=3
    )
    assert names == ["step-0000004", "step-0000007", "step-0000008", "epoch-0003"]


@pytest.mark.parametrize(
    "values",
    [
        {"checkpoint_last_steps": 3},
        {"restart_epochs": 2},
        {"gradients": "sum"},
        {"n_ranks": 2},
        {"n_paths": 2},
    ],
)
def test_text_refuses_what_it_does_not_use(values):
    (name,) = values
    with pytest.raises(OptionError, match=f"{name} is .*training on text does not use it"):
        TextRecipe(**values)


@pytest.mark.parametrize("sampler", ["fair", "sandwich"])
def test_text_refuses_samplers_of_several_archs(sampler):
    with pytest.raises(OptionError, match=f"sampler {sampler} trains several archs a step"):
        TextRecipe(sampler=sampler)


@pytest.mark.parametrize("sampler", ["uniform", "round-robin", "gradual"])
def test_text_takes_samplers_of_one_arch(sampler):
    assert TextRecipe(sampler=sampler, order="shuffled", walk_length=9).has_one_arch_per_step
