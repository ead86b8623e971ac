"""Columns of a parquet or CSV file, checked number by number."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wsx.errors import TruthError
from wsx.registry import unknown_name

METADATA_KEY = b"wsx.truth"
# A CSV file carries its metadata in a first line that starts so.
CSV_MARK = "# wsx.truth "


@dataclass(frozen=True)
class RawTable:
    """A file's columns as they are, how messages call a row, and wsx's metadata if any."""

    place: str
    columns: pa.Table
    row_name: Callable[[int], str]
    metadata: dict[str, Any] | None

    @property
    def names(self) -> list[str]:
        """All column names."""
        return list(self.columns.schema.names)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column.

        Raises:
            UnknownNameError: There is none of that name.
        """
        if name not in self.names:
            raise unknown_name(f"column of {self.place}", name, self.names)
        return self.columns.column(name)

    def texts(self, name: str) -> list[str]:
        """Return a column of strings.

        Raises:
            TruthError: A row has none.
        """
        column = self.column(name)
        if not _is_text(column.type) and not pa.types.is_integer(column.type):
            raise TruthError(f"{self.place}: arch column {name!r} is {column.type}, not text")
        texts: list[str | None] = column.cast(pa.string()).to_pylist()
        for row, text in enumerate(texts):
            if not text:
                raise TruthError(f"{self.place} {self.row_name(row)}: no arch in {name!r}")
        return [text for text in texts if text]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column of numbers, nan where a row has none.

        Raises:
            TruthError: The column is of another type, or a row holds something else.
        """
        column = self.column(name)
        if _is_text(column.type):
            return self._parse(name, column.cast(pa.string()).to_pylist())
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise TruthError(f"{self.place}: column {name!r} is {column.type}, not a number")
        filled = pc.fill_null(column.cast(pa.float64(), safe=False), float("nan"))
        numbers: NDArray[np.float64] = filled.combine_chunks().to_numpy()
        return numbers

    def whole_numbers(self, name: str) -> NDArray[np.int64]:
        """Return a column of non-negative whole numbers.

        Raises:
            TruthError: A row holds none.
        """
        numbers = self.numbers(name)
        wrong = ~((numbers >= 0) & (numbers < 2**63) & (numbers == np.floor(numbers)))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise TruthError(
                f"{self.place} {self.row_name(row)}: {name!r} is {numbers[row]}, not a whole "
                f"number; correct it, or rename the column if it holds something else"
            )
        return numbers.astype(np.int64)

    def _parse(self, name: str, texts: list[str | None]) -> NDArray[np.float64]:
        numbers = np.full(len(texts), np.nan)
        for row, text in enumerate(texts):
            if text:
                try:
                    numbers[row] = float(text)
                except ValueError:
                    raise TruthError(
                        f"{self.place} {self.row_name(row)}: {name!r} is {text!r}, not a number"
                    ) from None
        return numbers


def read_raw(path: Path) -> RawTable:
    """Read a parquet or CSV file.

    Raises:
        TruthError: It is neither, is missing, damaged or ragged.
    """
    readers = {".parquet": _read_parquet, ".csv": _read_csv}
    if path.suffix not in readers:
        raise TruthError(f"{path}: a truth table is a .parquet or .csv file")
    try:
        return readers[path.suffix](path)
    except (pa.ArrowException, OSError, csv.Error, UnicodeError) as error:
        raise TruthError(
            f"{path} cannot be read as {path.suffix[1:]} ({type(error).__name__}: {error})"
        ) from error


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _read_parquet(path: Path) -> RawTable:
    table = pq.ParquetFile(path).read()
    text = (table.schema.metadata or {}).get(METADATA_KEY)
    metadata = None if text is None else _metadata(path, text.decode())
    return RawTable(path.name, table, lambda row: f"row {row}", metadata)


def _read_csv(path: Path) -> RawTable:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        is_marked = first.startswith(CSV_MARK)
        metadata = _metadata(path, first.removeprefix(CSV_MARK)) if is_marked else None
        if not is_marked:
            file.seek(0)
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        if not header or len(set(header)) != len(header):
            raise TruthError(f"{path}: the first line must name each column once, not {header}")
        rows: list[list[str]] = []
        lines: list[int] = []
        for cells in reader:
            line = reader.line_num + is_marked
            if len(cells) not in {0, len(header)}:
                raise TruthError(f"{path} line {line}: {len(cells)} cells, not {len(header)}")
            if cells:
                rows.append(cells)
                lines.append(line)
    arrays = [pa.array([cells[i] for cells in rows], pa.string()) for i in range(len(header))]
    table = pa.table(arrays, names=header)
    return RawTable(path.name, table, lambda row: f"line {lines[row]}", metadata)


def _metadata(path: Path, text: str) -> dict[str, Any]:
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TruthError(f"{path}: damaged metadata ({error})") from error
    if not isinstance(metadata, dict):
        raise TruthError(f"{path}: metadata must be an object, not {type(metadata).__name__}")
    return metadata
