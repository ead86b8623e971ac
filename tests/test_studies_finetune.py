from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_run import AtOnce, losses, outcomes
from timeline_runs import ARCHS, DATA, IMAGES, RECIPE, SPACE, choose, timeline_run
from torch.nn import functional as F

from wsx.data import ImageSet
from wsx.errors import CheckpointError, DataError, ExportError, OptionError
from wsx.exporters.extract import extract
from wsx.spaces import SPACES
from wsx.store import open_store
from wsx.studies import finetune_task
from wsx.studies.evaluate_run import evaluate_run
from wsx.studies.finetune import (
    FinetuneReport,
    finetune_then_score,
    finetuned_sha256,
)
from wsx.studies.images import ImageChoice
from wsx.studies.panel import read_panel
from wsx.studies.processes import training_processes
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import ScoringOptions
from wsx.training import RunConfig, train_supernet
from wsx.training.augment import Batches
from wsx.training.finetune import Finetuning

BN_MODES = ("running", "calibrated:1x32", "batch")
SETTINGS = Finetuning(0.1, seed=2)
N_BATCHES = [3, 0, 1]
BATCH_SIZE = 7


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return timeline_run(tmp_path_factory.getbasetemp(), 0)


def tune(run, out, *, bn="running", archs=ARCHS, n_batches=N_BATCHES, **options):
    defaults = {"settings": SETTINGS, "executor": AtOnce(), "images": IMAGES}
    return finetune_then_score(
        RunSubnets(run, bn, options.pop("checkpoint", "last")),
        out,
        choice=choose(out.parent, archs, run),
        n_batches=n_batches,
        batch_size=BATCH_SIZE,
        **defaults | options,
    )


def tables(path):
    """Return the table of every campaign, by number of batches."""
    with open_store(path) as store:
        return {t.info.get("finetune", {}).get("n_batches", 0): t for t in store.tables()}


def assert_same_scores(one, other):
    assert one.keys() == other.keys()
    for n, table in one.items():
        assert table.key == other[n].key
        assert outcomes(table) == outcomes(other[n])
        assert np.array_equal(losses(table), losses(other[n]))


@pytest.fixture(scope="module")
def tuned(run, tmp_path_factory):
    """Paths of uninterrupted fine-tuning in each mode."""
    folder = tmp_path_factory.mktemp("tuned")
    paths = {}
    for bn in BN_MODES:
        paths[bn] = folder / f"{bn[:4]}.h5"
        report = tune(run, paths[bn], bn=bn)
        assert report == FinetuneReport(n_trained=4, n_scored=12, n_finished=0, n_failed=0)
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("bn", BN_MODES)
def test_no_batches_give_the_score_of_the_checkpoint_itself(run, tuned, tmp_path, bn):
    key, _ = evaluate_run(
        RunSubnets(run, bn),
        tmp_path / "plain.h5",
        choice=choose(tmp_path, ARCHS),
        images=IMAGES,
        device="cpu",
        options=ScoringOptions(BATCH_SIZE, 1),
    )
    with open_store(tmp_path / "plain.h5") as store:
        assert_same_scores({0: tables(tuned[bn])[0]}, {0: store.read(key)})
        assert tables(tuned[bn])[0].info == store.read(key).info


def forward_of(module, bn, dataset):
    """Return the logits of a trained module in a BatchNorm mode, by layers' own switches."""
    norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    module.eval()
    if bn.startswith("calibrated"):
        for norm in norms:
            norm.train()
            # What one batch leaves is then its own mean and, but for the correction, its variance.
            norm.momentum = 1.0
        sizes = [
            n.register_forward_hook(lambda m, i, _: setattr(m, "n", i[0][:, 0].numel()))
            for n in norms
        ]
        with torch.no_grad():
            module(torch.from_numpy(dataset.train.floats(0, 32)))
        for norm, hook in zip(norms, sizes, strict=True):
            norm.running_var *= (norm.n - 1) / norm.n
            hook.remove()
        module.eval()
    for norm in norms:
        norm.train(bn == "batch")
    images = IMAGES.images(dataset)
    with torch.no_grad():
        parts = [
            module(torch.from_numpy(images.floats(start, start + BATCH_SIZE)))
            for start in range(0, len(images), BATCH_SIZE)
        ]
    return torch.cat(parts), torch.from_numpy(images.labels)


