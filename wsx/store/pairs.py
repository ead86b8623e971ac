"""Numbers of pairs of archs as CSV and Parquet, one row per pair, for spreadsheets, pandas and R."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.errors import OptionError, ShapeError, StoreError
from wsx.store.atomic import replace_bytes

PAIR_SUFFIXES = (".csv", ".parquet")
_METADATA = b"wsx"


@dataclass(frozen=True, eq=False)
class PairTable:
    """Numbers that are the same for two archs in either order.

    Attributes:
        texts: The archs, in their text form.
        columns: Symmetric numbers (arch, arch) by name; the diagonal is of an arch with itself.
        info: Where they come from, JSON-clean.

    Raises:
        ShapeError: Numbers are not of all pairs.
    """

    texts: tuple[str, ...]
    columns: Mapping[str, NDArray[Any]]
    info: Mapping[str, Any]

    def __post_init__(self) -> None:
        n = len(self.texts)
        for name, values in self.columns.items():
            if values.shape != (n, n):
                raise ShapeError(f"{name} must have shape {(n, n)}, got {values.shape}")


def write_pairs(table: PairTable, path: str | Path) -> None:
    """Write one row per pair, those of an arch with itself among them: ``arch``, ``other``, then the numbers.

    A CSV file has the info in ``<path>.json`` beside it, a Parquet file as JSON in the metadata entry ``wsx``.

    Raises:
        OptionError: The path ends in neither ``.csv`` nor ``.parquet``.
        StoreError: A file cannot be written.
    """
    path = check_pairs_path(path)
    columns = _rows(table)
    if path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        _replace(path.with_name(path.name + ".json"), json.dumps(dict(table.info)).encode())
        _replace(path, text.getvalue().encode())
        return
    # Imported here: it takes a tenth of a second that every reader of a store would pay.
    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata = {_METADATA: json.dumps(dict(table.info)).encode()}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer)
    _replace(path, buffer.getbuffer())


def read_pairs(path: str | Path) -> PairTable:
    """Return the table of a Parquet file that ``write_pairs`` wrote.

    Raises:
        StoreError: The file is missing, damaged, or another one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_table(path)
        info = json.loads((found.schema.metadata or {})[_METADATA])
        columns = {name: found[name].to_numpy() for name in found.column_names}
        first, second = columns.pop("arch"), columns.pop("other")
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise StoreError(f"{path} is no table of pairs by wsx: {error}") from error
    texts = tuple(dict.fromkeys(first.tolist()))
    upper = np.triu_indices(len(texts))
    names = np.array(texts, dtype=object)
    is_whole = len(first) == upper[0].size
    if not is_whole or (first != names[upper[0]]).any() or (second != names[upper[1]]).any():
        raise StoreError(f"{path} is damaged: its {len(first)} rows are not all pairs of archs")
    return PairTable(
        texts, {name: _square(values, upper) for name, values in columns.items()}, info
    )


def check_pairs_path(path: str | Path) -> Path:
    """Return the path of a table to write.

    Raises:
        OptionError: It ends in neither ``.csv`` nor ``.parquet``.
    """
    path = Path(path)
    if path.suffix not in PAIR_SUFFIXES:
        raise OptionError(f"{path} must end in .csv or .parquet")
    return path


def _rows(table: PairTable) -> dict[str, list[Any]]:
    first, second = np.triu_indices(len(table.texts))
    columns = {
        "arch": [table.texts[i] for i in first],
        "other": [table.texts[i] for i in second],
    }
    numbers = {name: values[first, second].tolist() for name, values in table.columns.items()}
    return columns | numbers


def _square(values: NDArray[Any], upper: tuple[NDArray[Any], NDArray[Any]]) -> NDArray[Any]:
    n = int(upper[0][-1]) + 1 if upper[0].size else 0
    table = np.empty((n, n), dtype=values.dtype)
    table[upper] = values
    table.T[upper] = values
    return table


def _replace(path: Path, content: bytes | memoryview) -> None:
    try:
        replace_bytes(path, content)
    except OSError as error:
        raise StoreError(
            f"cannot write {path} ({len(content)} bytes): {error}. The folder must exist, be writable and "
            "have room."
        ) from error
