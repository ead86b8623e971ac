import errno
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from test_store_samples import assert_same_table, make_key, make_score

from wsx.errors import StoreError
from wsx.store import HDF5Store, MemoryStore, open_store
from wsx.store.journal import Journal

ROOT = Path(__file__).parents[1]
IDS = np.arange(11)
PRELUDE = """
import os, sys
sys.path[:0] = [{root!r}, {tests!r}]
import numpy as np
from test_store_samples import make_key, make_score
from wsx.store import HDF5Store, open_store
path = sys.argv[1]
"""


def start(script: str, *args: Any, **options: Any) -> subprocess.Popen[str]:
    prelude = PRELUDE.format(root=str(ROOT), tests=str(ROOT / "tests"))
    command = [sys.executable, "-c", prelude + script, *map(str, args)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def add(path: Path, *archs: tuple[int, ...], **options: Any) -> None:
    with HDF5Store(path, "a", **options) as store:
        campaign = store.campaign(make_key(), image_ids=IDS, info={})
        campaign.append([make_score(arch) for arch in archs])


def leave_journal(path: Path, *archs: tuple[int, ...]) -> None:
    script = """
campaign = HDF5Store(path, "a").campaign(make_key(), image_ids=range(11), info={})
campaign.append([make_score(arch) for arch in eval(sys.argv[2])])
os._exit(9)
"""
    assert finish(start(script, path, list(archs)))[0] == 9
    assert path.with_name(path.name + ".journal").exists()


def files(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    # The shared-memory file of SQLite holds its locks, not data.
    return {name: (folder / name).read_bytes() for name in files(folder) if "-shm" not in name}


# One process forks a writer per round, since loading takes longer than a round.
ENDLESS = """
for line in iter(sys.stdin.readline, ""):
    writer = os.fork()
    if writer == 0:
        store = HDF5Store(path, "a", fold_rows=5)
        campaign = store.campaign(make_key(), image_ids=range(11), info={})
        print(os.getpid(), len(campaign.finished()), flush=True)
        for number in range(int(line), 10**6, 3):
            campaign.append([make_score((i % 7, i)) for i in range(number, number + 3)])
            print(number + 2, flush=True)
    os.waitpid(writer, 0)
    print("dead", flush=True)
"""


@pytest.mark.slow
def test_killed_at_random_instants_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "scores.h5"
    rng = random.Random(0)
    last, n_folded = -1, 0
    process = start(ENDLESS, path, stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(15):
        process.stdin.write(f"{last + 1}\n")
        process.stdin.flush()
        pid, n_finished = map(int, process.stdout.readline().split())
        assert n_finished == last + 1
        time.sleep(rng.uniform(0.0, 0.15))
        os.kill(pid, signal.SIGKILL)
        acknowledged = list(iter(process.stdout.readline, "dead\n"))
        last = int(acknowledged[-1]) if acknowledged else last
        if path.exists():
            with h5py.File(path) as file:
                n_folded = max(n_folded, int(file.attrs["folded_through"]))
        table = open_store(path).read()
        # One more append may have been durable before its acknowledgement was printed.
        assert len(table) - last - 1 in {0, 3}
        last = len(table) - 1
        assert table.arch.tolist() == [[i % 7, i] for i in range(last + 1)]
        for index in rng.sample(range(len(table)), min(3, len(table))):
            assert table.score(index) == make_score((index % 7, index))
    process.communicate()
    assert last > 20
    assert n_folded > 20
    add(path, (0, 10**4))
    assert files(tmp_path) == ["scores.h5"]
    memory = MemoryStore()
    archs = [*((i % 7, i) for i in range(last + 1)), (0, 10**4)]
    campaign = memory.campaign(make_key(), image_ids=IDS, info={})
    campaign.append([make_score(arch) for arch in archs])
    assert_same_table(open_store(path).read(), memory.read())


CRASH = """
import pathlib
import wsx.store.atomic, wsx.store.hdf5
from wsx.store.journal import Journal
crash = lambda *args, **kwargs: os._exit(9)
points = {
    "building": (wsx.store.hdf5, "write_campaign"),
    "before replace": (pathlib.Path, "replace"),
    "after replace": (wsx.store.atomic, "sync_folder"),
    "before forgetting": (Journal, "forget"),
    "after forgetting": (Journal, "close"),
}
for point, place in points.items():
    child = os.fork()
    if child == 0:
        store = HDF5Store(f"{path}/{point}/scores.h5", "a")
        campaign = store.campaign(make_key(), image_ids=range(11), info={})
        campaign.append([make_score((1, 0), seed=5), make_score((2, 0))])
        setattr(*place, crash)
        store.close()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, point
"""
POINTS = ["building", "before replace", "after replace", "before forgetting", "after forgetting"]


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crashed")
    for point in POINTS:
        (folder / point).mkdir()
        add(folder / point / "scores.h5", (0, 0), (1, 0))
    code, _, err = finish(start(CRASH, folder))
    assert code == 0, err
    return folder


@pytest.mark.parametrize("point", POINTS)
def test_killed_inside_a_fold(crashed: Path, point: str) -> None:
    folder, path = crashed / point, crashed / point / "scores.h5"
    memory = MemoryStore()
    campaign = memory.campaign(make_key(), image_ids=IDS, info={})
    campaign.append([make_score((0, 0)), make_score((1, 0), seed=5), make_score((2, 0))])
    assert (folder / "scores.h5.journal").exists()
    before = contents(folder)
    assert_same_table(open_store(path).read(), memory.read())
    assert contents(folder) == before
    for _ in range(2):
        with open_store(path, "a") as store:
            assert_same_table(store.read(), memory.read())
        assert files(folder) == ["scores.h5"]


def test_a_fold_older_than_the_file_changes_nothing(tmp_path: Path) -> None:
    # The journal's row is folded, then the arch is scored again and folded, then the old journal
    # comes back, as from a copy of the folder taken between the two steps.
    path, journal = tmp_path / "scores.h5", tmp_path / "scores.h5.journal"
    leave_journal(path, (0, 0))
    saved = {name: (tmp_path / name).read_bytes() for name in files(tmp_path) if "journal" in name}
    with open_store(path, "a") as store:
        campaign = store.campaign(make_key(), image_ids=IDS, info={})
        campaign.append([make_score((0, 0), seed=8)])
    assert not journal.exists()
    for name, content in saved.items():
        (tmp_path / name).write_bytes(content)
    assert open_store(path).read().score(0) == make_score((0, 0), seed=8)
    with open_store(path, "a") as store:
        assert store.read().score(0) == make_score((0, 0), seed=8)


def test_reader_sees_the_journal_while_somebody_writes(tmp_path: Path) -> None:
    path = tmp_path / "scores.h5"
    with HDF5Store(path, "a", fold_rows=4) as store:
        campaign = store.campaign(make_key(), image_ids=IDS, info={})
        for number in range(9):
            campaign.append([make_score((number,))])
            assert len(open_store(path).read()) == number + 1


def test_folds_grow_rarer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forget = Journal.forget

    def count(journal: Journal, last_row: int) -> None:
        sizes.append(last_row)
        forget(journal, last_row)

    monkeypatch.setattr(Journal, "forget", count)
    with HDF5Store(tmp_path / "scores.h5", "a", fold_rows=2) as store:
        campaign = store.campaign(make_key(), image_ids=IDS, info={})
        for number in range(40):
            campaign.append([make_score((number,))])
    assert sizes == [2, 4, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40]


def no_room(*args: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_while_folding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scores.h5"
    add(path, (0,))
    old = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", no_room)
        with pytest.raises(StoreError, match=r"No space left.*2 scores are safe in .*\.journal"):
            add(path, (1,), (2,))
        with pytest.raises(StoreError, match="2 scores are safe"):
            open_store(path, "a")
    assert files(tmp_path) == ["scores.h5", "scores.h5.journal"]
    assert path.read_bytes() == old
    assert len(open_store(path).read()) == 3
    add(path, (3,))
    assert len(open_store(path).read()) == 4


RLIMIT = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    with HDF5Store(path, "a", fold_rows=6) as store:
        campaign = store.campaign(make_key(), image_ids=range(8000), info={})
        for number in range(1000, 1100):
            campaign.append([make_score((number,), n_images=8000)])
            print(number, flush=True)
except Exception as error:
    print(type(error).__name__, error, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("limit", "n_stored", "message"),
    [
        (3_000, 0, "the journal cannot be used"),
        (200_000, 0, r"1 scores \(1\d{3} bytes\) were not added"),
        (300_000, 500, "6 scores are safe in"),
    ],
)
def test_files_that_cannot_grow(tmp_path: Path, limit: int, n_stored: int, message: str) -> None:
    path = tmp_path / "scores.h5"
    stored = [make_score((number,), n_images=8000) for number in range(n_stored)]
    with open_store(path, "a") as store:
        store.campaign(make_key(), image_ids=range(8000), info={}).append(stored)
    code, out, err = finish(start(RLIMIT, path, limit))
    assert code == 0
    assert re.match(rf"StoreError .*scores\.h5.*{message}", err), err
    assert err.count("\n") == 1, "an error of HDF5 slipped through"
    archs = {*range(n_stored), *map(int, out.split())}
    assert {arch for (arch,) in open_store(path).read().arch.tolist()} >= archs
    assert "scores.h5.partial" not in files(tmp_path)
    with open_store(path, "a") as store:
        campaign = store.campaign(make_key(), image_ids=range(8000), info={})
        assert campaign.finished() >= {(number,) for number in archs}
    assert files(tmp_path) == ["scores.h5"]


def test_full_disk_while_appending(tmp_path: Path) -> None:
    path = tmp_path / "scores.h5"
    with open_store(path, "a") as store:
        campaign = store.campaign(make_key(), image_ids=range(80000), info={})
        campaign.append([make_score((0,), n_images=80000)])
        assert store._writer is not None
        connection = store._writer.journal._connection
        n_pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={n_pages + 3}")
        with pytest.raises(StoreError, match=r"2 scores \(2\d{4} bytes\) were not added.*full"):
            campaign.append([make_score((i,), n_images=80000) for i in (1, 2)])
        assert campaign.finished() == {(0,)}
        connection.execute("PRAGMA max_page_count=1000000")
        campaign.append([make_score((3,), n_images=80000)])
    assert open_store(path).read().arch.tolist() == [[0], [3]]
