"""Datasets of the Hugging Face hub, through ``datasets`` and its cache."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc

from wsx.data.source import SPLIT_WORDS, Source, by_split
from wsx.data.tables import Shard, table_source
from wsx.errors import DataError


def hub_source(name: str, *, image_column: str | None, label_column: str | None) -> Source:
    """Return a dataset of the hub, downloaded if it is not in the cache of ``datasets``.

    Args:
        name: ``OWNER/NAME``, or ``OWNER/NAME:CONFIG`` where it has several configurations.
        image_column: Name of the image column; None finds it.
        label_column: Name of the label column; None finds it.

    Raises:
        DataError: It cannot be loaded, for want of a network, say, or is not of labelled images.
    """
    import datasets
    from datasets.table import embed_table_storage

    path, _, config = name.partition(":")
    try:
        with no_progress_bars():
            loaded = datasets.load_dataset(path, config or None)
            tables = {split: loaded[split].data.table for split in loaded if split in SPLIT_WORDS}
            # Images that lie beside the table come into it; one that holds them all stays on disk.
            tables = {
                split: table if _holds_images(table) else embed_table_storage(table)
                for split, table in tables.items()
            }
    except Exception as error:
        # The library lets errors of its many back ends through as they come.
        raise DataError(
            f"{name!r} cannot be loaded from the Hugging Face hub ({type(error).__name__}: "
            f"{error}); check the name and the network, or download its parquet files and give "
            f"NAME=FOLDER"
        ) from error
    shards = {split: [_shard(f"{name} {split}", table)] for split, table in tables.items()}
    return table_source(
        by_split(shards, name), image_column=image_column, label_column=label_column
    )


def _holds_images(table: pa.Table) -> bool:
    images = [column for column in table.columns if pa.types.is_struct(column.type)]
    return not any(
        column.type.get_field_index("bytes") >= 0 and pc.struct_field(column, "bytes").null_count
        for column in images
    )


def _shard(place: str, table: pa.Table) -> Shard:
    return Shard(place, table.schema, table.select)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Silence the progress bars of Hugging Face `datasets` inside the block."""
    import datasets

    was_enabled = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if was_enabled:
            datasets.enable_progress_bars()
