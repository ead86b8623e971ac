"""Ground truth in parquet and CSV files: other people's columns, and wsx's own form."""

import csv
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wsx.errors import TruthError
from wsx.truth.raw import CSV_MARK, METADATA_KEY, RawTable, read_raw
from wsx.truth.table import TruthTable

FORMAT_VERSION = 1
_ARCH_NAMES = ("arch", "text", "genotype", "architecture")
_SEED = "_seed_"
_PERPLEXITY = re.compile(r"ppl|perplex", re.IGNORECASE)
_NOT_ACCURACY = re.compile(r"ppl|perplex|loss|error|time|latency", re.IGNORECASE)
# In a percent column, archs at chance level with 100 classes or more lie at or below 1: 2 % of
# NAS-Bench-201 on ImageNet16-120. More than this share means that fractions are mixed in.
_CHANCE_SHARE = 0.05
_MAX_RUNS = 1000


def read_truth(
    path: Path,
    column: str | Sequence[str] | None = None,
    *,
    arch_column: str | None = None,
    percent: bool | None = None,
    space: str = "",
    dataset: str = "",
    split: str = "",
) -> TruthTable:
    """Read a table of accuracies, or of perplexities, from a parquet or CSV file.

    An arch in several rows was trained several times: its rows become runs, and the accuracy
    their mean.

    Args:
        path: The file.
        column: The column of accuracies; several are several runs. None for a file that wsx wrote,
            or that has a column ``accuracy``. Columns with ``ppl`` or ``perplexity`` in their names are
            perplexities, and give a table of losses, their logarithms.
        arch_column: The column of text forms; None for the first there is of ``arch``, ``text``,
            ``genotype`` and ``architecture``.
        percent: Whether accuracies are percents; None tells by their size.
        space: Name of the space, unless the file states it.
        dataset: Name of the dataset, likewise.
        split: Name of the split, likewise.

    Raises:
        UnknownNameError: There is no such column; similar names are suggested.
        TruthError: The file is unreadable or empty, a number is missing or out of range, or
            percents and fractions are mixed. The row or line is named.
    """
    raw = read_raw(path)
    if column is None and raw.metadata is not None:
        return _read_own(raw, raw.metadata)
    columns = [column] if isinstance(column, str) else list(column or _default_column(raw))
    texts = raw.texts(arch_column or _arch_column(raw))
    values = np.stack([raw.numbers(name) for name in columns], axis=1)
    is_loss = all(_PERPLEXITY.search(name) for name in columns)
    if is_loss:
        values, is_percent = _losses(raw, columns, values, percent), False
    else:
        values, is_percent = _fractions(raw, columns, values, percent)
    rows, per_seed = _runs(raw, texts, values)
    _, first = np.unique(rows, return_index=True)
    is_known = ~np.isnan(per_seed)
    mean = np.where(is_known, per_seed, 0).sum(axis=1) / is_known.sum(axis=1)
    return TruthTable(
        space=space,
        dataset=dataset,
        split=split,
        source=path.name,
        texts=tuple(dict.fromkeys(texts)),
        accuracy=np.full_like(mean, np.nan) if is_loss else mean,
        per_seed=per_seed if per_seed.shape[1] > 1 else None,
        params=_sizes(raw, "params", rows, first),
        flops=_sizes(raw, "flops", rows, first),
        info={"columns": columns, "is_percent": is_percent},
        loss=mean if is_loss else None,
    )


def write_truth(path: Path, table: TruthTable) -> None:
    """Write a table in wsx's own form, which ``read_truth`` reads back equal.

    Columns ``arch`` and ``accuracy`` (fraction) or ``loss`` (nats), ``accuracy_seed_0`` and so on, ``params``,
    ``flops``; the rest is JSON in the parquet schema, or in a first line of a CSV file.

    Raises:
        TruthError: The file cannot be written, or its suffix is neither .parquet nor .csv.
    """
    metric = table.metric
    columns: dict[str, Any] = {"arch": list(table.texts), metric: getattr(table, metric)}
    if table.per_seed is not None:
        columns |= {f"{metric}{_SEED}{run}": seeds for run, seeds in enumerate(table.per_seed.T)}
    columns |= {
        name: sizes
        for name, sizes in (("params", table.params), ("flops", table.flops))
        if sizes is not None
    }
    keys = ("space", "dataset", "split", "source")
    metadata = {"format_version": FORMAT_VERSION} | {key: getattr(table, key) for key in keys}
    try:
        text = json.dumps(metadata | {"info": dict(table.info)})
        if path.suffix == ".parquet":
            contents = pa.table(columns).replace_schema_metadata({METADATA_KEY: text})
            pq.write_table(contents, path, compression="zstd")
        elif path.suffix == ".csv":
            _write_csv(path, columns, text)
        else:
            raise TruthError(f"{path}: a truth table is a .parquet or .csv file")
    except (OSError, TypeError) as error:
        raise TruthError(f"{path} cannot be written: {error}") from error


