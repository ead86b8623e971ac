import json
import shutil

import numpy as np
import pytest
from small_run import (
    BN,
    BN_MODES,
    N_IMAGES,
    evaluate,
    losses,
    outcomes,
    read_table,
    small_run,
    some_archs,
    write_archs,
)

from wsx.analysis.race import RaceRules
from wsx.errors import CheckpointError, DataError, ExportError, OptionError
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces.choice import ArchChoice
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.studies.evaluate_folder import evaluate_folder
from wsx.studies.evaluate_run import evaluate_run
from wsx.studies.export_run import export_run
from wsx.studies.images import ImageChoice
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import Listener, ScoringOptions
from wsx.supernets.checkpoint import load_tensors, save_tensors
from wsx.training import open_run

ARCHS = some_archs(8, seed=5)
LOSS_TOLERANCE = 2e-5


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def reference(run, tmp_path_factory):
    """Scores of ARCHS in each mode, one worker, batches of 32."""
    folder = tmp_path_factory.mktemp("reference")
    tables = {}
    for bn in BN_MODES:
        out = folder / f"{bn.partition(':')[0]}.h5"
        evaluate(run, out, ARCHS, bn=bn, options=ScoringOptions(32, 1))
        tables[bn] = read_table(out)
    return tables


@pytest.fixture(scope="session")
def folders(run, tmp_path_factory):
    """ARCHS exported in each mode."""
    base = tmp_path_factory.mktemp("folders")
    choice = ArchChoice(file=write_archs(base / "archs.txt", ARCHS))
    paths = {}
    for bn in BN_MODES:
        paths[bn] = base / bn.partition(":")[0]
        export_run(RunSubnets(run, bn), paths[bn], choice=choice, n_verified=0)
    return paths


@pytest.mark.parametrize("bn", BN_MODES)
def test_order_and_workers_change_no_score(run, reference, tmp_path, bn):
    evaluate(run, tmp_path / "s.h5", ARCHS[::-1], bn=bn, options=ScoringOptions(32, 3))
    table = read_table(tmp_path / "s.h5")
    assert len(table) == len(ARCHS)
    assert outcomes(table) == outcomes(reference[bn])
    assert np.array_equal(losses(table), losses(reference[bn]))


@pytest.mark.slow  # Worker processes import torch, seconds each.
def test_worker_processes_give_the_same_scores(run, reference, tmp_path):
    options = ScoringOptions(n_workers=2, is_isolated=True)
    evaluate(run, tmp_path / "s.h5", ARCHS, bn=BN, options=options)
    table = read_table(tmp_path / "s.h5")
    assert outcomes(table) == outcomes(reference[BN])
    assert np.array_equal(losses(table), losses(reference[BN]))
    assert (table.seconds_run > 0).all()


@pytest.mark.parametrize("options", [{"engine": "torch"}, {"race": RaceRules(2, 0.05, 0.002, 0)}])
def test_worker_processes_neither_race_nor_run_the_oracle(run, tmp_path, options):
    with pytest.raises(OptionError, match="leave --isolate out"):
        evaluate_run(
            RunSubnets(run, BN),
            tmp_path / "s.h5",
            choice=ArchChoice(n=2),
            options=ScoringOptions(is_isolated=True),
            **options,
        )


def test_a_folder_is_scored_in_one_process(folders, tmp_path):
    with pytest.raises(OptionError, match="an exported folder is scored in one process"):
        evaluate_folder(folders[BN], tmp_path / "s.h5", options=ScoringOptions(is_isolated=True))


def test_devices_of_two_kinds_do_not_mix(run, tmp_path, monkeypatch):
    monkeypatch.setattr("wsx.evaluators.devices.cuda_problem", lambda index: None)
    with pytest.raises(OptionError, match="--device cpu,cuda:1 names several kinds"):
        evaluate_run(
            RunSubnets(run, BN), tmp_path / "s.h5", choice=ArchChoice(n=2), device="cpu,cuda:1"
        )


