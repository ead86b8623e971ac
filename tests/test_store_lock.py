import os
import signal
import subprocess
from pathlib import Path

import pytest
from test_store_durability import IDS, files, no_room, start
from test_store_samples import make_key

from wsx.errors import StoreError
from wsx.store import open_store
from wsx.store.lock import WriterLock


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "scores.h5"
    script = 'store = open_store(path, "a"); print("open", flush=True); sys.stdin.read()'
    process = start(script, path, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    with pytest.raises(StoreError, match=rf'being written by .*"pid": {process.pid}, "host"'):
        open_store(path, "a")
    process.kill()
    process.communicate()
    assert (tmp_path / "scores.h5.lock").exists()
    with open_store(path, "a") as store:
        with pytest.raises(StoreError, match=f'"pid": {os.getpid()}'):
            open_store(path, "a")
        store.campaign(make_key(), image_ids=IDS, info={})
    assert files(tmp_path) == ["scores.h5"]


def test_a_forked_worker_does_not_keep_the_lock(tmp_path: Path) -> None:
    script = """
import time
store = open_store(path, "a")
if os.fork() == 0:
    os.kill(os.getppid(), 9)
    print("orphan", flush=True)
    time.sleep(30)
    os._exit(0)
time.sleep(30)
"""
    process = start(script, tmp_path / "scores.h5", start_new_session=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "orphan\n"
        process.wait()
        WriterLock(tmp_path / "scores.h5.lock").release()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_lock_holds_without_a_name_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsx.store.lock.os.pwrite", no_room)
    lock = WriterLock(tmp_path / "scores.h5.lock")
    with pytest.raises(StoreError, match="being written by an unnamed process"):
        WriterLock(tmp_path / "scores.h5.lock")
    lock.release()
    lock.release()
    assert files(tmp_path) == []


def test_lock_needs_a_writable_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="The folder must exist"):
        open_store(tmp_path / "nowhere" / "scores.h5", "a")
