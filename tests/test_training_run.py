import dataclasses
import errno
import json
from pathlib import Path

import pytest
import torch

from wsx.errors import ArchError, CheckpointError, UnknownNameError
from wsx.supernets import build_supernet
from wsx.supernets.checkpoint import save_tensors
from wsx.training import DataSpec, Recipe, Run, RunConfig, open_run
from wsx.training.log import FIELDS, TrainingLog, read_log
from wsx.training.loop import Progress
from wsx.training.run import create_run
from wsx.training.supernet import train_supernet

MACRO = {"channels": 1, "cells": 1}


def make_config(**changes):
    base = RunConfig("nasbench201", Recipe(supernet=MACRO), DataSpec("digits", n_train=100), 3)
    return dataclasses.replace(base, **changes)


def test_a_run_reads_back_as_it_was_made(tmp_path):
    config = make_config()
    run = create_run(tmp_path / "a" / "run", config)
    assert run == open_run(tmp_path / "a" / "run") == Run(tmp_path / "a" / "run", config)
    values = json.loads((run.path / "run.json").read_text())
    assert values["format_version"] == 1
    assert set(values["versions"]) == {"wsx", "torch", "python"}
    assert list(run.path.iterdir()) == [run.path / "run.json"]


def test_the_same_configuration_takes_the_folder_up_again(tmp_path):
    create_run(tmp_path / "run", make_config())
    before = (tmp_path / "run" / "run.json").read_bytes()
    assert create_run(tmp_path / "run", make_config()).config == make_config()
    assert (tmp_path / "run" / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 4}, ["seed is 3, not 4"]),
        (
            {"data": DataSpec("digits", seed=1, n_train=99)},
            ["data.n_train is 100, not 99", "data.seed is 0"],
        ),
        ({"recipe": Recipe(lr=0.5, supernet=MACRO)}, ["recipe.lr is 0.05, not 0.5"]),
        (
            {"recipe": Recipe(supernet={"channels": 2, "cells": 1, "is_affine": False})},
            [
                "recipe.supernet.channels is 1, not 2",
                "recipe.supernet.is_affine is None, not False",
            ],
        ),
    ],
)
def test_another_configuration_is_refused_with_what_differs(tmp_path, changes, named):
    create_run(tmp_path / "run", make_config())
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(CheckpointError, match="holds another run") as caught:
        create_run(tmp_path / "run", make_config(**changes))
    for text in named:
        assert text in str(caught.value)
    assert str(caught.value).count(", not ") == len(named)
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_a_run_on_a_list_names_the_list_by_its_content(tmp_path):
    path = tmp_path / "archs.txt"
    path.write_text("5\n7\n")
    recipe = Recipe(measure=f"list:{path}", epochs=1, batch_size=50, supernet=MACRO)
    config = make_config(recipe=recipe)
    run = train_supernet(config, tmp_path / "run")
    assert run.config.recipe.measure.startswith(f"list:{path}@")
    assert train_supernet(config, tmp_path / "run") == run
    path.write_text("5\n8\n")
    with pytest.raises(CheckpointError, match=r"recipe\.measure is 'list:.*', not 'list:"):
        train_supernet(config, tmp_path / "run")
    path.unlink()
    assert open_run(tmp_path / "run") == run
    with pytest.raises(ArchError, match=r"archs\.txt cannot be read"):
        train_supernet(config, tmp_path / "run")


def run_json(**changes):
    return json.dumps({"format_version": 1, **make_config().as_dict(), **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged"),
        ("{", "is damaged"),
        (run_json()[:-10], "is damaged"),
        ("\0\0\0", "is damaged"),
        ("[1, 2]", "is damaged"),
        ("{}", "is damaged"),
        (run_json(format_version="new"), "is damaged"),
        (run_json(format_version=float("inf")), "is damaged"),
        (run_json(format_version=2), "has run format 2; this wsx reads up to 1"),
        ('{"format_version": 1}', "is no run of wsx"),
        (run_json(recipe={"epochs": "many"}), "is no run of wsx"),
        (run_json(recipe={"epochs": 0}), "is no run of wsx.*epochs is 0"),
        (run_json(recipe={"speed": 1}), "is no run of wsx"),
        (run_json(recipe=[]), "is no run of wsx"),
        (run_json(data={"spec": "digits", "shard": 1}), "is no run of wsx"),
        (run_json(data=None), "is no run of wsx"),
        (run_json(seed="three"), "is no run of wsx"),
        (run_json(seed=-3), "is no run of wsx.*seed is -3"),
    ],
)
def test_damaged_run_files_are_refused(tmp_path, text, message):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        open_run(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        create_run(tmp_path, make_config())
    assert (tmp_path / "run.json").read_text() == text


def test_a_run_file_that_is_no_text(tmp_path):
    (tmp_path / "run.json").write_bytes(b"\x80\x81\xff")
    with pytest.raises(CheckpointError, match="is damaged"):
        open_run(tmp_path)


def test_folders_without_a_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no run \(no run.json\).*wsx train"):
        open_run(tmp_path)
    with pytest.raises(CheckpointError, match="holds no run"):
        open_run(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="is damaged"):
        open_run(tmp_path / "file")
    with pytest.raises(CheckpointError, match="cannot create a run"):
        create_run(tmp_path / "file", make_config())


def test_a_full_disk_leaves_no_run(tmp_path, monkeypatch):
    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(Path, "replace", full)
        with pytest.raises(CheckpointError, match=r"cannot create a run.*No space left"):
            create_run(tmp_path / "run", make_config())
    assert not (tmp_path / "run" / "run.json").exists()
    create_run(tmp_path / "run", make_config())


@pytest.fixture
def trained(tmp_path):
    """A run with checkpoints whose names do not sort like their steps."""
    run = create_run(tmp_path / "run", make_config())
    supernet = build_supernet("nasbench201", MACRO, seed=0)
    for name, step in (("epoch-0010", 100), ("epoch-0009", 90), ("step-0000095", 95), ("a", 7)):
        with torch.no_grad():
            supernet.classifier.bias.fill_(step)
        facts = {"space": "nasbench201", "supernet": MACRO, "step": step}
        save_tensors(run.path / "checkpoints" / f"{name}.safetensors", supernet.state_dict(), facts)
    (run.path / "checkpoints" / "epoch-0011.safetensors.part").write_bytes(b"half")
    return run


def test_checkpoints_come_in_the_order_of_their_steps(trained):
    names = [path.stem for path in trained.checkpoint_paths]
    assert names == ["a", "epoch-0009", "step-0000095", "epoch-0010"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": "nasbench"}, "no space named 'nasbench'. Did you mean nasbench201"),
        ({"recipe": Recipe(supernet={"chanels": 4})}, "named 'chanels'. Did you mean channels"),
        ({"recipe": Recipe(supernet={"lrr": 0.1})}, "named 'lrr'. Did you mean lr"),
    ],
)
def test_mistyped_names_are_refused_with_a_suggestion(changes, message):
    with pytest.raises(UnknownNameError, match=message):
        dataclasses.replace(make_config(), **changes)