@pytest.mark.parametrize("bn", [BN, "running"])
@pytest.mark.parametrize("batch_size", [7, 101])
def test_the_batch_size_changes_no_score_and_no_key(run, reference, tmp_path, bn, batch_size):
    key, _ = evaluate(run, tmp_path / "s.h5", ARCHS, bn=bn, options=ScoringOptions(batch_size, 2))
    table = read_table(tmp_path / "s.h5")
    assert outcomes(table) == outcomes(reference[bn])
    np.testing.assert_allclose(losses(table), losses(reference[bn]), rtol=LOSS_TOLERANCE)
    assert key == reference[bn].key
    assert key.batch_size == 0


def test_in_batch_mode_the_batch_size_is_asked_for_and_kept(run, reference, tmp_path):
    with pytest.raises(OptionError, match=r"depend on the batch size.*--batch-size"):
        evaluate(run, tmp_path / "s.h5", ARCHS, bn="batch")
    key, _ = evaluate(run, tmp_path / "s.h5", ARCHS, bn="batch", options=ScoringOptions(50, 1))
    assert key.batch_size == 50
    assert key != reference["batch"].key
    assert outcomes(read_table(tmp_path / "s.h5")) != outcomes(reference["batch"])


@pytest.mark.parametrize("bn", BN_MODES)
def test_the_oracle_scores_alike_in_a_campaign_of_its_own(run, reference, tmp_path, bn):
    out = tmp_path / "s.h5"
    key, report = evaluate(run, out, ARCHS, bn=bn, engine="torch", options=ScoringOptions(32))
    assert key.provider == "torch-eager"
    assert key != reference[bn].key
    assert report.n_failed == 0
    found = outcomes(read_table(out))
    assert found == outcomes(reference[bn])
    np.testing.assert_allclose(losses(read_table(out)), losses(reference[bn]), rtol=LOSS_TOLERANCE)


@pytest.mark.parametrize("bn", BN_MODES)
def test_a_folder_scores_as_its_run_does(folders, reference, tmp_path, bn):
    key, report = evaluate_folder(
        folders[bn], tmp_path / "s.h5", device="cpu", options=ScoringOptions(32, 2)
    )
    assert key == reference[bn].key
    assert report.n_failed == 0
    assert outcomes(read_table(tmp_path / "s.h5")) == outcomes(reference[bn])


def test_a_folder_goes_on_with_the_campaign_of_its_run(run, folders, tmp_path):
    evaluate(run, tmp_path / "s.h5", ARCHS[:4], options=ScoringOptions(32, 1))
    _, report = evaluate_folder(folders[BN], tmp_path / "s.h5", device="cpu")
    assert (report.n_finished, report.n_run + report.n_shared) == (4, 4)
    assert len(read_table(tmp_path / "s.h5")) == len(ARCHS)


def test_equal_functions_score_equally_when_run_apart(run, tmp_path):
    groups = {}
    for arch in some_archs(600, seed=6, measure="reachable"):
        groups.setdefault(NASBENCH201.function_key(arch), []).append(arch)
    group = max(groups.values(), key=len)
    assert len(group) >= 4
    _, report = evaluate(run, tmp_path / "together.h5", group, options=ScoringOptions(32, 1))
    assert (report.n_run, report.n_shared) == (1, len(group) - 1)
    together = outcomes(read_table(tmp_path / "together.h5"))
    assert len({row[1:] for row in together.values()}) == 1
    for i, arch in enumerate(group[:4]):
        out = tmp_path / f"{i}.h5"
        evaluate(run, out, [arch], options=ScoringOptions(32, 1))
        (text, row), *_ = outcomes(read_table(out)).items()
        assert row == together[text]


def test_repeats_are_counted_and_scored_once(run, tmp_path):
    archs = [*ARCHS[:3], *ARCHS[:2], ARCHS[0]]
    _, report = evaluate(run, tmp_path / "s.h5", archs, options=ScoringOptions(32, 1))
    assert report.n_repeated == 3
    assert len(read_table(tmp_path / "s.h5")) == 3


