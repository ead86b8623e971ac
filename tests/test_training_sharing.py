import dataclasses
import json

import pytest
import torch
from small_run import read_table

from wsx.data import load_data
from wsx.errors import ArchError, CheckpointError, OptionError, UnknownNameError
from wsx.exporters.folder import open_folder
from wsx.spaces import SPACES
from wsx.spaces.choice import ArchChoice
from wsx.spaces.folds import structured_folds, write_archs, write_groups
from wsx.spaces.restricted import only
from wsx.studies.evaluate_folder import evaluate_folder
from wsx.studies.evaluate_run import evaluate_run
from wsx.studies.export_run import export_run
from wsx.studies.run_subnets import RunSubnets
from wsx.supernets import build_supernet
from wsx.supernets.checkpoint import load_tensors
from wsx.training import DataSpec, Recipe, RunConfig, open_run
from wsx.training import supernet as supernet_module
from wsx.training.augment import Batches
from wsx.training.branches import best_branch, next_config
from wsx.training.loop import Trainer
from wsx.training.supernet import train_supernet

CELL64 = SPACES["cell64"]
ALL = list(CELL64.enumerate())
MACRO = {"channels": 2, "cells": 2}
DATA = DataSpec("digits", n_train=40, n_valid=20, n_test=20)
RECIPE = Recipe(epochs=2, batch_size=20, checkpoint_epochs=1, crop_padding=1, supernet=MACRO)
CONVS = "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|nor_conv_1x1~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def config_of(space="cell64", **changes):
    recipe = (
        dataclasses.replace(RECIPE, supernet={**MACRO, "cells": 1}) if space != "cell64" else RECIPE
    )
    return dataclasses.replace(RunConfig(space, recipe, DATA, 0), **changes)


# A step ----------------------------------------------------------------------------------------------------


def steps_of(sharing, archs):
    """State before, state after and arch of every step."""
    recipe = dataclasses.replace(RECIPE, epochs=1, batch_size=8, weight_decay=0.01)
    data = load_data("digits", n_train=8 * len(archs), n_valid=20, n_test=20).train
    macro = {**MACRO, "in_channels": 1, "image_size": 8, "is_affine": True}
    net = build_supernet("cell64", macro, seed=1, sharing=sharing)
    batches = Batches(data, recipe, seed=1, device=torch.device("cpu"))
    passes = lambda step: [lambda x: net(x, archs[step])]  # noqa: E731
    trainer = Trainer(net, passes, batches, recipe, seed=1)
    before = {name: tensor.clone() for name, tensor in trainer.state().items()}
    for arch, _ in zip(archs, trainer.run(), strict=True):
        after = {name: tensor.clone() for name, tensor in trainer.state().items()}
        yield before, after, arch
        before = after


def changed(before, after):
    names = [name for name in after if name != "sums"]
    return {n for n in names if n not in before or not torch.equal(before[n], after[n])}


def test_weights_and_momentum_of_other_groups_stand_still():
    archs = [(0, 1, 2), (3, 1, 2), (0, 1, 2), (3, 1, 2), (3, 1, 2)]
    sharing = {"groups": "by:0->1", "shared": "prefix:1"}
    everything = set()
    for before, after, arch in steps_of(sharing, archs):
        moved = changed(before, after)
        private = [
            n
            for n in moved
            if not n.partition(".")[2].startswith(("members.0.stem", "members.0.cells.0"))
        ]
        assert private
        assert all(n.partition(".")[2].startswith(f"members.{arch[0]}.") for n in private)
        # The prefix is everybody's, and is stored in the first member.
        assert "weight.members.0.stem.0.weight" in moved
        assert "momentum.members.0.stem.0.weight" in moved
        everything |= moved
    assert {n.split(".")[2] for n in everything} == {"0", "3"}
    assert not any("members.3.stem" in name for name in after)
    assert any(name.startswith("momentum.members.3.cells.1.") for name in after)


def test_without_groups_the_same_step_moves_everything():
    archs = [(0, 1, 2), (3, 1, 2)]
    _, (before, after, _) = steps_of({}, archs)
    shared = "cells.1.edges.1.1"
    names = {n for n in after if n.startswith((f"momentum.{shared}", f"weight.{shared}"))}
    assert names
    assert names | {"weight.classifier.weight", "momentum.classifier.weight"} <= changed(
        before, after
    )


# Runs ------------------------------------------------------------------------------------------------------


