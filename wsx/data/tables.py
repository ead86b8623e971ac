"""Images in parquet and Arrow tables, as the Hugging Face hub stores them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wsx.data.columns import Columns, find_columns
from wsx.data.decode import decode_images
from wsx.data.source import SPLIT_WORDS, Source, SourceSplit, by_split, check_labels
from wsx.errors import DataError

SUFFIXES = (".parquet", ".arrow")
# Encoded images of parquet files that are kept for the next reading, per split.
_KEPT_BYTES = 1 << 29
_FILE_NAME = re.compile(r"(?P<word>\w+)(-\d+-of-(?P<total>\d+))?\.(parquet|arrow)")


@dataclass(frozen=True)
class Shard:
    """One part of a split's table: its place for messages, its schema, a reader of columns."""

    place: str
    schema: pa.Schema
    read: Callable[[list[str]], pa.Table]


def split_files(folder: Path) -> dict[str, list[Path]]:
    """Return the tables in a folder and its folders that are named after a split, by split.

    ``train.parquet`` and ``data/train-00000-of-00002.parquet`` are named so, and so is every table
    in a folder ``train``. Other files are passed over.

    Raises:
        DataError: Of ``-of-00002`` files there are not two, or two words name one split.
    """
    found: dict[str, list[Path]] = {}
    n_expected: dict[str, int] = {}
    # Two levels, no deeper: below may lie a million images.
    paths = [*folder.glob("*"), *folder.glob("*/*")]
    for path in sorted(path for path in paths if path.suffix in SUFFIXES):
        match = _FILE_NAME.fullmatch(path.name)
        words = [match["word"] if match else "", *reversed(path.relative_to(folder).parts[:-1])]
        word = next((word for word in words if word in SPLIT_WORDS), None)
        if word is not None:
            found.setdefault(word, []).append(path)
            if match and match["total"]:
                n_expected[word] = int(match["total"])
    for word, n_files in n_expected.items():
        if len(found[word]) != n_files:
            raise DataError(
                f"{folder}: split {word!r} has {len(found[word])} of {n_files} files; "
                f"download the others"
            )
    return by_split(found, str(folder))


def open_shard(path: Path) -> Shard:
    """Open a parquet or Arrow file.

    Raises:
        DataError: The file is neither, or is damaged.
    """
    is_parquet = path.suffix == ".parquet"

    def guarded(action: Callable[[], pa.Table | pa.Schema]) -> pa.Table | pa.Schema:
        try:
            return action()
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{path} cannot be read as {path.suffix[1:]} ({error}); if it is truncated, "
                f"download it again"
            ) from error

    def read(columns: list[str]) -> pa.Table:
        if is_parquet:
            return guarded(lambda: pq.ParquetFile(path).read(columns))
        return guarded(lambda: _read_arrow(path).select(columns))

    schema = guarded(lambda: pq.read_schema(path) if is_parquet else _read_arrow(path).schema)
    return Shard(path.name, schema, read)


def table_source(
    shards: Mapping[str, Sequence[Shard]], *, image_column: str | None, label_column: str | None
) -> Source:
    """Return the source whose splits are tables.

    Args:
        shards: The tables of each split, in row order.
        image_column: Name of the column of encoded images; None finds it.
        label_column: Name of the column of integer labels; None finds it.

    Raises:
        DataError: Columns cannot be told, differ between tables, or labels are missing or wrong.
    """
    columns: Columns | None = None
    for shard in (shard for group in shards.values() for shard in group):
        here = find_columns(shard.schema, shard.place, image=image_column, label=label_column)
        if columns is not None and here != columns:
            raise DataError(f"{shard.place} has {here}, the tables before it have {columns}")
        columns = here
    if columns is None:
        raise DataError("there is no table to read images from")
    splits = {name: _split(name, group, columns) for name, group in shards.items()}
    names = columns.class_names
    n_classes = check_labels(splits.values(), len(names) if names else None)
    return Source(splits, names or tuple(str(index) for index in range(n_classes)))


def _read_arrow(path: Path) -> pa.Table:
    # `datasets` writes streams, everybody else files; both carry this suffix.
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()


def _split(name: str, shards: Sequence[Shard], columns: Columns) -> SourceSplit:
    labels = [_labels(shard, columns.label) for shard in shards]
    stops = np.cumsum([len(part) for part in labels])
    if stops[-1] == 0:
        raise DataError(f"{shards[0].place}: the {name} split is empty")

    def locate(row: int) -> tuple[Shard, int]:
        index = int(np.searchsorted(stops, row, side="right"))
        return shards[index], int(row - (stops[index - 1] if index else 0))

    def place(row: int) -> str:
        shard, local = locate(row)
        return f"{shard.place} row {local}"

    kept: dict[int, pa.ChunkedArray] = {}

    def images_of(shard: Shard, start: int) -> pa.ChunkedArray:
        if start in kept:
            return kept[start]
        values = shard.read([columns.image]).column(0)
        if sum(other.nbytes for other in kept.values()) + values.nbytes <= _KEPT_BYTES:
            kept[start] = values
        return values

    def read(
        rows: NDArray[np.int64], image_size: tuple[int, int] | None
    ) -> list[NDArray[np.uint8]]:
        # Shard by shard, so that beside those kept the encoded images of one shard are in memory.
        images: dict[int, NDArray[np.uint8]] = {}
        starts = [0, *stops[:-1].tolist()]
        for shard, start, stop in zip(shards, starts, stops, strict=True):
            here = rows[(rows >= start) & (rows < stop)].tolist()
            if here:
                encoded = _encoded(shard, images_of(shard, start), [row - start for row in here])
                decoded = decode_images(encoded, [place(row) for row in here], image_size)
                images.update(zip(here, decoded, strict=True))
        return [images[row] for row in rows.tolist()]

    return SourceSplit(name, np.concatenate(labels), read, place)


def _labels(shard: Shard, column: str) -> NDArray[np.int64]:
    values = shard.read([column]).column(0)
    if values.null_count:
        row = pc.index(pc.is_null(values), True).as_py()
        raise DataError(f"{shard.place} row {row} has no label; remove the row")
    try:
        labels: NDArray[np.int64] = values.cast(pa.int64()).combine_chunks().to_numpy()
    except pa.ArrowInvalid as error:
        raise DataError(f"{shard.place}: labels in {column!r} are out of range: {error}") from error
    return labels


def _encoded(shard: Shard, values: pa.ChunkedArray, rows: list[int]) -> list[bytes]:
    if pa.types.is_struct(values.type):
        values = pc.struct_field(values, "bytes")
    # Row by row: `take` joins the chunks first, which overflows beyond 2 GiB of images.
    encoded = [values[row].as_py() for row in rows]
    if None in encoded:
        row = rows[encoded.index(None)]
        raise DataError(
            f"{shard.place} row {row} holds no image bytes; store images inside the table "
            f"(datasets: embed_external_files=True)"
        )
    return encoded
