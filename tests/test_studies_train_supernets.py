"""Training several supernets: at once or in turn they are the same, and a failure is told."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from wsx.errors import OptionError, TrainingError, WsxError
from wsx.studies.train_supernets import train_supernets
from wsx.training import DataSpec, Recipe, RunConfig
from wsx.training.log import read_log

RECIPE = Recipe(
    epochs=2, batch_size=16, lr=0.05, crop_padding=1, supernet={"channels": 2, "cells": 1}
)
CONFIG = RunConfig("nasbench201", RECIPE, DataSpec("digits", n_train=32, n_valid=16, n_test=16), 0)


def configs(folder):
    return {folder / f"run-{seed}": replace(CONFIG, seed=seed) for seed in (0, 1)}


def weights(folder):
    return [load_file(path / "last.safetensors") for path in configs(folder)]


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory):
    folder, told = tmp_path_factory.mktemp("turn"), []
    train_supernets(configs(folder), n_workers=1, on_progress=lambda *now: told.append(now))
    return folder, told


def test_in_turn_epochs_are_counted_over_all(in_turn):
    _, told = in_turn
    assert [(done, n_all) for done, n_all, _ in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [note.split(",")[0] for *_, note in told] == ["run-0", "run-0", "run-1", "run-1"]


@pytest.mark.slow  # Worker processes import torch, seconds each.
def test_at_once_is_the_same(in_turn, tmp_path):
    told = []
    # As many threads as a worker has: sums are taken in the same order.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train_supernets(configs(tmp_path / "one"), n_workers=1)
    finally:
        torch.set_num_threads(threads)
    train_supernets(
        configs(tmp_path / "two"), n_workers=2, on_progress=lambda *now: told.append(now)
    )
    assert told[-1] == (4, 4, "2 of 2 trained")
    for ours, theirs in zip(weights(tmp_path / "one"), weights(tmp_path / "two"), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_is_trained_stays(in_turn):
    folder, _ = in_turn
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    train_supernets(configs(folder), n_workers=1)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == before


def test_trainings_on_the_same_images_load_them_once(monkeypatch, tmp_path):
    loaded, load = [], DataSpec.load
    monkeypatch.setattr(DataSpec, "load", lambda spec: loaded.append(spec) or load(spec))
    short = replace(CONFIG, recipe=replace(RECIPE, epochs=1))
    other = replace(short, data=replace(CONFIG.data, n_train=16))
    runs = {tmp_path / "a": short, tmp_path / "b": replace(short, seed=1), tmp_path / "c": other}
    train_supernets(runs, n_workers=1)
    assert loaded == [CONFIG.data, other.data]


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_training_that_diverges_is_told_after_the_others_are_done(tmp_path, n_workers):
    bad = replace(CONFIG, recipe=replace(RECIPE, lr=1e30, clip=0.0))
    runs = {tmp_path / "bad": bad, **configs(tmp_path)}
    told = r"1 of 3 trainings diverged, the others are kept; first bad: .* lower lr"
    with pytest.raises(TrainingError, match=told):
        train_supernets(runs, n_workers=n_workers)
    for folder in configs(tmp_path):
        assert len(read_log(folder / "log.csv")) == RECIPE.epochs


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
def test_what_no_training_can_do_without_stops_all(tmp_path, n_workers):
    missing = replace(CONFIG, data=DataSpec(f"cifar10={tmp_path / 'nowhere'}"))
    with pytest.raises(WsxError, match="nowhere"):
        train_supernets(
            {tmp_path / "missing": missing, tmp_path / "good": CONFIG}, n_workers=n_workers
        )


def test_no_workers_are_refused(tmp_path):
    with pytest.raises(OptionError, match="--workers is 0"):
        train_supernets(configs(tmp_path), n_workers=0)
    assert not list(tmp_path.iterdir())
