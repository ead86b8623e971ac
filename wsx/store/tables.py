"""Scores as CSV and Parquet, one row per arch, for spreadsheets, pandas and R."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from wsx.errors import StoreError
from wsx.store.atomic import replace_bytes
from wsx.store.records import COLUMNS, ScoreTable


def write_csv(table: ScoreTable, path: str | Path) -> None:
    """Write one row per arch, and the key and info to ``<path>.json`` beside it.

    Columns: ``arch`` (decisions separated by blanks), ``accuracy`` (a fraction, ``nan`` unless
    ``ok``), and the per-arch columns of the score file under their names there.

    Raises:
        StoreError: A file cannot be written.
    """
    columns = _columns(table)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    path = Path(path)
    _replace(path.with_name(path.name + ".json"), json.dumps(_provenance(table), indent=1).encode())
    _replace(path, text.getvalue().encode())


def write_parquet(table: ScoreTable, path: str | Path) -> None:
    """Write one row per arch, with the key and info as JSON in the metadata entry ``wsx``.

    Columns as in ``write_csv``.

    Raises:
        StoreError: The file cannot be written.
    """
    # Imported here: it takes a tenth of a second that every reader of a store would pay.
    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata = {b"wsx": json.dumps(_provenance(table)).encode()}
    content = pa.table(_columns(table)).replace_schema_metadata(metadata)
    buffer = io.BytesIO()
    pq.write_table(content, buffer)
    _replace(Path(path), buffer.getbuffer())


def _columns(table: ScoreTable) -> dict[str, list[Any]]:
    columns = {
        "arch": [" ".join(map(str, row)) for row in table.arch.tolist()],
        "accuracy": table.accuracy.tolist(),
    }
    return columns | {column.name: getattr(table, column.name).tolist() for column in COLUMNS}


def _provenance(table: ScoreTable) -> dict[str, Any]:
    return {"key": table.key.as_dict(), "digest": table.key.digest(), "info": table.info}


def _replace(path: Path, content: bytes | memoryview) -> None:
    try:
        replace_bytes(path, content)
    except OSError as error:
        raise StoreError(
            f"cannot write {path} ({len(content)} bytes): {error}. The folder must exist, be "
            "writable and have room."
        ) from error
