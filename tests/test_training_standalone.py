import dataclasses
import json
import multiprocessing
from concurrent.futures import Executor, Future, ProcessPoolExecutor

import numpy as np
import pytest
import torch

from wsx.errors import DataError, OptionError, TrainingError, TruthError
from wsx.exporters.extract import extract
from wsx.spaces.choice import ArchChoice
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.studies.truth import make_truth
from wsx.supernets import build_supernet
from wsx.training import DataSpec, Recipe, RunConfig
from wsx.training import standalone as standalone_module
from wsx.training.loop import Trainer
from wsx.training.standalone import train_alone, train_standalone
from wsx.truth import read_truth

RECIPE = Recipe(
    epochs=2, batch_size=32, lr=0.1, crop_padding=1, supernet={"channels": 2, "cells": 1}
)
DATA = DataSpec("digits", n_train=64, n_valid=30, n_test=41)
CONFIG = RunConfig("nasbench201", RECIPE, DATA, 0)
ARCHS = [(3, 3, 3, 3, 3, 3), (3, 2, 3, 1, 4, 2), (1, 1, 1, 1, 1, 1), (0, 0, 0, 2, 0, 0)]
SEEDS = [0, 5]
MACRO = {"channels": 2, "cells": 1, "in_channels": 1, "image_size": 8, "n_classes": 10}


class Inline(Executor):
    """Runs each call at once, in this process, and counts them."""

    def __init__(self):
        self.n_calls = 0

    def submit(self, fn, /, *args, **keywords):
        self.n_calls += 1
        future = Future()
        try:
            future.set_result(fn(*args, **keywords))
        except Exception as error:
            future.set_exception(error)
        return future


def train(out, *, archs=ARCHS, seeds=SEEDS, config=CONFIG, on_score=None):
    executor = Inline()
    tables = train_standalone(config, archs, seeds, out, executor=executor, on_score=on_score)
    return tables, executor.n_calls


