import contextlib
import subprocess
import sys
import time

import numpy as np
import pytest
from small_run import BN, evaluate, losses, outcomes, read_table, small_run, some_archs, write_archs

from wsx.errors import StoreError
from wsx.studies.scoring import ScoringOptions

ARCHS = some_archs(150, seed=12, measure="functions")
N_KILLS = 4


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.getbasetemp())


def start(run, archs, out):
    command = [
        sys.executable,
        "-m",
        "wsx.cli",
        "evaluate",
        run.path,
        "--archs",
        archs,
        "--out",
        out,
    ]
    command += ["--bn", BN, "--device", "cpu", "--workers", "2", "--quiet"]
    return subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finished(path):
    """Return what a reader sees while another process writes."""
    # Until the writer has made the file there is none.
    with contextlib.suppress(StoreError):
        return outcomes(read_table(path))
    return {}


@pytest.mark.slow
def test_killed_at_random_instants_nothing_finished_is_lost(run, tmp_path):
    evaluate(run, tmp_path / "reference.h5", ARCHS, options=ScoringOptions(32, 1))
    reference = read_table(tmp_path / "reference.h5")
    expected = outcomes(reference)
    out = tmp_path / "scores.h5"
    archs = write_archs(tmp_path / "archs.txt", ARCHS)
    rng = np.random.default_rng(0)
    n_killed = 0
    seen = {}
    for _ in range(N_KILLS):
        process = start(run, archs, out)
        wanted = len(seen) + int(rng.integers(1, 20))
        while process.poll() is None and len(finished(out)) < wanted:
            time.sleep(0.005)
        time.sleep(float(rng.uniform(0, 0.05)))
        before = finished(out)
        n_killed += process.poll() is None
        process.kill()
        process.communicate()
        seen = finished(out)
        assert before.items() <= seen.items()
        assert seen.items() <= expected.items()
    assert n_killed >= 2
    assert 0 < len(seen) < len(ARCHS)
    process = start(run, archs, out)
    stdout, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, b"")
    assert f"there already │ {len(seen)}" in " ".join(stdout.decode().split())
    assert outcomes(read_table(out)) == expected
    assert np.array_equal(losses(read_table(out)), losses(reference))