def test_a_grouped_run_resumes_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(supernet_module, "SAVE_EVERY_S", 0.0)
    config = config_of(sharing={"groups": "random:4", "shared": "prefix:1"})
    whole = train_supernet(config, tmp_path / "whole")
    assert whole.config.sharing == {"groups": "random:4:42", "shared": "prefix:1"}

    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.step == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_supernet(config, tmp_path / "cut", on_progress=stop)
    cut = train_supernet(open_run(tmp_path / "cut").config, tmp_path / "cut")
    one, facts = load_tensors(whole.checkpoint_path())
    other, _ = load_tensors(cut.checkpoint_path())
    assert facts["sharing"] == config.pinned().sharing
    assert "restriction" not in facts
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {
            "sharing": {"groups": "random:4", "shared": "prefix:1"},
            "restriction": {"0->1": ["dil_conv", "sep_conv_3x3"]},
        },
        {"space": "nasbench201", "sharing": {"arch": CONVS, "copies": 3}},
    ],
    ids=["groups", "copies"],
)
def test_runs_are_scored_and_exported_like_any_other(tmp_path, changes):
    run = train_supernet(config_of(**changes), tmp_path / "run")
    assert open_run(tmp_path / "run") == run
    space = run.load()[0].space
    scores = {}
    for engine in ("onnx", "torch"):
        out = tmp_path / f"{engine}.h5"
        subnets = RunSubnets(run, "calibrated:1x20")
        evaluate_run(subnets, out, choice=ArchChoice(n=4), engine=engine, device="cpu")
        table = read_table(out)
        scores[engine] = {str(t): table.score(i).correct for i, t in enumerate(table.text)}
    assert scores["onnx"] == scores["torch"]
    archs = [space.parse(text) for text in scores["onnx"]]
    assert all(space.is_valid(arch) for arch in archs)
    export = export_run(
        RunSubnets(run, "calibrated:1x20"),
        tmp_path / "out",
        choice=ArchChoice(n=4),
        n_verified=None,
    )
    assert export.problems == []
    # The folder alone says what its archs are.
    folder = open_folder(tmp_path / "out")
    assert {folder.space.format(arch) for arch in folder.rows} == set(scores["onnx"])
    evaluate_folder(tmp_path / "out", tmp_path / "again.h5", data=None, device="cpu")
    table = read_table(tmp_path / "again.h5")
    again = {str(t): table.score(i).correct for i, t in enumerate(table.text)}
    assert again == scores["onnx"]


def test_a_restricted_run_trains_and_draws_what_is_left(tmp_path):
    restriction = {"0->1": ["dil_conv"], "1->2": ["sep_conv_3x3", "sep_conv_5x5"]}
    config = config_of(restriction=restriction)
    assert config.archs.n_archs == 8
    run = train_supernet(config, tmp_path / "run")
    before = build_supernet("cell64", run.load()[1].facts["supernet"], seed=0).state_dict()
    after = run.load()[0].state_dict()
    # Edge 0->1 has the dilated convolution alone, edge 1->2 the separable ones.
    moved = {
        n
        for n in before
        if ".edges." in n and "num_batches" not in n and not torch.equal(before[n], after[n])
    }
    used = {tuple(name.split(".")[3:5]) for name in moved}
    assert {option for edge, option in used if edge == "0"} == {"3"}
    assert {option for edge, option in used if edge == "2"} <= {"1", "2"}
    drawn = ArchChoice(takes_all=True).archs(run.load()[0].space)
    assert set(drawn) == {a for a in ALL if a[0] == 3 and a[2] in (1, 2)}
    assert json.loads((run.path / "run.json").read_text())["restriction"] == restriction


def test_a_fold_is_trained_on_as_a_list(tmp_path):
    fold = structured_folds(ALL, CELL64, "0->2")["max_pool_3x3"]
    measure = write_archs(tmp_path / "fold.txt", CELL64, fold)
    config = config_of(recipe=dataclasses.replace(RECIPE, measure=measure, epochs=1))
    run = train_supernet(config, tmp_path / "run")
    before = build_supernet("cell64", run.load()[1].facts["supernet"], seed=0).state_dict()
    after = run.load()[0].state_dict()
    others = [n for n in before if ".edges.1." in n and ".edges.1.0." not in n]
    assert others
    assert all(torch.equal(before[n], after[n]) for n in others)


def test_one_arch_under_the_supernets_recipe(tmp_path):
    config = config_of(restriction=only(CELL64, (3, 2, 3)))
    assert list(config.archs.enumerate()) == [(3, 2, 3)]
    run = train_supernet(config, tmp_path / "run")
    assert list(run.load()[0].space.enumerate()) == [(3, 2, 3)]


def test_groups_in_a_file_are_part_of_the_run(tmp_path):
    path = tmp_path / "groups.txt"
    groups = write_groups(path, CELL64, [ALL[:32], ALL[32:]])
    config = config_of(sharing={"groups": groups})
    run = train_supernet(config, tmp_path / "run")
    assert train_supernet(config, tmp_path / "run") == run
    assert run.load()[0].grouping.of(ALL[40]) == 1
    write_groups(path, CELL64, [ALL[:30], ALL[30:]])
    with pytest.raises(CheckpointError, match=r"sharing\.groups is 'list:.*', not 'list:"):
        train_supernet(config, tmp_path / "run")
    with pytest.raises(CheckpointError, match="the groups have changed"):
        run.load()
    write_groups(path, CELL64, [ALL[:2], ALL[2:4]])
    with pytest.raises(ArchError, match=r"is in no group of .*groups\.txt"):
        train_supernet(config, tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"restriction": {"0->9": ["dil_conv"]}},
            UnknownNameError,
            "no decision of cell64 named '0->9'",
        ),
        ({"restriction": {"0->1": ["dil"]}}, UnknownNameError, "Did you mean dil_conv"),
        ({"restriction": {"0->1": []}}, OptionError, "at least one option"),
        ({"restriction": "0->1=dil_conv"}, OptionError, "must give options by the name"),
        (
            {"sharing": {"groups": "random:2", "shared": "prefx:1"}},
            UnknownNameError,
            "Did you mean prefix",
        ),
        ({"sharing": 3}, OptionError, "must give values by name"),
        ({"init_from": 3}, OptionError, "init_from is 3"),
    ],
)
def test_bad_configurations_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        config_of(**changes)


