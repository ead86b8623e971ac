import csv
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from wsx.data import load_data
from wsx.training import DataSpec, Recipe, RunConfig, train_supernet
from wsx.training import loop as loop_module
from wsx.training import supernet as supernet_module
from wsx.training.augment import Batches
from wsx.training.loop import MOMENTUM_PREFIX, Trainer

N_STEPS = 9


@pytest.fixture(autouse=True)
def every_epoch_is_saved(monkeypatch):
    """Epochs here are shorter than the time between states."""
    monkeypatch.setattr(supernet_module, "SAVE_EVERY_S", 0.0)


def make_config(sampler="uniform"):
    recipe = Recipe(
        epochs=3,
        batch_size=16,
        lr=0.2,
        warmup_epochs=1.0,
        momentum=0.9,
        label_smoothing=0.1,
        sampler=sampler,
        n_paths=2,
        crop_padding=1,
        cutout=3,
        channels_last=True,
        checkpoint_epochs=2,
        checkpoint_steps=2,
        supernet={"channels": 2, "cells": 1},
    )
    return RunConfig(
        "nasbench201", recipe, DataSpec("digits", n_train=50, n_valid=20, n_test=20), 4
    )


class InterruptionError(Exception):
    pass


def interrupt_at(step):
    def on_progress(progress):
        if progress.step == step:
            raise InterruptionError

    return on_progress


def train_interrupted(config, out, steps):
    """Train with an interruption after each of the steps, in new processes' stead with a new random state."""
    for step in steps:
        with pytest.raises(InterruptionError):
            train_supernet(config, out, on_progress=interrupt_at(step))
        torch.rand(step)
    return train_supernet(config, out)


def differences(a, b):
    """What differs between two run folders, rates of progress aside."""
    files = [sorted(str(p.relative_to(d)) for p in d.rglob("*") if p.is_file()) for d in (a, b)]
    if files[0] != files[1]:
        return [f"files {files}"]
    found = [] if read_rows(a) == read_rows(b) else ["log.csv"]
    for name in files[0]:
        if name.endswith(".safetensors"):
            one, other = load_file(a / name), load_file(b / name)
            found += [f"{name}: names"] if one.keys() != other.keys() else []
            found += [f"{name}: {key}" for key in one if not is_same(one[key], other.get(key))]
            found += [f"{name}: header"] if facts_of(a / name) != facts_of(b / name) else []
    return found


def is_same(a, b):
    return b is not None and a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()


def facts_of(path):
    with path.open("rb") as file:
        return file.read(int.from_bytes(file.read(8), "little"))


def read_rows(run):
    with (run / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: row[key] for key in row if key != "images_per_s"} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted runs."""
    folder = tmp_path_factory.mktemp("whole")
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for sampler in ("uniform", "fair"):
        train_supernet(make_config(sampler), folder / sampler)
    torch.set_num_threads(n_threads)
    return folder


def test_an_uninterrupted_run_has_the_expected_files(whole):
    names = sorted(path.stem for path in (whole / "uniform" / "checkpoints").iterdir())
    assert names == ["epoch-0002", "epoch-0003", "step-0000002", "step-0000004", "step-0000008"]
    assert [row["step"] for row in read_rows(whole / "uniform")] == ["3", "6", "9"]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["uniform", "fair"])
def test_interrupted_and_resumed_equals_uninterrupted(whole, tmp_path, sampler):
    steps = sorted(np.random.default_rng().choice(np.arange(1, N_STEPS), 3, replace=False).tolist())
    train_interrupted(make_config(sampler), tmp_path / "run", steps)
    assert differences(whole / sampler, tmp_path / "run") == [], steps


@pytest.mark.parametrize(("every_s", "resumed_from"), [(0.0, 3), (1e6, 2)])
def test_a_state_is_saved_with_checkpoints_and_at_ends_of_epochs(
    whole, tmp_path, monkeypatch, every_s, resumed_from
):
    monkeypatch.setattr(supernet_module, "SAVE_EVERY_S", every_s)
    run, seen = tmp_path / "run", []
    with pytest.raises(InterruptionError):
        train_supernet(make_config(), run, on_progress=interrupt_at(3))
    assert [row["step"] for row in read_rows(run)] == ["3"]
    train_supernet(make_config(), run, on_progress=lambda progress: seen.append(progress.step))
    assert seen == list(range(resumed_from + 1, N_STEPS + 1))
    assert differences(whole / "uniform", run) == []


def test_interrupted_after_its_last_step(whole, tmp_path):
    train_interrupted(make_config(), tmp_path / "run", [N_STEPS])
    assert differences(whole / "uniform", tmp_path / "run") == []


def test_a_finished_run_is_left_alone(whole, tmp_path):
    seen = []
    before = {path: path.read_bytes() for path in (whole / "fair").rglob("*") if path.is_file()}
    train_supernet(make_config("fair"), whole / "fair", on_progress=seen.append)
    assert seen == []
    assert {p: p.read_bytes() for p in (whole / "fair").rglob("*") if p.is_file()} == before


def test_the_check_sees_lost_momentum(whole, tmp_path, monkeypatch):
    restore = Trainer.restore

    def forgetful(self, state, facts):
        kept = {name: t for name, t in state.items() if not name.startswith(MOMENTUM_PREFIX)}
        restore(self, kept, facts)

    monkeypatch.setattr(Trainer, "restore", forgetful)
    train_interrupted(make_config(), tmp_path / "run", [5])
    assert any("weight.stem" in line for line in differences(whole / "uniform", tmp_path / "run"))


def test_the_check_sees_lost_running_sums(whole, tmp_path, monkeypatch):
    restore = Trainer.restore

    def forgetful(self, state, facts):
        restore(self, {**state, "sums": torch.zeros(3, dtype=torch.float64)}, facts)

    monkeypatch.setattr(Trainer, "restore", forgetful)
    train_interrupted(make_config(), tmp_path / "run", [5])
    assert "log.csv" in differences(whole / "uniform", tmp_path / "run")


CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
from test_training_resume import make_config
from wsx.training import train_supernet

torch.set_num_threads(1)
kind, n = sys.argv[1], int(sys.argv[2])
replace, n_calls = Path.replace, 0

def counted(self, target):
    global n_calls
    n_calls += 1
    if kind == "before-replace" and n_calls == n:
        os.kill(os.getpid(), signal.SIGKILL)
    done = replace(self, target)
    if kind == "after-replace" and n_calls == n:
        os.kill(os.getpid(), signal.SIGKILL)
    return done

def on_progress(progress):
    if kind == "step" and progress.step == n:
        os.kill(os.getpid(), signal.SIGKILL)

Path.replace = counted
train_supernet(make_config(), Path(sys.argv[3]), on_progress=on_progress)
"""