def _read_own(raw: RawTable, metadata: dict[str, Any]) -> TruthTable:
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise TruthError(
            f"{raw.place} is a truth table of format {version}, this wsx reads {FORMAT_VERSION}; "
            f"read it with the wsx that wrote it, or name its column"
        )
    metric = "loss" if "loss" in raw.names else "accuracy"
    n_runs = sum(name.startswith(f"{metric}{_SEED}") for name in raw.names)
    seeds = [raw.numbers(f"{metric}{_SEED}{run}") for run in range(n_runs)]
    values = raw.numbers(metric)
    info = metadata.get("info")
    return TruthTable(
        space=str(metadata.get("space", "")),
        dataset=str(metadata.get("dataset", "")),
        split=str(metadata.get("split", "")),
        source=str(metadata.get("source", "")),
        texts=tuple(raw.texts("arch")),
        accuracy=np.full_like(values, np.nan) if metric == "loss" else values,
        per_seed=np.stack(seeds, axis=1) if seeds else None,
        params=raw.whole_numbers("params") if "params" in raw.names else None,
        flops=raw.whole_numbers("flops") if "flops" in raw.names else None,
        info=info if isinstance(info, dict) else {},
        loss=values if metric == "loss" else None,
    )


def _default_column(raw: RawTable) -> list[str]:
    if "accuracy" in raw.names:
        return ["accuracy"]
    raise TruthError(
        f"{raw.place} has no column 'accuracy'; name one, as in PATH:COLUMN. "
        f"Columns: {', '.join(raw.names)}"
    )


def _arch_column(raw: RawTable) -> str:
    for name in _ARCH_NAMES:
        if name in raw.names:
            return name
    raise TruthError(
        f"{raw.place} has no column named {', '.join(_ARCH_NAMES)}; name it with arch_column. "
        f"Columns: {', '.join(raw.names)}"
    )


def _fractions(
    raw: RawTable, columns: list[str], values: NDArray[np.float64], percent: bool | None
) -> tuple[NDArray[np.float64], bool]:
    for name in columns:
        if _NOT_ACCURACY.search(name):
            raise TruthError(f"{raw.place}: {name!r} does not sound like an accuracy; rename it")
    _refuse_missing(raw, columns, values, "accuracy")
    known = values[~np.isnan(values)]
    if percent is None:
        percent = bool(known.size and known.max() > 1)
        if percent and np.mean(known <= 1) > _CHANCE_SHARE:
            raise TruthError(
                f"{raw.place}: {', '.join(columns)} runs from {known.min()} to {known.max()}, with "
                f"{np.sum(known <= 1)} of {known.size} values in [0, 1]: fractions and percents "
                f"seem mixed; correct it, or state percent=True or False"
            )
    most = 100.0 if percent else 1.0
    outside = (values < 0) | (values > most)
    if outside.any():
        row, run = np.argwhere(outside)[0]
        raise TruthError(
            f"{raw.place} {raw.row_name(int(row))}: {columns[run]} is {values[row, run]}, outside "
            f"0 to {most:g}"
        )
    return values / most, percent


def _losses(
    raw: RawTable, columns: list[str], values: NDArray[np.float64], percent: bool | None
) -> NDArray[np.float64]:
    """Return the logarithms of perplexities, nats per token."""
    if percent is not None:
        raise TruthError(f"{raw.place}: {', '.join(columns)} are perplexities; leave percent out")
    _refuse_missing(raw, columns, values, "perplexity")
    outside = (values < 1) | np.isinf(values)
    if outside.any():
        row, run = np.argwhere(outside)[0]
        raise TruthError(
            f"{raw.place} {raw.row_name(int(row))}: {columns[run]} is {values[row, run]}; a perplexity is "
            "finite and at least 1"
        )
    losses: NDArray[np.float64] = np.log(values)
    return losses


def _refuse_missing(
    raw: RawTable, columns: list[str], values: NDArray[np.float64], what: str
) -> None:
    missing = np.isnan(values).all(axis=1)
    if missing.any():
        row = int(np.argmax(missing))
        raise TruthError(f"{raw.place} {raw.row_name(row)}: no {what} in {', '.join(columns)}")


def _runs(
    raw: RawTable, texts: list[str], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return which arch each row is, in order of appearance, and the accuracies (arch, run)."""
    index_of: dict[str, int] = {}
    n_seen: Counter[str] = Counter()
    rows = np.empty(len(texts), np.int64)
    occurrence = np.empty(len(texts), np.int64)
    for position, text in enumerate(texts):
        rows[position] = index_of.setdefault(text, len(index_of))
        occurrence[position] = n_seen[text]
        n_seen[text] += 1
    n_columns = values.shape[1]
    n_runs = max(n_seen.values(), default=1) * n_columns
    if n_runs > _MAX_RUNS:
        raise TruthError(
            f"{raw.place}: arch {n_seen.most_common(1)[0][0]!r} has {n_runs} trainings, more than "
            f"{_MAX_RUNS}; is that the column of archs?"
        )
    per_seed = np.full((len(index_of), n_runs), np.nan)
    for column in range(n_columns):
        per_seed[rows, occurrence * n_columns + column] = values[:, column]
    return rows, per_seed


def _sizes(
    raw: RawTable, name: str, rows: NDArray[np.int64], first: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    if name not in raw.names:
        return None
    sizes = raw.whole_numbers(name)
    differing = sizes != sizes[first][rows]
    if differing.any():
        row = int(np.argmax(differing))
        raise TruthError(
            f"{raw.place} {raw.row_name(row)}: {name!r} is {sizes[row]}, but an earlier row of "
            f"the same arch has {sizes[first][rows][row]}"
        )
    return sizes[first]


def _write_csv(path: Path, columns: dict[str, Any], metadata: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"{CSV_MARK}{metadata}\n")
        # Quotes around all text: left to itself, the writer leaves a lone carriage return bare.
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(columns)
        # Python's numbers print the shortest text that reads back exactly.
        lists = [
            list(values) if isinstance(values, list) else values.tolist()
            for values in columns.values()
        ]
        writer.writerows(
            ["" if value != value else value for value in row] for row in zip(*lists, strict=True)
        )