@pytest.mark.slow
@pytest.mark.parametrize("bn", BN_MODES)
def test_scores_equal_those_of_a_loop_written_by_hand(run, tuned, bn):
    dataset, device = DATA.load(), torch.device("cpu")
    table = tables(tuned[bn])[3]
    for text, arch in zip(map(SPACE.format, ARCHS), ARCHS, strict=True):
        module = extract(run.load()[0], arch).train()
        optimizer = torch.optim.SGD(
            module.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        batches = Batches(dataset.train, RECIPE, seed=2, device=device)
        for step in range(3):
            x, labels = batches[step]
            optimizer.zero_grad()
            F.cross_entropy(module(x), labels).backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), RECIPE.clip)
            optimizer.step()
        logits, labels = forward_of(module, bn, dataset)
        row = table.text.tolist().index(text)
        loss = float(F.cross_entropy(logits, labels, reduction="sum"))
        assert table.loss_sum[row] == pytest.approx(loss, rel=1e-4)
        assert table.outcomes()[row].tolist() == (logits.argmax(1) == labels).tolist()


def test_the_panel_has_a_column_for_every_number_of_batches(tuned):
    panel = read_panel(tuned["running"], is_finetuned=True)
    assert panel.checkpoints == ("epoch-0002", "epoch-0002+1", "epoch-0002+3")
    assert panel.n_batches.tolist() == [0, 1, 3]
    # Were cells alike, none could be mixed up.
    assert len(set(panel.loss_sum.flat)) == 12
    for n, table in tables(tuned["running"]).items():
        by_text = dict(zip(table.text, table.loss_sum, strict=True))
        column = panel.n_batches.tolist().index(n)
        assert panel.loss_sum[0, column].tolist() == [by_text[text] for text in panel.archs]


class StoppedError(Exception):
    pass


@pytest.mark.slow
def test_interrupted_and_resumed_equals_uninterrupted(run, tuned, tmp_path):
    def stop(n_done, n_all, note):
        assert n_all == 12
        if n_done >= 6:
            raise StoppedError

    out = tmp_path / "s.h5"
    with pytest.raises(StoppedError):
        tune(run, out, on_progress=stop)
    told = []
    report = tune(run, out, on_progress=lambda *now: told.append(now))
    assert report == FinetuneReport(n_trained=2, n_scored=6, n_finished=6, n_failed=0)
    assert [now[:2] for now in told] == [(0, 6), (3, 6), (6, 6)]
    assert_same_scores(tables(out), tables(tuned["running"]))
    assert tune(run, out) == FinetuneReport(0, 0, 12, 0)


def test_further_archs_and_numbers_of_batches_change_nothing(run, tuned, tmp_path):
    out = tmp_path / "s.h5"
    tune(run, out, archs=ARCHS[2:], n_batches=[1])
    report = tune(run, out)
    assert report == FinetuneReport(n_trained=4, n_scored=10, n_finished=2, n_failed=0)
    assert_same_scores(tables(out), tables(tuned["running"]))


@pytest.mark.slow  # Worker processes import torch, seconds each.
def test_processes_give_the_same_scores(run, tuned, tmp_path):
    with training_processes(2, SPACES[run.config.space]) as executor:
        tune(run, tmp_path / "s.h5", archs=ARCHS[::-1], executor=executor)
    assert_same_scores(tables(tmp_path / "s.h5"), tables(tuned["running"]))


def test_archs_that_compute_the_same_are_trained_once(tmp_path):
    space = SPACES["nasbench201"]
    archs = list(space.enumerate())[3000:3400]
    key, n = Counter(map(space.function_key, archs)).most_common(1)[0]
    assert n >= 3
    same = [arch for arch in archs if space.function_key(arch) == key][:3]
    recipe = replace(RECIPE, epochs=1, checkpoint_steps=0, supernet={"channels": 2, "cells": 1})
    run = train_supernet(RunConfig("nasbench201", recipe, DATA, 0), tmp_path / "run")
    report = tune(run, tmp_path / "s.h5", archs=same, n_batches=[1, 2])
    assert report == FinetuneReport(n_trained=1, n_scored=6, n_finished=0, n_failed=0)
    for table in tables(tmp_path / "s.h5").values():
        assert len(table) == 3
        assert len(set(table.loss_sum)) == 1


