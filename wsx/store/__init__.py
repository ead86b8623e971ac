"""Scores on disk that survive kills and full disks, and read back as arrays.

with open_store("scores.h5", "a") as store:
    campaign = store.campaign(key, image_ids=range(10000), info={"seed": 0})
    campaign.append(scores)
table = open_store("scores.h5").read()
table.accuracy, table.outcomes()
"""

from pathlib import Path
from typing import Literal

from wsx.store._base import Campaign, ScoreStore, require_same_key
from wsx.store.hdf5 import HDF5Store
from wsx.store.memory import MemoryStore
from wsx.store.records import STATUSES, Score, ScoreKey, ScoreTable
from wsx.store.tables import write_csv, write_parquet

__all__ = [  # noqa: RUF022 - grouped by what they are for
    # stores
    "Campaign",
    "HDF5Store",
    "MemoryStore",
    "ScoreStore",
    "open_store",
    # records
    "STATUSES",
    "Score",
    "ScoreKey",
    "ScoreTable",
    "require_same_key",
    # tables
    "write_csv",
    "write_parquet",
]


def open_store(path: str | Path, mode: Literal["r", "a"] = "r") -> HDF5Store:
    """Open a score file to read (``r``), or to read and append (``a``, created where missing).

    Raises:
        StoreError: The file is missing (``r``), foreign, damaged, locked or cannot be written.
        StoreVersionError: The file is written in a newer format.
        OptionError: Another mode.
    """
    return HDF5Store(path, mode)
