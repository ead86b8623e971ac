"""Processes that train: they know the space, and do not outlive the process that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from wsx.errors import OptionError
from wsx.spaces import SPACES
from wsx.studies.processes import training_processes

SPACE = SPACES["nasbench201"]
PARENT = """
import os, time
from wsx.spaces import SPACES
from wsx.studies.processes import training_processes

if __name__ == "__main__":
    with training_processes(1, SPACES["nasbench201"]) as executor:
        print(executor.submit(os.getpid).result(), flush=True)
        executor.submit(time.sleep, 600)
        time.sleep(600)
"""


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody has collected yet is as dead.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_number_below_one_is_refused():
    with pytest.raises(OptionError, match="--workers is 0"), training_processes(0, SPACE):
        pass


@pytest.mark.slow  # Worker processes import torch, seconds each.
def test_each_has_one_thread():
    with training_processes(1, SPACE) as executor:
        assert executor.submit(torch.get_num_threads).result() == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        assert is_alive(worker)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not is_alive(worker)
