"""A truth table from what the command line says."""

import re
from importlib.resources import as_file, files
from pathlib import Path

from wsx.errors import OptionError, TruthError
from wsx.registry import unknown_name
from wsx.truth.files import read_truth
from wsx.truth.nasbench101 import SPLITS, read_nasbench101
from wsx.truth.nats import read_nats
from wsx.truth.nds import read_nds
from wsx.truth.raw import read_raw
from wsx.truth.table import TruthTable

_NATS_COLUMN = re.compile(r"(?P<dataset>.+)_(?P<split>valid|test)(@(?P<epochs>\d{1,4}))?")


def packaged_tables() -> list[str]:
    """Return the names of the tables that come with wsx."""
    folder = files("wsx.truth") / "tables"
    if not folder.is_dir():
        return []
    suffix = ".parquet"
    names = [entry.name for entry in folder.iterdir() if entry.name.endswith(suffix)]
    return sorted(name.removesuffix(suffix) for name in names)


def load_truth(
    spec: str | Path,
    *,
    column: str | None = None,
    arch_column: str | None = None,
    percent: bool | None = None,
    space: str = "",
    dataset: str = "",
    split: str = "",
) -> TruthTable:
    """Load a truth table by name or path.

    Args:
        spec: The name of a packaged table; or the path of a parquet or CSV file or of a NATS-Bench
            folder, with the column behind a colon if need be: ``table.parquet:cifar10_test``,
            ``table.csv:acc_1,acc_2`` for two runs, ``NATS-tss-v1_0-3ffb9-simple:cifar10_test@200``. Also a
            JSON file of NDS, and a table of NAS-Bench-101 by hashes with ``:valid`` or ``:test`` behind it.
        column: The column, if it is not in the spec. NATS-Bench folders: ``cifar10_test``.
        arch_column: As for ``read_truth``; files only, as are the rest.
        percent: As for ``read_truth``.
        space: As for ``read_truth``.
        dataset: As for ``read_truth``.
        split: As for ``read_truth``.

    Raises:
        UnknownNameError: There is no packaged table or column of that name.
        OptionError: The column is stated twice.
        TruthError: The table cannot be read.
    """
    path, column = _split_spec(str(spec), column)
    if path.is_dir():
        return _read_folder(path, column or "cifar10_test")
    columns = column.split(",") if column else None
    if not path.exists():
        names = packaged_tables()
        if str(path) not in names:
            if path.suffix or len(path.parts) > 1:
                raise TruthError(f"{path} does not exist; nor is it a table of wsx's: {names}")
            raise unknown_name("packaged truth table (nor path)", str(path), names)
        with as_file(files("wsx.truth") / "tables" / f"{path}.parquet") as packaged:
            return read_truth(packaged, columns)
    if path.suffix == ".json":
        return read_nds(path)
    if column in SPLITS and "module_hash" in read_raw(path).names:
        return read_nasbench101(path, column)
    return read_truth(
        path,
        columns,
        arch_column=arch_column,
        percent=percent,
        space=space,
        dataset=dataset,
        split=split,
    )


def _split_spec(spec: str, column: str | None) -> tuple[Path, str | None]:
    head, colon, tail = spec.rpartition(":")
    if not colon or Path(spec).exists():
        return Path(spec), column
    if column is not None:
        raise OptionError(f"the column is stated twice: {tail!r} in {spec!r}, and {column!r}")
    return Path(head), tail


def _read_folder(folder: Path, column: str) -> TruthTable:
    match = _NATS_COLUMN.fullmatch(column)
    if match is None:
        raise TruthError(
            f"{folder}: {column!r} names no column of a NATS-Bench folder; write "
            f"DATASET_SPLIT[@EPOCHS], as in cifar10_test or cifar100_valid@12"
        )
    return read_nats(folder, match["dataset"], match["split"], int(match["epochs"] or 200))