def test_a_repeated_command_does_nothing_again(run, tmp_path):
    out = tmp_path / "s.h5"
    evaluate(run, out, ARCHS[:5], options=ScoringOptions(32, 1))
    first = read_table(out)
    scored = []
    listener = Listener(on_scored=lambda done, total: scored.append(done))
    _, report = evaluate(run, out, ARCHS[:7], options=ScoringOptions(32, 1), listener=listener)
    assert (report.n_finished, report.n_run) == (5, 2)
    second = read_table(out)
    assert second.text[:5].tolist() == first.text.tolist()
    assert second.seconds_run[:5].tolist() == first.seconds_run.tolist()
    _, report = evaluate(run, out, ARCHS[:7], options=ScoringOptions(32, 1))
    assert (report.n_finished, report.n_run, report.n_shared) == (7, 0, 0)


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("n_before", [0, 3])
def test_interrupted_and_resumed_equals_uninterrupted(run, reference, tmp_path, n_before):
    def stop(n_done, n_all):
        if n_done >= n_before:
            raise StoppedError

    out = tmp_path / "s.h5"
    options = ScoringOptions(32, 2)
    with pytest.raises(StoppedError):
        evaluate(run, out, ARCHS, options=options, listener=Listener(on_scored=stop))
    n_kept = len(read_table(out))
    assert n_before <= n_kept < len(ARCHS)
    _, report = evaluate(run, out, ARCHS, options=options)
    assert report.n_finished == n_kept
    assert outcomes(read_table(out)) == outcomes(reference[BN])
    assert np.array_equal(losses(read_table(out)), losses(reference[BN]))


@pytest.mark.parametrize("n_images", [1, 9, 64])
def test_fewer_images_are_the_first_ones(run, reference, tmp_path, n_images):
    out = tmp_path / "s.h5"
    key, _ = evaluate(run, out, ARCHS[:4], images=ImageChoice("test", n_images))
    assert key != reference[BN].key
    bits = read_table(out).outcomes()
    assert bits.shape == (4, n_images)
    everything = reference[BN]
    rows = [everything.text.tolist().index(text) for text in read_table(out).text]
    assert np.array_equal(bits, everything.outcomes()[rows][:, :n_images])


def test_the_validation_split_is_another_campaign(run, reference, tmp_path):
    out = tmp_path / "s.h5"
    key, _ = evaluate(run, out, ARCHS[:3], images=ImageChoice("valid"))
    assert key.images_sha256 != reference[BN].key.images_sha256
    assert read_table(out).total.tolist() == [64] * 3


def test_provenance_says_how_archs_were_drawn(run, tmp_path):
    choice = ArchChoice(n=3, seed=9, measure="functions")
    evaluate_run(RunSubnets(run, BN), tmp_path / "s.h5", choice=choice, device="cpu")
    info = read_table(tmp_path / "s.h5").info
    assert (info["measure"], info["n"], info["seed"]) == ("functions", 3, 9)
    assert info["checkpoint"] == "epoch-0002"
    assert {"wsx_version", "onnxruntime", "torch", "split", "run_seed"} <= set(info)


