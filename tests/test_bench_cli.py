import json

import pytest
from small_run import N_IMAGES, small_run

from wsx.bench import machine

pytestmark = pytest.mark.slow

TINY = [
    *("--set", "channels=4", "--set", "cells=1", "--set", "image_size=8"),
    *("--workers", "1", "--device", "cpu"),
]
FEW = ["--archs", "2", "--images", "20", "--repeats", "1", "--bn", "calibrated:1x16"]


@pytest.fixture(autouse=True)
def _small_matrices(monkeypatch):
    monkeypatch.setitem(machine.MATRIX_SIDE, "cpu", 16)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.getbasetemp())


def test_a_quick_table_has_every_row_and_the_file_says_the_same(wsx, tmp_path, monkeypatch):
    monkeypatch.setattr("wsx.bench.tuned.BATCH_SIZES", {"cpu": (32,)})
    monkeypatch.setattr("wsx.bench.tuned.N_SEARCH_REPEATS", 1)
    out = tmp_path / "bench.json"
    arguments = ["--quick", "--bn", "calibrated:1x16", "--images", "40", "--repeats", "1"]
    code, printed, err = wsx("bench", *TINY, *arguments, "--out", out, "--quiet")
    assert (code, err) == (0, "")
    values = json.loads(out.read_text())
    names = [row["name"] for row in values["rows"] if row["precision"] == "float32"]
    assert names == ["wsx", "b1", "p1", "b4", "b8", "t1"]
    assert values["conditions"]["n_archs"] == 2
    assert values["conditions"]["n_repeats"] == 1
    for row in values["rows"]:
        assert row["what"][:20] in printed
        assert f"{row['archs_per_min']['median']:.1f}" in printed
    assert printed.count("2 of 2") >= 6
    assert "calibrate, ms" in printed


def test_a_run_is_measured_on_its_own_images(wsx, run):
    arguments = ["--archs", "2", "--images", "50", "--repeats", "1", "--bn", "batch", "--json"]
    more = ["--batch-size", "32", "--baselines", "b1,b8", "--workers", "1", "--device", "cpu"]
    code, printed, _ = wsx("bench", "--run", run.path, *arguments, *more, "--quiet")
    values = json.loads(printed)
    assert code == 0
    assert values["conditions"]["dataset"] == "digits"
    assert (values["conditions"]["n_images"], values["conditions"]["bn"]) == (50, "batch")
    assert len(values["conditions"]["checkpoint"]) == 64
    assert [row["name"] for row in values["rows"]] == ["wsx", "b1"]
    assert "no mode batch" in values["left_out"]["b8"]


def test_progress_goes_to_stderr_and_results_to_stdout(wsx):
    code, printed, _ = wsx("bench", *TINY, *FEW, "--baselines", "none", "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(printed)["rows"]] == ["wsx"]


def test_training_steps_are_measured(wsx, run, tmp_path):
    out = tmp_path / "steps.json"
    sizes = ["--batch-size", "8", "--steps", "1", "--repeats", "1", "--quiet", "--out", out]
    code, printed, err = wsx("bench-training", *TINY, *sizes)
    assert (code, err) == (0, "")
    assert "plain" in printed
    values = json.loads(out.read_text())
    assert [row["name"] for row in values["rows"]][::3] == ["wsx", "plain"]
    code, printed, _ = wsx("bench-training", "--run", run.path, *sizes, "--workers", "1", "--json")
    assert code == 0
    assert json.loads(printed)["conditions"]["n_images"] == 256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "--archs", "0"], "--archs is 0"),
        (["bench", "--archs", "99999"], "cannot draw 99999 archs"),
        (["bench", "--images", "0"], "--images is 0"),
        (["bench", "--repeats", "0"], "--repeats is 0"),
        (["bench", "--baselines", "b1,b9"], "no baseline named 'b9'"),
        (["bench", "--baselines", ""], "no baseline named ''"),
        (["bench", "--baselines", "t1,t1"], "twice"),
        (["bench", "--bn", "calibrated"], "BatchNorm mode 'calibrated'"),
        (["bench", "--bn", "batch"], "--batch-size"),
        (["bench", "--device", "tpu"], "device 'tpu'"),
        (["bench", "--measure", "nonsense"], "no sampling measure"),
        (["bench", "--data", "digits"], "--run"),
        (["bench", "--set", "channels"], "KEY=VALUE"),
        (["bench", "--set", "chanels=3"], "Did you mean channels"),
        (["bench", "--space", "nasbench21"], "no space named"),
        (["bench", "--run", "missing"], "holds no run"),
        (["bench", "--run", "missing", "--space", "nasbench201"], "leave --space"),
        (["bench-training", "--steps", "0"], "--steps is 0"),
        (["bench-training", "--batch-size", "0"], "--batch-size is 0"),
        (["bench-training", "--device", "nonsense"], "nonsense"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(wsx, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed, err = wsx(*arguments)
    assert (code, printed) == (1, "")
    assert err.startswith("wsx: ")
    assert err.count("\n") == 1
    assert message in err


def test_more_images_than_a_run_has_are_refused(wsx, run):
    code, _, err = wsx("bench", "--run", run.path, "--images", "5000", "--bn", "running")
    assert code == 1
    assert f"has {N_IMAGES}" in err
