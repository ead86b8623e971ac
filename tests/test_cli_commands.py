import csv
import json
import subprocess
import sys

import pytest
from small_run import (
    BN,
    N_IMAGES,
    SETTINGS,
    outcomes,
    read_table,
    small_run,
    some_archs,
    write_archs,
)

from wsx.cli import main
from wsx.spaces import SPACES
from wsx.spaces.nasbench201 import NASBENCH201

DATA = ["--data", "digits", "--n-train", "256", "--n-valid", "64", "--n-test", "101"]
# Torch is hidden from every finder, as where it is not installed.
WITHOUT_TORCH = """
import sys

class Hidden:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            return None
        return self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Hidden(finder) for finder in sys.meta_path]
from wsx.cli import main
main()
"""


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.getbasetemp())


@pytest.fixture
def wsx(monkeypatch, capsys):
    """Return a function that runs a command that must succeed, and returns its stdout."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["wsx", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        assert (end.value.code, captured.err) == (0, "")
        return captured.out

    return call


@pytest.fixture
def archs(tmp_path):
    return write_archs(tmp_path / "archs.txt", some_archs(8, seed=11))


@pytest.fixture
def truth(tmp_path):
    rows = [
        f"{NASBENCH201.format(arch)},0.{50 + i}" for i, arch in enumerate(some_archs(8, seed=11))
    ]
    (tmp_path / "truth.csv").write_text("\n".join(["arch,digits_test", *rows]) + "\n")
    return f"{tmp_path / 'truth.csv'}:digits_test"


def test_spaces_as_json_and_as_table(wsx):
    spaces = json.loads(wsx("spaces", "--json"))
    assert [space["name"] for space in spaces] == list(SPACES)
    (space,) = (space for space in spaces if space["name"] == "nasbench201")
    assert (space["name"], space["n_archs"], space["n_decisions"]) == ("nasbench201", 15625, 6)
    facts = json.loads(wsx("spaces", "nasbench201", "--json"))
    assert facts["measures"]["reachable"] == 15284
    assert NASBENCH201.format(NASBENCH201.parse(facts["example"])) == facts["example"]
    assert "15,625" in wsx("spaces")
    assert "nor_conv_3x3" in wsx("spaces", "nasbench201")


def test_recipes_as_json_and_as_table(wsx):
    recipes = json.loads(wsx("recipes", "--json"))
    assert {"default", "digits", "p1-nasbench201", "p2-nasbench201"} <= set(recipes)
    assert recipes["p1-nasbench201"]["batch_size"] == 256
    assert "p1-nasbench201" in wsx("recipes")
    one = json.loads(wsx("recipes", "p1-nasbench201", "--json"))
    assert one == recipes["p1-nasbench201"]
    assert "weight_decay" in wsx("recipes", "p1-nasbench201")


def test_train_goes_on_where_it_stopped(wsx, tmp_path):
    settings = {**SETTINGS, "epochs": "1"}
    command = ["train", "--space", "nasbench201", *DATA, "--recipe", "digits", "--json"]
    command += [part for pair in settings.items() for part in ("--set", "=".join(pair))]
    first = json.loads(wsx(*command, "--out", tmp_path / "run"))
    assert first["checkpoint"] == "epoch-0001"
    assert first["steps done now"] == 256 // 32
    again = json.loads(wsx(*command, "--out", tmp_path / "run"))
    assert again["steps done now"] == 0


def test_evaluate_says_what_it_did_and_what_it_skipped(wsx, run, archs, tmp_path):
    command = ["evaluate", run.path, "--archs", archs, "--bn", BN, "--out", tmp_path / "s.h5"]
    first = json.loads(wsx(*command, "--json"))
    assert (first["run"] + first["shared a function"], first["there already"]) == (8, 0)
    assert (first["failed"], first["bn"]) == (0, BN)
    again = json.loads(wsx(*command, "--json"))
    assert (again["run"], again["there already"]) == (0, 8)
    assert "there already" in wsx(*command)


def test_numbers_of_archs_are_the_official_indices(wsx, run, tmp_path):
    (tmp_path / "archs.txt").write_text("0\n15624\n")
    out = tmp_path / "s.h5"
    wsx("evaluate", run.path, "--archs", tmp_path / "archs.txt", "--bn", "running", "--out", out)
    expected = {NASBENCH201.format(NASBENCH201.arch_at(i)) for i in (0, 15624)}
    assert set(outcomes(read_table(out))) == expected


def test_export_says_what_it_wrote_and_verified(wsx, run, archs, tmp_path):
    command = ["export-subnets", run.path, "--archs", archs, "--bn", BN, "--out", tmp_path / "out"]
    first = json.loads(wsx(*command, "--json", "--verify", "all"))
    assert (first["written"], first["verified"], first["disagreeing"]) == (8, 8, 0)
    assert first["subnets/s"] > 0
    assert len(list((tmp_path / "out").glob("*.onnx"))) == 8
    again = json.loads(wsx(*command, "--json", "--verify", 0))
    assert (again["written"], again["there already"], again["subnets/s"]) == (0, 8, None)
    assert "bytes per subnet" in wsx(*command)


def test_analyze_as_json_and_as_table(wsx, run, archs, truth, tmp_path):
    scores = tmp_path / "s.h5"
    wsx("evaluate", run.path, "--archs", archs, "--bn", BN, "--out", scores)
    command = ["analyze", scores, "--truth", truth, "--resamples", "20"]
    facts = json.loads(wsx(*command, "--json"))
    tau = facts["summary"]["metrics"]["kendall_tau"]
    low, high = (tau["intervals"]["archs"][end] for end in ("low", "high"))
    assert -1 <= low <= tau["value"] <= high <= 1
    assert (facts["n_scored"], facts["n_without_truth"]) == (8, 0)
    by_loss = json.loads(wsx(*command, "--json", "--by", "loss"))
    assert by_loss["ranked_by"] == "loss"
    assert "images" not in by_loss["summary"]["metrics"]["kendall_tau"]["intervals"]
    assert "Kendall" in wsx(*command)
    assert json.loads(wsx("analyze", scores, "--json"))["summary"] is None


def test_report_and_tables_are_written(wsx, run, archs, truth, tmp_path):
    scores = tmp_path / "s.h5"
    wsx("evaluate", run.path, "--archs", archs, "--bn", BN, "--out", scores)
    page = tmp_path / "report.html"
    shown = wsx("report", scores, "--truth", truth, "--out", page, "--resamples", "20")
    assert "report.html" in "".join(shown.split())
    pictures = set(map(str, tmp_path.glob("**/*.png")))
    assert pictures
    paths = json.loads(
        wsx("report", scores, "--truth", truth, "--out", page, "--resamples", "0", "--json")
    )
    assert paths.pop("page") == str(page)
    assert set(paths.values()) == pictures
    wsx("export-scores", scores, "--out", tmp_path / "s.csv")
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert len(rows) == 8
    table = read_table(scores)
    assert {row["text"]: int(row["correct"]) for row in rows} == {
        str(text): int(n) for text, n in zip(table.text, table.correct, strict=True)
    }
    wsx("export-scores", scores, "--out", tmp_path / "s.parquet")
    assert (tmp_path / "s.parquet").stat().st_size > 0


def test_the_doctor_finds_cpu_sessions(wsx):
    diagnosis = json.loads(wsx("doctor", "--json"))
    assert diagnosis["problems"] == []
    assert diagnosis["facts"]["CPU sessions"] == "work"


def without_torch(*arguments):
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_folder_is_scored_analysed_and_reported_without_torch(wsx, run, archs, truth, tmp_path):
    wsx("export-subnets", run.path, "--archs", archs, "--bn", BN, "--out", tmp_path / "subnets")
    wsx("evaluate", run.path, "--archs", archs, "--bn", BN, "--out", tmp_path / "run.h5")
    scores, page = tmp_path / "folder.h5", tmp_path / "report.html"
    done = without_torch("evaluate", tmp_path / "subnets", "--out", scores, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["failed"] == 0
    found, expected = read_table(scores), read_table(tmp_path / "run.h5")
    assert outcomes(found) == outcomes(expected)
    assert found.key == expected.key
    assert found.total.tolist() == [N_IMAGES] * 8
    options = ["--truth", truth, "--resamples", "20"]
    done = without_torch("analyze", scores, *options, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["n_scored"] == 8
    done = without_torch("report", scores, *options, "--out", page)
    assert (done.returncode, done.stderr) == (0, "")
    assert page.stat().st_size > 1000


def test_training_without_torch_is_one_line(tmp_path):
    done = without_torch("train", "--space", "nasbench201", *DATA, "--out", tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr == "wsx: No module named 'torch'\n"
