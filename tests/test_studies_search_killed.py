import json
import os
import signal
import subprocess
import sys
import time

import pytest
from search_folders import edges_folder
from small_run import losses, outcomes, read_table, small_run

from wsx.errors import StoreError

N_KILLS = 3
# A folder is searched without torch, which also starts faster.
WITHOUT_TORCH = """
import sys

class NoTorch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, NoTorch)
from wsx.cli import main
main()
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    return edges_folder(small_run(base), base, "running")


def start(folder, out):
    rules = ["--budget", "40", "--population", "12", "--per-round", "3", "--tournament", "4"]
    command = [sys.executable, "-c", WITHOUT_TORCH, "search", folder, *rules, "--out", out]
    command += ["--device", "cpu", "--workers", "2", "--quiet", "--json", "--top", "5"]
    return subprocess.Popen(
        [*map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def n_finished(path):
    try:
        return len(read_table(path))
    except StoreError:
        # Until the writer has made the file there is none.
        return 0


@pytest.mark.slow
def test_killed_at_any_instant_the_search_goes_on_and_ends_the_same(folder, tmp_path):
    stdout, stderr = start(folder, tmp_path / "whole.h5").communicate()
    assert stderr == b""
    whole = json.loads(stdout)
    out = tmp_path / "s.h5"
    n_killed = n_seen = 0
    for _ in range(N_KILLS):
        process = start(folder, out)
        while process.poll() is None and n_finished(out) < n_seen + 6:
            time.sleep(0.005)
        n_killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert n_finished(out) >= n_seen
        n_seen = n_finished(out)
    assert n_killed >= 2
    stdout, stderr = start(folder, out).communicate()
    assert stderr == b""
    found = json.loads(stdout)
    assert found["n_there_already"] == n_seen
    for report in (whole, found):
        del report["n_there_already"], report["n_run"]
    assert found == whole
    assert outcomes(read_table(out)) == outcomes(read_table(tmp_path / "whole.h5"))
    assert sorted(losses(read_table(out))) == sorted(losses(read_table(tmp_path / "whole.h5")))