def test_weights_that_are_nan_give_rows_that_say_so(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    broken = open_run(tmp_path / "run")
    path = broken.checkpoint_path()
    tensors, facts = load_tensors(path)
    name = next(name for name in tensors if "edges.0.nor_conv_3x3.1.weight" in name)
    tensors[name][:] = float("nan")
    save_tensors(path, tensors, facts)
    archs = some_archs(12, seed=3, measure="functions")
    _, report = evaluate(broken, tmp_path / "s.h5", archs, bn="running")
    table = read_table(tmp_path / "s.h5")
    uses_it = [arch[0] == 3 for arch in map(tuple, table.arch.tolist())]
    assert 0 < sum(uses_it) < 12
    assert [status == "not-finite" for status in table.status] == uses_it
    assert all("nan" in str(table.error[i]) for i in np.flatnonzero(uses_it))
    assert report.n_failed == sum(uses_it)


def test_a_subnet_that_cannot_be_recorded_is_a_row_and_is_tried_again(run, tmp_path, monkeypatch):
    record = SubnetRecorder.record

    def refuse(self, arch):
        if arch in ARCHS[:2]:
            raise ExportError("no emitter for cumsum")
        return record(self, arch)

    out = tmp_path / "s.h5"
    with monkeypatch.context() as patch:
        patch.setattr(SubnetRecorder, "record", refuse)
        _, report = evaluate(run, out, ARCHS[:5], options=ScoringOptions(32, 1))
    assert report.n_failed == 2
    table = read_table(out)
    assert sorted(table.status) == ["failed"] * 2 + ["ok"] * 3
    assert set(table.error[table.status == "failed"]) == {"no emitter for cumsum"}
    _, report = evaluate(run, out, ARCHS[:5], options=ScoringOptions(32, 1))
    assert (report.n_failed, report.n_finished) == (0, 3)
    assert read_table(out).status.tolist() == ["ok"] * 5


def test_a_damaged_model_is_a_row_and_others_are_scored(folders, tmp_path):
    path = tmp_path / "subnets"
    shutil.copytree(folders[BN], path)
    models = sorted(path.glob("*.onnx"))
    # Of the right size, so that only reading it finds out; then one cut short.
    models[0].write_bytes(b"\xff" * models[0].stat().st_size)
    models[1].write_bytes(models[1].read_bytes()[:100])
    models[2].unlink()
    _, report = evaluate_folder(path, tmp_path / "s.h5", device="cpu")
    table = read_table(tmp_path / "s.h5")
    assert len(table) == len(ARCHS)
    assert report.n_failed == 3
    failed = np.flatnonzero(table.status == "failed")
    assert {str(table.text[i]) for i in failed} == {NASBENCH201.format(arch) for arch in ARCHS[:3]}
    assert all(str(table.error[i]) for i in failed)


def test_a_folder_lacks_archs_that_were_not_exported(folders, tmp_path):
    other = [arch for arch in some_archs(30, seed=8) if arch not in ARCHS][:2]
    choice = ArchChoice(file=write_archs(tmp_path / "archs.txt", [*ARCHS[:2], *other]))
    with pytest.raises(OptionError, match=r"lacks 2 of 4 archs, first \|"):
        evaluate_folder(folders[BN], tmp_path / "s.h5", choice=choice, device="cpu")


def test_a_folder_of_images_of_another_size_is_refused(folders, tmp_path):
    path = tmp_path / "subnets"
    shutil.copytree(folders[BN], path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["supernet"]["image_size"] = 16
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="8 pixels a side; the subnets take 1 and 16"):
        evaluate_folder(path, tmp_path / "s.h5", device="cpu")


def test_a_folder_without_data_asks_for_it(folders, tmp_path):
    path = tmp_path / "subnets"
    shutil.copytree(folders[BN], path)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["data"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"names no dataset.*--data"):
        evaluate_folder(path, tmp_path / "s.h5", device="cpu")
    _, report = evaluate_folder(path, tmp_path / "s.h5", data="digits", device="cpu")
    assert report.n_failed == 0


@pytest.mark.parametrize(
    ("options", "engine", "message"),
    [
        (ScoringOptions(0, 1), "onnx", "--batch-size is 0"),
        (ScoringOptions(-3, 1), "torch", "--batch-size is -3"),
        (ScoringOptions(32, 0), "onnx", "--workers is 0"),
    ],
)
def test_sizes_below_one_are_refused(run, tmp_path, options, engine, message):
    with pytest.raises(OptionError, match=message):
        evaluate(run, tmp_path / "s.h5", ARCHS[:1], options=options, engine=engine)
    assert not (tmp_path / "s.h5").exists()


def test_unknown_engines_splits_and_checkpoints_are_named(run, tmp_path):
    with pytest.raises(OptionError, match="'tvm' is none of: onnx, torch"):
        evaluate(run, tmp_path / "s.h5", ARCHS[:1], engine="tvm")
    with pytest.raises(OptionError, match="'train' is none of: valid, test"):
        evaluate(run, tmp_path / "s.h5", ARCHS[:1], images=ImageChoice("train"))
    choice = ArchChoice(n=1)
    with pytest.raises(CheckpointError, match="no checkpoint 'epoch-0009'; it has epoch-0002"):
        evaluate_run(RunSubnets(run, BN, "epoch-0009"), tmp_path / "s.h5", choice=choice)


def test_more_images_than_there_are_is_an_error(run, tmp_path):
    with pytest.raises(DataError, match=f"has {N_IMAGES}"):
        evaluate(run, tmp_path / "s.h5", ARCHS[:1], images=ImageChoice("test", N_IMAGES + 1))