def rows_of(out):
    lines = out.with_name(out.name + ".rows.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The table's path and the tables of one uninterrupted call."""
    out = tmp_path_factory.mktemp("truth") / "deep" / "t.parquet"
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tables, n_calls = train(out)
    torch.set_num_threads(n_threads)
    assert n_calls == len(ARCHS) * len(SEEDS)
    return out, tables


def assert_same_tables(a, b):
    assert a.keys() == b.keys() == {"valid", "test"}
    for split in a:
        assert a[split].texts == b[split].texts
        assert np.array_equal(a[split].per_seed, b[split].per_seed)


def test_the_table_is_counts_over_totals(trained):
    out, tables = trained
    rows = {(row["text"], row["seed"]): row for row in rows_of(out)}
    assert len(rows) == 8
    for split, n_images in (("valid", 30), ("test", 41)):
        table = tables[split]
        assert table.texts == tuple(NASBENCH201.format(arch) for arch in ARCHS)
        assert (table.space, table.dataset, table.split) == ("nasbench201", "digits", split)
        for i, text in enumerate(table.texts):
            accuracies = []
            for j, seed in enumerate(SEEDS):
                row = rows[text, seed]
                assert row["total"][split] == n_images
                assert table.per_seed[i, j] == row["correct"][split] / n_images
                accuracies.append(row["correct"][split] / n_images)
            assert table.accuracy[i] == pytest.approx(sum(accuracies) / 2, abs=1e-15)
        assert table.info["seeds"] == SEEDS
        assert table.info["n_images"] == n_images
    # Where every count were the same, no order could be mixed up.
    assert len({tuple(row["correct"].values()) for row in rows.values()}) > 4


def test_costs_are_those_of_the_extracted_nets(trained):
    table = trained[1]["test"]
    for arch, n_params in zip(ARCHS, table.params, strict=True):
        macro = build_supernet("nasbench201", MACRO, seed=0).macro()
        cost = NASBENCH201.cost(arch, macro)
        assert cost.params == n_params
        net = extract(build_supernet("nasbench201", MACRO, seed=0), arch)
        assert sum(p.numel() for p in net.parameters()) == n_params


def test_counts_equal_a_count_image_by_image(monkeypatch):
    seen = []
    count = standalone_module._count_correct

    def recorded(model, images):
        seen.append((model, images, count(model, images)))
        return seen[-1][2]

    monkeypatch.setattr(standalone_module, "_count_correct", recorded)
    score = train_alone(CONFIG, ARCHS[1], 0)
    assert [images.split for _, images, _ in seen] == ["valid", "test"]
    for model, images, n_correct in seen:
        slow = 0
        for pixels, label in zip(images.pixels, images.labels, strict=True):
            x = (torch.tensor(pixels)[None] / 255 - images.mean[0]) / images.std[0]
            with torch.no_grad():
                slow += int(model.eval()(x).argmax()) == label
        assert slow == n_correct == score.correct[images.split]
        assert score.total[images.split] == len(images)


def test_scores_are_a_function_of_config_arch_and_seed():
    first = train_alone(CONFIG, ARCHS[0], 5)
    torch.rand(9)
    train_alone(CONFIG, ARCHS[1], 0)
    assert train_alone(CONFIG, ARCHS[0], 5) == first


@pytest.mark.slow
def test_a_longer_training_learns():
    recipe = dataclasses.replace(RECIPE, epochs=8, supernet={"channels": 4, "cells": 1})
    data = dataclasses.replace(DATA, n_train=320, n_test=100)
    score = train_alone(dataclasses.replace(CONFIG, recipe=recipe, data=data), ARCHS[0], 5)
    assert score.total["test"] == 100
    # Chance gives 10, with a standard deviation of 3.
    assert score.correct["test"] > 30


def initial_weights(monkeypatch, arch, seed):
    states = []

    class Recording(Trainer):
        def __init__(self, model, *args, **keywords):
            states.append({name: t.clone() for name, t in model.state_dict().items()})
            super().__init__(model, *args, **keywords)

    monkeypatch.setattr(standalone_module, "Trainer", Recording)
    train_alone(CONFIG, arch, seed)
    return states[0]


def test_a_net_alone_starts_afresh_from_its_seed(monkeypatch):
    arch = ARCHS[1]
    weights = initial_weights(monkeypatch, arch, 3)
    again = initial_weights(monkeypatch, arch, 3)
    other = initial_weights(monkeypatch, arch, 4)
    shared = extract(build_supernet("nasbench201", MACRO, seed=3), arch).state_dict()
    assert weights.keys() == again.keys() == other.keys() == shared.keys()
    n_drawn = 0
    for name, tensor in weights.items():
        assert torch.equal(tensor, again[name]), name
        if len(tensor.unique()) > 1:
            n_drawn += 1
            assert not torch.equal(tensor, other[name]), name
            # The stem is what either draws first from the seed.
            assert torch.equal(tensor, shared[name]) is (name == "stem_0.weight"), name
    assert n_drawn > 10


def test_a_second_command_trains_nothing(trained):
    out, tables = trained
    calls = []
    again, n_calls = train(out, on_score=lambda *call: calls.append(call))
    assert n_calls == 0
    assert calls == []
    assert_same_tables(again, tables)


def test_repeated_archs_are_trained_and_listed_once(trained, tmp_path):
    tables, n_calls = train(tmp_path / "t.csv", archs=[ARCHS[2], ARCHS[3], ARCHS[2]], seeds=[0])
    assert n_calls == 2
    assert tables["test"].texts == trained[1]["test"].texts[2:]
    assert np.array_equal(tables["test"].per_seed[:, 0], trained[1]["test"].per_seed[2:, 0])


def copy_rows(trained, out, n_rows, cut=""):
    lines = trained[0].with_name("t.parquet.rows.jsonl").read_text().splitlines(keepends=True)
    text = "".join(lines[: 1 + n_rows]) + cut
    out.with_name(out.name + ".rows.jsonl").write_text(text)
    return lines


@pytest.mark.parametrize("n_rows", [6, 7])
def test_an_interrupted_command_does_what_is_missing(trained, tmp_path, n_rows):
    out = tmp_path / "t.csv"
    copy_rows(trained, out, n_rows)
    calls = []
    tables, n_calls = train(out, on_score=lambda s, n_done, n_all: calls.append((n_done, n_all)))
    assert n_calls == 8 - n_rows
    assert calls == [(n, 8) for n in range(n_rows + 1, 9)]
    assert_same_tables(tables, trained[1])
    assert len(rows_of(out)) == 8


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_last_line_that_was_cut_off_is_trained_again(trained, tmp_path, share):
    out = tmp_path / "t.csv"
    lines = copy_rows(trained, out, 0)
    last = lines[8].rstrip("\n")
    copy_rows(trained, out, 7, cut=last[: max(1, int(share * len(last)))])
    tables, n_calls = train(out)
    assert n_calls == 1
    assert_same_tables(tables, trained[1])
    assert len(rows_of(out)) == 8


@pytest.mark.parametrize("text", ["", '{"space": "nasb', "{}\n", "\n"])
def test_a_file_without_any_score_is_begun_afresh(trained, tmp_path, text):
    (tmp_path / "t.csv.rows.jsonl").write_text(text)
    tables, n_calls = train(tmp_path / "t.csv", archs=ARCHS[3:], seeds=[0])
    assert n_calls == 1
    assert train(tmp_path / "t.csv", archs=ARCHS[3:], seeds=[0])[1] == 0
    assert tables["valid"].per_seed[0, 0] == trained[1]["valid"].per_seed[3, 0]


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": dataclasses.replace(RECIPE, lr=0.2)},
        {"data": dataclasses.replace(DATA, seed=1)},
        {"recipe": dataclasses.replace(RECIPE, supernet={"channels": 3, "cells": 1})},
    ],
)
def test_rows_of_another_configuration_are_refused(trained, change):
    out, _ = trained
    rows = out.with_name(out.name + ".rows.jsonl")
    before = rows.read_bytes()
    with pytest.raises(TruthError, match="belongs to another recipe, space or data"):
        train(out, config=dataclasses.replace(CONFIG, **change))
    assert rows.read_bytes() == before


