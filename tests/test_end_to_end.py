import json
import subprocess
import sys

import pytest
from small_run import outcomes, read_table

from wsx.truth import load_truth

pytestmark = pytest.mark.slow
BN = "calibrated:2x64"
SPACE = ["--space", "nasbench201", "--data", "digits"]
SPACE += ["--n-train", "512", "--n-valid", "100", "--n-test", "301"]
SMALL = ["--set", "channels=4", "--set", "cells=1"]


class Shell:
    """Runs wsx in a folder, each command in a process of its own."""

    def __init__(self, folder):
        self.folder = folder

    def start(self, *arguments):
        command = [sys.executable, "-m", "wsx.cli", *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __call__(self, *arguments):
        process = self.start(*arguments)
        out, err = process.communicate()
        # Slow commands log their progress on stderr.
        assert process.returncode == 0, err
        assert "wsx: " not in err
        return out

    def killed(self, *arguments, when):
        """Start a command, kill it when a path exists, and tell whether it was still at work."""
        process = self.start(*arguments)
        while process.poll() is None and not when():
            pass
        was_running = process.poll() is None
        process.kill()
        process.communicate()
        return was_running


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path)


def test_the_loop_from_training_to_report(shell, tmp_path):
    shell("train", *SPACE, "--recipe", "digits", *SMALL, "--set", "epochs=6", "--out", "run")
    alone = ["--recipe", "digits-standalone", *SMALL, "--set", "epochs=2", "--measure", "functions"]
    shell("train-standalone", *SPACE, *alone, "--n", 6, "--seeds", "0,1", "--out", "truth.parquet")
    truth = load_truth(tmp_path / "truth.parquet")
    assert len(truth) == 6
    assert truth.per_seed.shape == (6, 2)
    (tmp_path / "archs.txt").write_text("\n".join(truth.texts) + "\n")

    archs = ["--archs", "archs.txt", "--bn", BN]
    export = ["export-subnets", "run", *archs, "--verify", "all", "--out", "subnets", "--json"]
    exported = json.loads(shell(*export))
    assert (exported["written"], exported["verified"], exported["disagreeing"]) == (6, 6, 0)
    shell("evaluate", "run", *archs, "--out", "run.h5")
    shell("evaluate", "subnets", "--out", "folder.h5")
    shell("evaluate", "run", *archs, "--engine", "torch", "--out", "torch.h5")
    tables = [read_table(tmp_path / f"{name}.h5") for name in ("run", "folder", "torch")]
    assert outcomes(tables[0]) == outcomes(tables[1]) == outcomes(tables[2])
    assert tables[0].key == tables[1].key != tables[2].key

    facts = json.loads(shell("analyze", "run.h5", "--truth", "truth.parquet", "--json"))
    assert facts["summary"]["n_archs"] == 6
    assert "intervals" in facts["summary"]["metrics"]["kendall_tau"]
    shell("report", "run.h5", "--truth", "truth.parquet", "--out", "report.html")
    assert truth.texts[0] in (tmp_path / "report.html").read_text()


def test_killed_and_repeated_gives_the_same_run_and_scores(shell, tmp_path):
    recipe = ["--recipe", "digits", *SMALL, "--set", "epochs=6", "--set", "checkpoint_epochs=2"]
    train = ["train", *SPACE, *recipe, "--out"]
    shell(*train, "whole")
    checkpoint = tmp_path / "parts" / "checkpoints" / "epoch-0002.safetensors"
    assert shell.killed(*train, "parts", when=checkpoint.exists)
    shell(*train, "parts")
    for name in ("epoch-0002", "epoch-0004", "epoch-0006"):
        path = tmp_path / "parts" / "checkpoints" / f"{name}.safetensors"
        whole = tmp_path / "whole" / "checkpoints" / path.name
        assert path.read_bytes() == whole.read_bytes()

    export = ["export-subnets", "whole", "--n", 40, "--bn", BN, "--verify", 0, "--out"]
    shell(*export, "whole-subnets")
    third = tmp_path / "part-subnets" / "000003.onnx"
    assert shell.killed(*export, "part-subnets", when=third.exists)
    shell(*export, "part-subnets")
    names = {path.name for path in (tmp_path / "whole-subnets").iterdir()}
    assert {path.name for path in (tmp_path / "part-subnets").iterdir()} == names
    assert len(names) == 43
    for name in names:
        whole = (tmp_path / "whole-subnets" / name).read_bytes()
        assert (tmp_path / "part-subnets" / name).read_bytes() == whole

    shell("evaluate", "whole-subnets", "--out", "whole.h5")
    evaluate = ["evaluate", "part-subnets", "--out", "part.h5"]
    journal = tmp_path / "part.h5.journal"
    shell.killed(*evaluate, when=lambda: journal.exists() and journal.stat().st_size > 0)
    shell(*evaluate)
    assert outcomes(read_table(tmp_path / "part.h5")) == outcomes(read_table(tmp_path / "whole.h5"))


def test_the_demo_ends_with_tau_and_a_report(shell, tmp_path):
    shown = shell("demo", "--out", "demo")
    assert "Kendall tau with stand-alone truth over" in shown
    assert "95 % interval" in shown
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000
    table = read_table(tmp_path / "demo" / "scores.h5")
    assert len(table) >= 128
    assert table.ok.all()
    again = shell("demo", "--out", "demo")
    assert "(0 run now)" in " ".join(again.split())
