import csv
import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_store_samples import make_failed, make_key, make_score

from wsx.errors import StoreError
from wsx.store import ScoreTable, write_csv, write_parquet
from wsx.store.records import COLUMNS

NASTY = 'comma, "quote"\nnew line; é ✗'


def make_table() -> ScoreTable:
    scores = [make_score((0, -1)), make_failed((2, 3), error=NASTY), make_score((4, 5), text=NASTY)]
    return ScoreTable.from_scores(make_key(), {"seed": 0}, np.arange(11), scores)


def test_csv_reads_back(tmp_path: Path) -> None:
    table, path = make_table(), tmp_path / "scores.csv"
    write_csv(table, path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["arch"] for row in rows] == ["0 -1", "2 3", "4 5"]
    np.testing.assert_array_equal([float(row["accuracy"]) for row in rows], table.accuracy)
    for column in COLUMNS:
        kind = {"text": str, "<i8": int, "<f8": float}[column.dtype]
        values = [kind(row[column.name]) for row in rows]
        np.testing.assert_array_equal(values, getattr(table, column.name).tolist())
    assert json.loads((tmp_path / "scores.csv.json").read_text()) == {
        "key": make_key().as_dict(),
        "digest": make_key().digest(),
        "info": {"seed": 0},
    }


def test_parquet_reads_back(tmp_path: Path) -> None:
    table, path = make_table(), tmp_path / "scores.parquet"
    write_parquet(table, path)
    content = pq.read_table(path)
    assert content.column_names == ["arch", "accuracy", *(column.name for column in COLUMNS)]
    for column in COLUMNS:
        expected = getattr(table, column.name).tolist()
        np.testing.assert_array_equal(content[column.name].to_pylist(), expected)
    assert math.isnan(content["accuracy"][1].as_py())
    assert json.loads(content.schema.metadata[b"wsx"])["key"] == make_key().as_dict()


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_empty_table(tmp_path: Path, write: object) -> None:
    assert callable(write)
    empty = ScoreTable.from_scores(make_key(), {}, np.arange(3), [])
    write(empty, tmp_path / "out")
    assert (tmp_path / "out").stat().st_size > 0


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_failed_write_keeps_the_old_file(
    tmp_path: Path, write: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*args: object) -> None:
        raise OSError(28, "No space left on device")

    assert callable(write)
    path = tmp_path / "out"
    path.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", no_room)
        with pytest.raises(StoreError, match=r"cannot write .*out.* \(\d+ bytes\).*No space"):
            write(make_table(), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert path.read_text() == "old"
    with pytest.raises(StoreError, match="folder must exist"):
        write(make_table(), tmp_path / "nowhere" / "out")
