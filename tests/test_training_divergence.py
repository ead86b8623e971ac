import numpy as np
import pytest
from safetensors.torch import load_file

from wsx.errors import DataError, DeviceError, OptionError, TrainingError
from wsx.training import DataSpec, Recipe, RunConfig, open_run, train_supernet
from wsx.training.loop import Trainer

GOOD_LR = 0.1


def make_config(*, seed=0, n_train=48, supernet=None, **recipe):
    values = {"epochs": 3, "batch_size": 16, "lr": GOOD_LR, "checkpoint_epochs": 1, **recipe}
    macro = {"channels": 2, "cells": 1, **(supernet or {})}
    data = DataSpec("digits", n_train=n_train, n_valid=20, n_test=20)
    chosen = Recipe(clip=0.0, crop_padding=1, supernet=macro, **values)
    return RunConfig("nasbench201", chosen, data, seed)


def explode_at(monkeypatch, step, lr):
    """Plant a learning rate, out of all bounds, at one step counted from 1; epochs have 3 steps."""
    monkeypatch.setattr(Trainer, "lr_at", lambda self, i: lr if i + 1 == step else GOOD_LR)


def contents(run):
    return {path: path.read_bytes() for path in run.rglob("*.safetensors")}


def assert_finite(path):
    assert all(np.isfinite(tensor.numpy()).all() for tensor in load_file(path).values())


def test_a_loss_that_diverges_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    explode_at(monkeypatch, 4, 1e25)
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) at step 5 of 9"):
        train_supernet(make_config(), tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert [path.stem for path in run.checkpoint_paths] == ["epoch-0001"]
    assert run.load()[1].facts["step"] == 3
    before = contents(tmp_path / "run")
    assert len(before) == 2
    for path in before:
        assert_finite(path)
    with pytest.raises(TrainingError, match=r"at step 5 of 9"):
        train_supernet(make_config(), tmp_path / "run")
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("step", [3, 6, 9])
def test_weights_ruined_by_an_epochs_last_step_are_not_kept(tmp_path, monkeypatch, step):
    explode_at(monkeypatch, step, 3e38)
    with pytest.raises(TrainingError, match=rf"is not finite after step {step} of 9"):
        train_supernet(make_config(weight_decay=1.0), tmp_path / "run")
    run = open_run(tmp_path / "run")
    kept = [f"epoch-{epoch:04d}" for epoch in range(1, step // 3)]
    assert [path.stem for path in run.checkpoint_paths] == kept
    before = contents(tmp_path / "run")
    for path in before:
        assert_finite(path)
    with pytest.raises(TrainingError, match=rf"after step {step} of 9"):
        train_supernet(make_config(weight_decay=1.0), tmp_path / "run")
    assert contents(tmp_path / "run") == before


def test_a_step_checkpoint_of_ruined_weights_is_not_kept(tmp_path, monkeypatch):
    explode_at(monkeypatch, 4, 3e38)
    config = make_config(weight_decay=1.0, checkpoint_steps=2)
    with pytest.raises(TrainingError, match="is not finite after step 4 of 9"):
        train_supernet(config, tmp_path / "run")
    names = [path.stem for path in open_run(tmp_path / "run").checkpoint_paths]
    assert names == ["step-0000002", "epoch-0001"]


def test_a_run_goes_on_once_the_cause_is_gone(tmp_path, monkeypatch):
    with monkeypatch.context() as context:
        explode_at(context, 5, 3e38)
        with pytest.raises(TrainingError):
            train_supernet(make_config(weight_decay=1.0), tmp_path / "run")
    explode_at(monkeypatch, 0, GOOD_LR)
    run = train_supernet(make_config(weight_decay=1.0), tmp_path / "run")
    whole = train_supernet(make_config(weight_decay=1.0), tmp_path / "whole")
    assert run.checkpoint_path().read_bytes() == whole.checkpoint_path().read_bytes()


def test_a_huge_rate_in_the_recipe_names_the_step(tmp_path):
    with pytest.raises(TrainingError, match=r"step \d+ of 9"):
        train_supernet(make_config(lr=1e30), tmp_path / "run")
    assert open_run(tmp_path / "run").checkpoint_paths == []


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_train": 12}, DataError, "12 training images, fewer than a batch of 16"),
        ({"supernet": {"n_classes": 7}}, OptionError, "sets n_classes to 7; the data has 10"),
        ({"supernet": {"image_size": 32}}, OptionError, "sets image_size to 32; the data has 8"),
        ({"supernet": {"chanels": 2}}, KeyError, "Did you mean channels"),
        ({"measure": "all"}, KeyError, "no sampling measure of nasbench201 named 'all'"),
    ],
)
def test_what_cannot_be_trained_leaves_no_folder(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        train_supernet(make_config(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused(tmp_path, device):
    with pytest.raises(DeviceError, match=f"cannot train on device '{device}'"):
        train_supernet(make_config(), tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


def test_a_negative_seed_is_refused():
    with pytest.raises(OptionError, match="seed is -1"):
        make_config(seed=-1)