def test_rows_written_before_an_option_came_are_gone_on_with(trained, tmp_path):
    out = tmp_path / "t.csv"
    lines = copy_rows(trained, out, 8)
    header = json.loads(lines[0])
    del header["recipe"]["raises_drop_path"]
    rows = out.with_name(out.name + ".rows.jsonl")
    rows.write_text("".join([json.dumps(header) + "\n", *lines[1:]]))
    assert train(out)[1] == 0
    recipe = dataclasses.replace(RECIPE, raises_drop_path=False)
    with pytest.raises(TruthError, match="belongs to another recipe, space or data"):
        train(out, config=dataclasses.replace(CONFIG, recipe=recipe))


@pytest.mark.parametrize(
    "line",
    [b"{\n", b"\0\0\0\n", b"[1]\n", b'{"text": "a", "sed": 1}\n', b"\xff\xfe\n", b"3\n", b"\n"],
)
def test_damaged_rows_are_refused(trained, tmp_path, line):
    copy_rows(trained, tmp_path / "t.csv", 3)
    path = tmp_path / "t.csv.rows.jsonl"
    path.write_bytes(path.read_bytes() + line)
    before = path.read_bytes()
    with pytest.raises(TruthError, match="is damaged"):
        train(tmp_path / "t.csv")
    assert path.read_bytes() == before


