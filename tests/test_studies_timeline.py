import shutil
from dataclasses import replace

import numpy as np
import pytest
from own_spaces import SMALL, ToyNet, isolated_registries, toy_space
from small_run import losses, outcomes, read_table
from timeline_runs import ARCHS, CHECKPOINTS, DATA, IMAGES, SPACE, choose, timeline_run

from wsx.errors import CheckpointError, DataError, OptionError
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.recorder import Recorder
from wsx.exporters.subnets import SubnetRecorder
from wsx.store import open_store
from wsx.studies.evaluate_run import evaluate_run
from wsx.studies.panel import read_panel
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import ScoringOptions
from wsx.studies.timeline import _MindfulRecorder, choose_checkpoints, evaluate_checkpoints
from wsx.supernets import build_supernet, supernet_of
from wsx.supernets.checkpoint import load_supernet, load_tensors, save_tensors
from wsx.training import Run, open_run
from wsx.training.run import DataSpec

BN = "calibrated:1x32"
OPTIONS = ScoringOptions(16, 2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return [timeline_run(tmp_path_factory.getbasetemp(), seed) for seed in (0, 1)]


def sweep(runs, out, *, checkpoints="all", archs=ARCHS, bn=BN, **options):
    return evaluate_checkpoints(
        runs,
        checkpoints,
        out,
        choice=choose(out.parent, archs),
        bn=bn,
        images=IMAGES,
        device="cpu",
        options=OPTIONS,
        **options,
    )


@pytest.fixture(scope="module")
def swept(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("swept") / "s.h5"
    return out, sweep(runs, out)


def tables(path):
    with open_store(path) as store:
        return {table.key: table for table in store.tables()}


def assert_same_scores(one, other):
    one, other = tables(one), tables(other)
    assert set(one) == set(other)
    for key, table in one.items():
        assert outcomes(table) == outcomes(other[key])
        assert np.array_equal(losses(table), losses(other[key]))


def test_every_checkpoint_is_a_campaign(runs, swept):
    out, report = swept
    assert (report.n_checkpoints, report.n_there, report.n_scored, report.n_run) == (8, 0, 32, 32)
    assert (report.n_finished, report.n_failed, report.failures) == (0, 0, {})
    panel = read_panel(out)
    assert panel.runs == ("timeline-0", "timeline-1")
    assert panel.checkpoints == CHECKPOINTS
    assert panel.steps.tolist() == [[1, 2, 3, 4]] * 2
    assert panel.epochs.tolist() == [[1, 1, 2, 2]] * 2
    assert panel.archs == tuple(map(SPACE.format, sorted(ARCHS)))
    assert [config["seed"] for config in panel.configs] == [0, 1]
    # Were cells alike, none could be mixed up.
    assert len(set(panel.loss_sum.flat)) == 32


@pytest.mark.parametrize(("run", "checkpoint"), [(0, "step-0000003"), (1, "epoch-0001")])
def test_a_cell_equals_a_plain_evaluation(runs, swept, tmp_path, run, checkpoint):
    key, _ = evaluate_run(
        RunSubnets(runs[run], BN, checkpoint),
        tmp_path / "plain.h5",
        choice=choose(tmp_path, ARCHS),
        images=IMAGES,
        device="cpu",
        options=ScoringOptions(7, 1),
    )
    plain, cell = read_table(tmp_path / "plain.h5"), tables(swept[0])[key]
    assert outcomes(cell) == outcomes(plain)
    np.testing.assert_allclose(losses(cell), losses(plain), rtol=2e-6)
    assert cell.info == plain.info
    column = (run, CHECKPOINTS.index(checkpoint))
    panel = read_panel(swept[0], archs=list(plain.text))
    assert panel.correct[column].tolist() == plain.correct.tolist()


def test_a_sweep_goes_on_with_what_plain_evaluations_left(runs, swept, tmp_path):
    out = tmp_path / "s.h5"
    subnets = RunSubnets(runs[0], BN, "epoch-0001")
    evaluate_run(
        subnets,
        out,
        choice=choose(tmp_path, ARCHS[:2]),
        images=IMAGES,
        device="cpu",
        options=OPTIONS,
    )
    report = sweep(runs, out)
    assert (report.n_finished, report.n_scored) == (2, 30)
    assert_same_scores(out, swept[0])


class StoppedError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("n_before", [0, 9])
def test_interrupted_and_resumed_equals_uninterrupted(runs, swept, tmp_path, n_before):
    def stop(n_done, n_all, note):
        if n_done >= n_before:
            raise StoppedError

    out = tmp_path / "s.h5"
    with pytest.raises(StoppedError):
        sweep(runs, out, on_progress=stop)
    n_kept = sum(map(len, tables(out).values())) if out.exists() else 0
    assert n_before <= n_kept < 32
    report = sweep(runs, out)
    assert (report.n_finished, report.n_scored) == (n_kept, 32 - n_kept)
    assert report.n_there == n_kept // 4
    assert_same_scores(out, swept[0])


def test_what_is_finished_is_not_even_opened(runs, swept, tmp_path, monkeypatch):
    out = tmp_path / "s.h5"
    shutil.copyfile(swept[0], out)
    opened = []
    monkeypatch.setattr(
        "wsx.studies.timeline.load_supernet",
        lambda path: opened.append(path) or load_supernet(path),
    )
    told = []
    report = sweep(runs, out, on_progress=lambda *told_now: told.append(told_now))
    assert (report.n_there, report.n_scored, report.n_finished) == (8, 0, 32)
    # The first of each run, for what all have in common.
    assert len(opened) == 2
    assert told == []


def test_progress_has_one_total(runs, tmp_path):
    told = []
    sweep(runs, tmp_path / "s.h5", checkpoints="epochs", on_progress=lambda *now: told.append(now))
    done, totals, notes = zip(*told, strict=True)
    assert set(totals) == {16}
    assert list(done) == sorted(done)
    assert (done[0], done[-1]) == (0, 16)
    names = [f"timeline-{run} epoch-000{epoch}" for run in (0, 1) for epoch in (1, 2)]
    assert list(dict.fromkeys(notes)) == names


def test_data_is_loaded_and_archs_are_recorded_once(runs, tmp_path, monkeypatch):
    counts = {"load": 0, "record": 0}

    def counted(owner, name):
        plain = getattr(owner, name)

        def call(self, *arguments):
            counts[name] += 1
            return plain(self, *arguments)

        monkeypatch.setattr(owner, name, call)

    counted(DataSpec, "load")
    counted(Recorder, "record")
    sweep(runs, tmp_path / "s.h5", checkpoints="steps")
    assert counts == {"load": 1, "record": len(ARCHS)}


def test_graphs_of_sliced_weights_are_recorded_anew():
    with isolated_registries():
        supernet_of(toy_space())(ToyNet)
        mode, graphs, arch = BatchNormMode("batch"), {}, (0, 0, 0)
        for seed in (0, 1):
            supernet = build_supernet("toy", SMALL, seed=seed).eval()
            recorder = _MindfulRecorder(supernet, mode, graphs)
            names = recorder.record(arch).weight_names()
            assert any(name.startswith("derived.") for name in names)
            assert names == SubnetRecorder(supernet, mode).record(arch).weight_names()
        assert graphs == {}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("all", CHECKPOINTS),
        ("epochs", CHECKPOINTS[1::2]),
        ("steps", CHECKPOINTS[::2]),
        ("last", CHECKPOINTS[-1:]),
        ("last:3", CHECKPOINTS[1:]),
        ("last:3:2", CHECKPOINTS[1::2]),
        ("last:4:3", CHECKPOINTS[::3]),
        ("last:4:9", CHECKPOINTS[-1:]),
        ("epoch-0002, step-0000001", (CHECKPOINTS[0], CHECKPOINTS[3])),
        ("step-*[13],last:1", (CHECKPOINTS[0], CHECKPOINTS[2], CHECKPOINTS[3])),
        ("last:2,epochs,last", CHECKPOINTS[1:]),
    ],
)
def test_checkpoints_are_chosen_in_the_order_of_steps(runs, choice, expected):
    assert tuple(path.stem for path in choose_checkpoints(runs[0], choice)) == expected


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        ("epoch-0009", CheckpointError, "no checkpoint 'epoch-0009'; it has 4, step-0000001 to"),
        ("epochs,", CheckpointError, "no checkpoint ''"),
        ("last:5", CheckpointError, "has 4 checkpoints, fewer than last:5"),
        ("last:0", OptionError, "at least 1"),
        ("last:x", OptionError, "'last:x'"),
        ("last:-1", OptionError, "'last:-1'"),
        ("last:", OptionError, "'last:'"),
        ("last:2:0", OptionError, "'last:2:0'"),
        ("last:2:1:1", OptionError, "'last:2:1:1'"),
    ],
)
def test_choices_of_nothing_are_errors(runs, tmp_path, choice, error, message):
    with pytest.raises(error, match=message):
        sweep(runs, tmp_path / "s.h5", checkpoints=choice)
    assert not (tmp_path / "s.h5").exists()