def test_what_diverges_is_a_row_without_finite_loss_and_is_not_tried_again(run, tmp_path):
    settings = Finetuning(1e30)
    out = tmp_path / "s.h5"
    report = tune(run, out, archs=ARCHS[1:3], n_batches=[0, 8], settings=settings)
    assert report == FinetuneReport(n_trained=2, n_scored=4, n_finished=0, n_failed=2)
    found = tables(out)
    assert found[0].status.tolist() == ["ok", "ok"]
    assert found[8].status.tolist() == ["not-finite", "not-finite"]
    assert all("lower lr or clip" in error for error in found[8].error)
    assert tune(run, out, archs=ARCHS[1:3], n_batches=[0, 8], settings=settings).n_trained == 0


@pytest.mark.slow
def test_what_cannot_be_trained_is_a_row_with_its_error_and_is_tried_again(
    run, tuned, tmp_path, monkeypatch
):
    plain = finetune_task.LoneSubnet

    def refuse(supernet, arch):
        if arch == ARCHS[0]:
            raise ExportError("no emitter for cumsum")
        return plain(supernet, arch)

    with monkeypatch.context() as patch:
        patch.setattr(finetune_task, "LoneSubnet", refuse)
        report = tune(run, tmp_path / "s.h5")
    assert (report.n_scored, report.n_failed) == (12, 3)
    for table in tables(tmp_path / "s.h5").values():
        assert table.error[table.status == "failed"].tolist() == [
            "ExportError: no emitter for cumsum"
        ]
    assert tune(run, tmp_path / "s.h5") == FinetuneReport(1, 3, 9, 0)
    assert_same_scores(tables(tmp_path / "s.h5"), tables(tuned["running"]))


def test_keys_tell_apart_all_that_weights_follow_from(run):
    train = DATA.load().train
    fewer = ImageSet(**{**vars(train), "labels": train.labels[::-1].copy()})
    digests = [
        finetuned_sha256("a" * 64, SETTINGS, RECIPE, train, 1),
        finetuned_sha256("b" * 64, SETTINGS, RECIPE, train, 1),
        finetuned_sha256("a" * 64, replace(SETTINGS, lr=0.2), RECIPE, train, 1),
        finetuned_sha256("a" * 64, replace(SETTINGS, seed=3), RECIPE, train, 1),
        finetuned_sha256("a" * 64, replace(SETTINGS, momentum="supernet"), RECIPE, train, 1),
        finetuned_sha256("a" * 64, SETTINGS, replace(RECIPE, batch_size=16), train, 1),
        finetuned_sha256("a" * 64, SETTINGS, RECIPE, train.take(40), 1),
        finetuned_sha256("a" * 64, SETTINGS, RECIPE, fewer, 1),
        finetuned_sha256("a" * 64, SETTINGS, RECIPE, train, 2),
    ]
    assert len(set(digests)) == len(digests)
    # The rate of the run's own training has no part in it.
    again = finetuned_sha256("a" * 64, SETTINGS, replace(RECIPE, lr=9.0), train, 1)
    assert again == digests[0]
    assert finetuned_sha256("a" * 64, SETTINGS, RECIPE, train, 0) == "a" * 64


def test_the_momentum_of_the_run_gives_scores_of_their_own(run, tuned, tmp_path):
    settings = replace(SETTINGS, momentum="supernet")
    out = tmp_path / "s.h5"
    tune(run, out, settings=settings)
    own, fresh = tables(out), tables(tuned["running"])
    assert_same_scores({0: own[0]}, {0: fresh[0]})
    for n in (1, 3):
        assert own[n].key != fresh[n].key
        assert not np.isclose(losses(own[n]), losses(fresh[n]), rtol=1e-3).any()
    with pytest.raises(CheckpointError, match="momentum of step 4 only"):
        tune(run, tmp_path / "other.h5", settings=settings, checkpoint="epoch-0001")
    assert not (tmp_path / "other.h5").exists()


@pytest.mark.parametrize("n_batches", [[], [-1], [1, -2]])
def test_numbers_of_batches_out_of_range_are_refused(run, tmp_path, n_batches):
    with pytest.raises(OptionError, match="one or several numbers of at least 0"):
        tune(run, tmp_path / "s.h5", n_batches=n_batches)


def test_other_bad_input_is_refused(run, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint 'epoch-0009'"):
        tune(run, tmp_path / "s.h5", checkpoint="epoch-0009")
    with pytest.raises(DataError, match="cannot take 4000 images"):
        tune(run, tmp_path / "s.h5", images=ImageChoice("test", 4000))
