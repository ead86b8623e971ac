"""NAS-Bench-101's stand-alone accuracies, a table with a row per cell, named by the benchmark's hash."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa

from wsx.errors import TruthError
from wsx.registry import unknown_name
from wsx.truth.raw import RawTable, read_raw
from wsx.truth.table import TruthTable

SPLITS = ("valid", "test")
N_RUNS = 3
EPOCHS = 108

_HASH = re.compile(r"[0-9a-f]{32}")


def read_nasbench101(path: Path, split: str = "test") -> TruthTable:
    """Read a table of NAS-Bench-101, of all cells or some.

    Texts are the benchmark's hashes, one for all encodings of a cell: align ``Space.truth_text`` with them.
    Accuracies are fractions on CIFAR-10 after 108 epochs, ``per_seed`` the three trainings of each cell.

    Source: C. Ying et al., NAS-Bench-101, ICML 2019; arXiv 1902.09635.

    Args:
        path: A parquet or CSV file with the columns ``module_hash`` (16 bytes, or 32 hexadecimal digits),
            ``valid_acc_1`` to ``valid_acc_3``, ``test_acc_1`` to ``test_acc_3`` and ``params``.
        split: ``test`` or ``valid``.

    Raises:
        UnknownNameError: There is no such split or column.
        TruthError: The file is unreadable, or a hash or number is missing or out of range.
    """
    if split not in SPLITS:
        raise unknown_name("NAS-Bench-101 split", split, list(SPLITS))
    raw = read_raw(path)
    per_seed = np.stack([raw.numbers(f"{split}_acc_{run}") for run in range(1, N_RUNS + 1)], axis=1)
    texts = _hashes(raw)
    is_known = ~np.isnan(per_seed)
    if not is_known.any(axis=1).all():
        row = int(np.argmin(is_known.any(axis=1)))
        raise TruthError(f"{raw.place} {raw.row_name(row)}: no {split} accuracy of {texts[row]}")
    return TruthTable(
        space="nasbench101",
        dataset="cifar10",
        split=split,
        source=path.name,
        texts=tuple(texts),
        accuracy=np.where(is_known, per_seed, 0).sum(axis=1) / is_known.sum(axis=1),
        per_seed=per_seed,
        params=raw.whole_numbers("params"),
        info={"epochs": EPOCHS},
    )


def _hashes(raw: RawTable) -> list[str]:
    column = raw.column("module_hash")
    is_bytes = pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
    is_bytes = is_bytes or pa.types.is_fixed_size_binary(column.type)
    values = column.to_pylist() if is_bytes else raw.texts("module_hash")
    texts = [value.hex() if isinstance(value, bytes) else str(value) for value in values]
    for row, text in enumerate(texts):
        if _HASH.fullmatch(text) is None:
            raise TruthError(
                f"{raw.place} {raw.row_name(row)}: module_hash is {text[:60]!r}, not 16 bytes or 32 "
                f"lower-case hexadecimal digits"
            )
    return texts