def test_a_run_without_checkpoints_says_so(runs, tmp_path):
    with pytest.raises(CheckpointError, match="it has none yet"):
        choose_checkpoints(Run(tmp_path, runs[0].config), "all")


@pytest.fixture
def copied(runs, tmp_path):
    shutil.copytree(runs[0].path, tmp_path / "timeline-0")
    return open_run(tmp_path / "timeline-0")


def test_a_truncated_checkpoint_is_named_before_anything_is_scored(copied, tmp_path):
    path = copied.checkpoint_path("step-0000003")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"step-0000003.safetensors is truncated"):
        sweep([copied], tmp_path / "s.h5")
    assert not (tmp_path / "s.h5").exists()


def test_an_unusable_checkpoint_is_reported_and_scored_once_it_is_mended(copied, swept, tmp_path):
    path, out = copied.checkpoint_path("step-0000003"), tmp_path / "s.h5"
    tensors, facts = load_tensors(path)
    lost = tensors.pop("classifier.bias")
    save_tensors(path, tensors, facts)
    report = sweep([copied], out)
    assert list(report.failures) == [str(path)]
    assert "does not hold a supernet of wsx" in report.failures[str(path)]
    assert (report.n_scored, report.n_finished) == (12, 0)
    save_tensors(path, tensors | {"classifier.bias": lost}, facts)
    report = sweep([copied], out)
    assert (report.n_scored, report.n_finished, report.failures) == (4, 12, {})
    np.testing.assert_array_equal(read_panel(out).loss_sum, read_panel(swept[0]).loss_sum[:1])


def test_runs_that_split_their_data_otherwise_are_refused(runs, tmp_path):
    other = timeline_run(tmp_path, 0, data=replace(DATA, seed=1), epochs=1)
    with pytest.raises(DataError, match="do not split their data alike"):
        sweep([runs[0], other], tmp_path / "s.h5", checkpoints="last")


def test_runs_must_be_of_one_space_and_differ(runs, tmp_path):
    for wrong in ([], [runs[0], runs[0]]):
        with pytest.raises(OptionError, match="runs of one space are needed, each once"):
            sweep(wrong, tmp_path / "s.h5")
    with pytest.raises(OptionError, match="leave --isolate out"):
        evaluate_checkpoints(
            runs,
            "all",
            tmp_path / "s.h5",
            choice=choose(tmp_path, ARCHS),
            bn=BN,
            options=ScoringOptions(is_isolated=True),
        )