def test_a_training_that_diverges_is_named_and_the_others_are_kept(trained, tmp_path, monkeypatch):
    bad = NASBENCH201.format(ARCHS[1])

    def diverging(config, arch, seed):
        if arch == ARCHS[1] and seed == 5:
            raise TrainingError("the loss is nan at step 3 of 4")
        return train_alone(config, arch, seed)

    out = tmp_path / "t.csv"
    with monkeypatch.context() as context:
        context.setattr(standalone_module, "train_alone", diverging)
        with pytest.raises(TrainingError, match="1 trainings diverged, first") as caught:
            train(out, archs=ARCHS[:2])
    assert f"{bad} seed 5: the loss is nan at step 3" in str(caught.value)
    rows = rows_of(out)
    assert len(rows) == 3
    assert (bad, 5) not in {(row["text"], row["seed"]) for row in rows}
    tables, n_calls = train(out, archs=ARCHS[:2])
    assert n_calls == 1
    for split, table in tables.items():
        assert np.array_equal(table.per_seed, trained[1][split].per_seed[:2])


@pytest.mark.parametrize("step", [2, 4])
@pytest.mark.parametrize("weight_decay", [0.0, 1.0])  # finite but huge weights, infinite ones
def test_weights_ruined_by_a_planted_step_give_no_score(monkeypatch, step, weight_decay):
    # Step 4 is the last: no later loss would tell.
    monkeypatch.setattr(Trainer, "lr_at", lambda self, i: 3e38 if i + 1 == step else 0.1)
    recipe = dataclasses.replace(RECIPE, clip=0.0, weight_decay=weight_decay)
    message = "loss is (nan|inf) at step 3 of 4" if step == 2 else "logits .* not finite on valid"
    with pytest.raises(TrainingError, match=message):
        train_alone(dataclasses.replace(CONFIG, recipe=recipe), ARCHS[0], 0)


def test_fewer_images_than_a_batch_give_no_score():
    config = dataclasses.replace(CONFIG, recipe=dataclasses.replace(RECIPE, batch_size=65))
    with pytest.raises(DataError, match="64 training images, fewer than a batch of 65"):
        train_alone(config, ARCHS[0], 0)


def test_a_mistaken_option_does_not_block_the_path(tmp_path):
    macro = {**RECIPE.supernet, "n_classes": 5}
    wrong = dataclasses.replace(CONFIG, recipe=dataclasses.replace(RECIPE, supernet=macro))
    with pytest.raises(OptionError, match="n_classes to 5; the data has 10"):
        train(tmp_path / "t.csv", archs=ARCHS[3:], seeds=[0], config=wrong)
    assert train(tmp_path / "t.csv", archs=ARCHS[3:], seeds=[0])[1] == 1


def test_make_truth_refuses_bad_options(tmp_path):
    choice = ArchChoice(n=2)
    with pytest.raises(OptionError, match="split 'train' is none of"):
        make_truth(CONFIG, choice, [0], tmp_path / "t.csv", split="train", n_workers=1)
    with pytest.raises(OptionError, match="--workers is 0"):
        make_truth(CONFIG, choice, [0], tmp_path / "t.csv", split="test", n_workers=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_processes_give_what_one_process_gives(trained, tmp_path):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, torch.set_num_threads, (1,)) as executor:
        tables = train_standalone(CONFIG, ARCHS, SEEDS, tmp_path / "t.csv", executor=executor)
    assert_same_tables(tables, trained[1])


@pytest.mark.slow
def test_make_truth_writes_the_table_and_reports_to_the_end(trained, tmp_path):
    (tmp_path / "archs.txt").write_text("".join(f"{NASBENCH201.format(a)}\n" for a in ARCHS))
    copy_rows(trained, tmp_path / "t.parquet", 6)
    calls = []
    table = make_truth(
        CONFIG,
        ArchChoice(file=tmp_path / "archs.txt"),
        SEEDS,
        tmp_path / "t.parquet",
        split="test",
        n_workers=2,
        on_score=lambda n_done, n_all: calls.append((n_done, n_all)),
    )
    assert calls == [(7, 8), (8, 8)]
    assert np.array_equal(table.per_seed, trained[1]["test"].per_seed)
    written = read_truth(tmp_path / "t.parquet")
    assert written.texts == table.texts
    np.testing.assert_allclose(written.accuracy, table.accuracy, rtol=0, atol=1e-12)
