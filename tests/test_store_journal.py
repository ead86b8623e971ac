import json
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest
from test_store_durability import IDS, add, files, finish, leave_journal, start
from test_store_samples import make_failed, make_key

from wsx.errors import OptionError, StoreError, StoreVersionError
from wsx.store import HDF5Store, open_store
from wsx.store.journal import Journal

READ_ONLY = """
import wsx.store.hdf5, wsx.store.journal, h5py, sqlite3
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
store = open_store(path)
print(len(store.read()), len(store.keys()))
try:
    open_store(path, "a")
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("missing", ["journal", "shm", "nothing"])
def test_reading_needs_no_permission_to_write(missing: str) -> None:
    # Not below pytest's own folder, which nobody else may enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "scores.h5"
        add(path, (0,), (1,))
        leave_journal(path, (2,))
        if missing == "shm":
            (folder / "scores.h5.journal-shm").unlink()
        elif missing == "journal":
            with open_store(path, "a"):
                pass
        (folder / "scores.h5.lock").unlink(missing_ok=True)
        for entry in folder.iterdir():
            entry.chmod(0o444)
        folder.chmod(0o555)
        names = files(folder)
        code, out, err = finish(start(READ_ONLY, path))
        folder.chmod(0o755)
        assert (code, out.splitlines()[0]) == (0, "3 1"), err
        assert "StoreError cannot write beside" in out
        assert files(folder) == names


def test_link_is_followed_and_mode_kept(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path, link = tmp_path / "real" / "scores.h5", tmp_path / "link.h5"
    add(path, (0,))
    path.chmod(0o640)
    link.symlink_to(path)
    add(link, (1,))
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert len(open_store(path).read()) == 2


def test_partial_file_of_a_killed_fold_is_removed(tmp_path: Path) -> None:
    (tmp_path / "scores.h5.partial").write_bytes(b"rest")
    add(tmp_path / "scores.h5", (0,))
    assert files(tmp_path) == ["scores.h5"]


def test_journal_of_another_store_is_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "scores.h5", tmp_path / "other.h5"
    leave_journal(path, (0,))
    add(other, (1,))
    other.rename(path)
    for mode in ("r", "a"):
        with pytest.raises(StoreError, match="belong to different stores"):
            open_store(path, mode).read()
    for name in files(tmp_path):
        if "journal" in name:
            (tmp_path / name).rename(tmp_path / name.replace("scores", "other"))
    add(tmp_path / "other.h5", (2,))
    assert open_store(tmp_path / "other.h5").read().arch.tolist() == [[0], [2]]
    assert open_store(path).read().arch.tolist() == [[1]]


def test_empty_journal_of_another_store_serves_this_one(tmp_path: Path) -> None:
    path = tmp_path / "scores.h5"
    add(path, (0,))
    Journal(tmp_path / "scores.h5.journal", "another")._connection.close()
    add(path, (1,))
    assert len(open_store(path).read()) == 2


def test_busy_reader_only_leaves_an_empty_journal(tmp_path: Path) -> None:
    path, journal = tmp_path / "scores.h5", tmp_path / "scores.h5.journal"
    store = open_store(path, "a")
    campaign = store.campaign(make_key(), image_ids=IDS, info={})
    campaign.append([make_failed((0,))])
    reader = sqlite3.connect(journal.as_uri() + "?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM scores").fetchone() == (1,)
    store.close()
    reader.close()
    assert len(open_store(path).read()) == 1
    add(path, (1,))
    assert files(tmp_path) == ["scores.h5"]


@pytest.mark.parametrize("mode", ["r", "a"])
@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\x00" * 200])
def test_foreign_journal(tmp_path: Path, mode: Any, content: bytes) -> None:
    path = tmp_path / "scores.h5"
    add(path, (0,))
    old = path.read_bytes()
    (tmp_path / "scores.h5.journal").write_bytes(content)
    with pytest.raises(StoreError, match=r"scores\.h5\.journal is not a readable journal"):
        open_store(path, mode).read()
    assert path.read_bytes() == old


@pytest.mark.parametrize("mode", ["r", "a"])
def test_newer_or_damaged_journal(tmp_path: Path, mode: Any) -> None:
    path = tmp_path / "scores.h5"
    leave_journal(path, (0,))
    with sqlite3.connect(tmp_path / "scores.h5.journal") as connection:
        connection.execute("UPDATE scores SET body = ?", (json.dumps({"arch": [1]}),))
    connection.close()
    with pytest.raises(StoreError, match="not a readable journal"):
        open_store(path, mode).read()
    with sqlite3.connect(tmp_path / "scores.h5.journal") as connection:
        connection.execute("UPDATE meta SET format_version = 2")
    connection.close()
    with pytest.raises(StoreVersionError, match=r"format version 2, wsx .* reads up to 1"):
        open_store(path, mode).read()


def test_mode_and_fold_rows_are_checked(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="got 'w' and 2000"):
        open_store(tmp_path / "scores.h5", "w")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="got 'a' and 0"):
        HDF5Store(tmp_path / "scores.h5", "a", fold_rows=0)
    with open_store(tmp_path / "scores.h5", "a") as store:
        store.campaign(make_key(), image_ids=IDS, info={})
    with open_store(tmp_path / "scores.h5") as store, pytest.raises(StoreError, match="mode 'a'"):
        store.campaign(make_key(), image_ids=IDS, info={})