def run_and_die(kind, n, out):
    tests = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(tests=str(tests)), kind, str(n), str(out)],
        env={**os.environ, "PYTHONPATH": str(tests.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(whole, tmp_path):
    run_and_die("step", 5, tmp_path / "run")
    train_supernet(make_config(), tmp_path / "run")
    assert differences(whole / "uniform", tmp_path / "run") == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["before-replace", "after-replace"])
@pytest.mark.parametrize("n", range(1, 12, 2))
def test_killed_between_any_two_files_and_resumed(whole, tmp_path, kind, n):
    run_and_die(kind, n, tmp_path / "run")
    train_supernet(make_config(), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.part"))
    assert differences(whole / "uniform", tmp_path / "run") == []


def dropout_trainer():
    recipe = Recipe(epochs=2, batch_size=16, lr=0.1, crop_padding=1, channels_last=False)
    images = load_data("digits", n_train=64, n_valid=20, n_test=20).train
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    with torch.no_grad():
        model[2].weight.copy_(torch.linspace(-0.2, 0.2, 640).view(10, 64))
        model[2].bias.zero_()
    batches = Batches(images, recipe, seed=1, device=torch.device("cpu"))
    return Trainer(model, lambda step: [model], batches, recipe, seed=1)


def dropout_weights(n_before):
    """The weights after all steps, interrupted once by a new trainer and random numbers drawn elsewhere."""
    first, state = dropout_trainer(), None
    for progress in first.run():
        if progress.step == n_before:
            state = {name: tensor.clone() for name, tensor in first.state().items()}
            break
    second = dropout_trainer()
    second.restore(state, {"step": n_before})
    torch.rand(7)
    for _ in second.run():
        torch.rand(3)
    return second.model.state_dict()["2.weight"]


def test_a_model_with_dropout_resumes_exactly():
    whole = dropout_trainer()
    n_steps = sum(1 for _ in whole.run())
    assert n_steps == 8
    for n_before in (1, 4, 7):
        assert torch.equal(whole.model[2].weight, dropout_weights(n_before))


def test_dropout_masks_change_from_step_to_step():
    masks = []
    trainer = dropout_trainer()
    trainer.model[1].register_forward_hook(lambda module, args, out: masks.append(out == 0))
    for _ in trainer.run():
        pass
    assert len(masks) == 8
    assert all(not torch.equal(masks[0], mask) for mask in masks[1:])


def test_the_check_sees_unseeded_dropout(monkeypatch):
    @contextmanager
    def unseeded(seed):
        yield

    monkeypatch.setattr(loop_module, "seeded", unseeded)
    whole = dropout_trainer()
    for _ in whole.run():
        pass
    assert not torch.equal(whole.model[2].weight, dropout_weights(4))
