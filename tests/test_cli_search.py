import json
from functools import partial

import pytest
from small_run import BN, read_table, small_run

from wsx.spaces.nasbench201 import NASBENCH201

TABLE = ["--space", "nasbench201", "--truth", "digits-nasbench201", "--algorithm", "random"]
EVOLUTION = ["--budget", "20", "--population", "8", "--tournament", "3", "--per-round", "4"]


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.getbasetemp())


@pytest.fixture
def wsx(wsx):
    """Return a function that runs ``wsx search``: exit code, stdout, stderr."""
    return partial(wsx, "search")


@pytest.fixture
def found(wsx):
    """Return a function that runs a search that must succeed, and returns its stdout."""

    def call(*arguments):
        code, out, err = wsx(*arguments)
        assert (code, err) == (0, "")
        return out

    return call


@pytest.fixture
def refused(wsx):
    """Return a function that runs a search that must fail on purpose, and returns its message."""

    def call(*arguments):
        code, out, err = wsx(*arguments)
        assert (code, out, err.count("\n")) == (1, "", 1)
        return err

    return call


def test_a_run_is_searched_and_a_repeated_command_runs_nothing(found, run, tmp_path):
    command = [run.path, *EVOLUTION, "--bn", BN, "--device", "cpu", "--out", tmp_path / "s.h5"]
    command += ["--top", "2", "--truth", "digits-nasbench201", "--rescore-split", "test"]
    command += ["--max-params", "5e3", "--workers", "1", "--batch-size", "32"]
    report = json.loads(found(*command, "--json"))
    assert report["settings"]["limits"] == {"max_params": 5000.0}
    assert report["n_trials"] == 20
    assert len(report["winners"]) == 2
    for winner in report["winners"]:
        assert NASBENCH201.format(NASBENCH201.parse(winner["arch"])) == winner["arch"]
        assert winner["searched"]["low"] <= winner["value"] <= winner["searched"]["high"]
        assert winner["searched"]["n_images"] == 64
        assert winner["rescored"]["n_images"] == 101
        assert winner["cost"]["params"] <= 5000
    table = read_table(tmp_path / "s.h5", report["campaign"][:16])
    assert len(table) == report["n_different"]
    again = json.loads(found(*command, "--json"))
    assert (again["n_run"], again["n_there_already"]) == (0, report["n_different"])
    assert again["winners"] == report["winners"]
    shown = " ".join(found(*command).split())
    for part in ("64 valid images", "optimistic", "which chose nothing", "true rank", "top 2", "%"):
        assert part in shown


def test_a_table_is_searched_without_a_run(found):
    report = json.loads(found(*TABLE, "--budget", "160", "--top", "1", "--json"))
    (winner,) = report["winners"]
    assert winner["standing"]["regret"] == 0
    assert (report["campaign"], report["split"], winner["searched"]) == (None, None, None)
    shown = found(*TABLE, "--budget", "160", "--top", "1")
    assert "regret" in shown
    assert "searched on" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a run or an exported folder; or --space and --truth"),
        (["--space", "nasbench201"], "name it with --truth"),
        (
            [*TABLE, "--out", "s.h5", "--bn", "running"],
            "leave out --out, --bn: a search without a run",
        ),
        ([*TABLE, "--rescore-split", "test"], "leave out --rescore-split: a search"),
        ([*TABLE, "--population", "3"], "--population is of no use to random search"),
        ([*TABLE, "--budget", "161"], "exceeds the 160 archs"),
        ([*TABLE, "--min-flops", "5", "--max-flops", "4"], "no arch satisfies both"),
        (["--algorithm", "annealing"], "no search algorithm named 'annealing'"),
        (["run"], "name a score file with --out"),
        (
            ["run", "--out", "s.h5", "--set", "lr=1"],
            "leave out --set: it changes the recipe of --standalone",
        ),
        (["run", "--out", "s.h5"], "run holds no run"),
        (["run", "--out", "s.h5", "--standalone", "digits"], "run holds no run"),
        (["run", "--out", "s.h5", "--merge", "0"], "--merge '0'"),
    ],
)
def test_what_cannot_be_done_is_one_line(refused, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*arguments, "--quiet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_mistakes_about_training_alone_show_before_the_search(refused, run, tmp_path):
    command = [run.path, *EVOLUTION, "--bn", BN, "--out", tmp_path / "s.h5", "--standalone"]
    assert "no recipe named 'digit'" in refused(*command, "digit")
    assert "is for text" in refused(*command, "p1-darts-ptb")
    assert "--seeds '1,1' names a seed twice" in refused(*command, "run", "--seeds", "1,1")
    assert not (tmp_path / "s.h5").exists()