@pytest.mark.parametrize(
    ("name", "step"), [("last", 100), ("epoch-0009", 90), ("step-0000095", 95), ("a", 7)]
)
def test_checkpoints_by_name(trained, name, step):
    supernet, checkpoint = trained.load(name)
    assert checkpoint.facts["step"] == step
    assert supernet.classifier.bias.tolist() == [step] * 10
    assert not supernet.training


@pytest.mark.parametrize("name", ["epoch-0011", "epoch-9", "", "../run", "epoch-0010.safetensors"])
def test_unknown_checkpoints_list_what_there_is(trained, name):
    with pytest.raises(CheckpointError, match="it has a, epoch-0009, step-0000095, epoch-0010"):
        trained.checkpoint_path(name)


@pytest.mark.parametrize("name", ["last", "epoch-0001"])
def test_a_run_without_checkpoints_says_so(tmp_path, name):
    run = create_run(tmp_path / "run", make_config())
    assert run.checkpoint_paths == []
    with pytest.raises(CheckpointError, match=f"no checkpoint '{name}'; it has none yet"):
        run.load(name)


def progress_at(step, **changes):
    values = {
        "step": step,
        "n_steps": 9_000_000,
        "epoch": step // 10,
        "loss": 0.123456789,
        "accuracy": 0.5,
        "lr": 1e-5,
        "images_per_s": 1234.5678,
        "is_epoch_end": True,
    }
    return Progress(**{**values, **changes})


def write_log(path, steps):
    log = TrainingLog(path, step=0)
    for step in steps:
        log.append(progress_at(step))


def test_a_log_reads_back(tmp_path):
    write_log(tmp_path / "log.csv", [10, 20])
    rows = read_log(tmp_path / "log.csv")
    assert [tuple(row) for row in rows] == [FIELDS, FIELDS]
    assert rows[1] == {
        "epoch": "2",
        "step": "20",
        "loss": "0.123457",
        "accuracy": "0.5",
        "lr": "1e-05",
        "images_per_s": "1234.57",
    }


def test_steps_past_a_million_stay_whole(tmp_path):
    write_log(tmp_path / "log.csv", [999_990, 1_000_000, 1_234_567])
    TrainingLog(tmp_path / "log.csv", step=1_000_000)
    assert [row["step"] for row in read_log(tmp_path / "log.csv")] == ["999990", "1000000"]


def test_no_log_has_no_rows(tmp_path):
    assert read_log(tmp_path / "log.csv") == []
    TrainingLog(tmp_path / "log.csv", step=5)
    assert read_log(tmp_path / "log.csv") == []


def test_rows_past_the_resumed_step_are_dropped(tmp_path):
    write_log(tmp_path / "log.csv", [10, 20, 30, 40])
    log = TrainingLog(tmp_path / "log.csv", step=20)
    assert [row["step"] for row in read_log(tmp_path / "log.csv")] == ["10", "20"]
    log.append(progress_at(30))
    assert [row["step"] for row in read_log(tmp_path / "log.csv")] == ["10", "20", "30"]
    assert list(tmp_path.iterdir()) == [tmp_path / "log.csv"]


def test_a_log_cut_off_anywhere_keeps_its_whole_rows(tmp_path):
    path = tmp_path / "log.csv"
    write_log(path, [10, 20])
    content = path.read_bytes()
    starts = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    assert len(starts) == 3
    for n in range(starts[0], len(content) + 1):
        path.write_bytes(content[:n])
        n_whole = sum(n >= end for end in starts[1:])
        assert [row["step"] for row in read_log(path)] == ["10", "20"][:n_whole], n
        TrainingLog(path, step=100)
        assert content.startswith(path.read_bytes()), n