@pytest.mark.parametrize("name", ["restriction", "sharing", "init_from"])
def test_damaged_run_files_are_refused(tmp_path, name):
    values = {"format_version": 1, **config_of().as_dict(), name: [1, 2]}
    (tmp_path / "run.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="is no run of wsx"):
        open_run(tmp_path)


def test_runs_of_before_have_none_of_this(tmp_path):
    values = {"format_version": 1, **config_of().as_dict()}
    for name in ("restriction", "sharing", "init_from"):
        del values[name]
    (tmp_path / "run.json").write_text(json.dumps(values))
    assert open_run(tmp_path).config == config_of()


# Heirs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    torch.set_num_threads(1)
    return train_supernet(config_of(), tmp_path_factory.mktemp("parent") / "run")


def test_members_start_from_the_parent(parent, tmp_path):
    config = config_of(sharing={"groups": "by:0->1"}, init_from=str(parent.path), seed=5)
    weights = parent.load()[0].state_dict()
    child = config.pinned().build(parent.load()[1].facts["supernet"])
    assert len(child.members) == 4
    for member in child.members:
        assert all(torch.equal(t, weights[name]) for name, t in member.state_dict().items())
    run = train_supernet(config, tmp_path / "child")
    path, _, digest = run.config.init_from.rpartition("@")
    assert (path, digest) == (str(parent.checkpoint_path()), parent.load()[1].sha256)
    assert open_run(run.path) == run


def test_training_goes_on_without_the_parent(parent, tmp_path):
    copy = tmp_path / "parent.safetensors"
    copy.write_bytes(parent.checkpoint_path("epoch-0001").read_bytes())
    config = config_of(init_from=str(copy)).pinned()
    run = train_supernet(config, tmp_path / "child")
    copy.unlink()
    assert train_supernet(config, tmp_path / "child") == run
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        train_supernet(config, tmp_path / "new")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        train_supernet(config_of(init_from=str(copy)), tmp_path / "child")
    copy.write_bytes(parent.checkpoint_path().read_bytes())
    with pytest.raises(CheckpointError, match=r"init_from is '.*', not '"):
        train_supernet(config_of(init_from=str(copy)), tmp_path / "child")


# Branches --------------------------------------------------------------------------------------------------

# Decisions 0->1, 0->2, 1->2; options max-pooling, 3x3, 5x5, dilated.
SCORES = {(0, 3): 0.5, (1, 1): 0.9, (1, 2): float("nan"), (2, 0): 0.9}


def test_branches_are_fixed_one_after_another(parent, tmp_path):
    config = next_config(parent, SCORES)
    assert config.restriction == {"0->2": ["sep_conv_3x3"]}
    assert config.init_from.startswith(str(parent.checkpoint_path()))
    run = train_supernet(config, tmp_path / "second")
    shorter = dataclasses.replace(RECIPE, epochs=1)
    third = next_config(run, SCORES, checkpoint="epoch-0001", recipe=shorter)
    assert third.restriction == {"0->2": ["sep_conv_3x3"], "1->2": ["max_pool_3x3"]}
    assert third.recipe == shorter
    assert "epoch-0001" in third.init_from
    last = train_supernet(third, tmp_path / "third")
    assert {arch[1:] for arch in last.load()[0].space.enumerate()} == {(1, 0)}
    start = third.build(last.load()[1].facts["supernet"]).state_dict()
    weights = run.load("epoch-0001")[0].state_dict()
    assert all(torch.equal(start[name], weights[name]) for name in weights)


def test_branches_that_are_not_open_are_passed_over():
    config = config_of(restriction={"0->1": ["dil_conv"], "0->2": ["max_pool_3x3", "sep_conv_5x5"]})
    scores = {(0, 3): 9.0, (1, 1): 8.0, (2, 3): -3.0}
    assert best_branch(config, scores) == (2, 3)
    assert best_branch(config, {**scores, (1, 2): -1.0}) == (1, 2)
    closed = config_of(restriction=only(CELL64, (0, 0, 0)))
    with pytest.raises(OptionError, match=r"none of 3 scores .* open are none"):
        best_branch(closed, scores)
    with pytest.raises(OptionError, match=r"none of 0 scores .* open are 0->1, 0->2, 1->2"):
        best_branch(config_of(), {})
    for branch in ((3, 0), (0, 4), (-1, 0)):
        with pytest.raises(OptionError, match="is no decision and option of cell64"):
            best_branch(config_of(), {branch: 1.0})
