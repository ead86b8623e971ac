"""A score store that lives as long as the process: the HDF5 store's twin."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.errors import StoreError
from wsx.store._base import Campaign, ScoreStore
from wsx.store.records import Score, ScoreKey, ScoreTable


class MemoryStore(ScoreStore):
    """Campaigns in a dict; nothing is written anywhere."""

    def __init__(self) -> None:
        self._tables: dict[ScoreKey, ScoreTable] = {}
        self._is_closed = False

    def keys(self) -> list[ScoreKey]:
        """Return the keys of all campaigns, oldest first."""
        return list(self._tables)

    def close(self) -> None:
        """Refuse further appends; what was stored can still be read."""
        self._is_closed = True

    def find(self, key: ScoreKey) -> ScoreTable | None:
        """Return the scores of a campaign, None where there is none."""
        return self._tables.get(key)

    def _open_campaign(
        self,
        key: ScoreKey,
        info: dict[str, Any],
        image_ids: NDArray[np.int64],
        existing: ScoreTable | None,
    ) -> Campaign:
        self._check_open()
        table = ScoreTable.from_scores(key, info, image_ids, []) if existing is None else existing
        self._tables[key] = replace(table, info=info)
        n_decisions = table.arch.shape[1] or None
        return _MemoryCampaign(self, key, info, image_ids, n_decisions)

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreError("the store in memory is closed: open a new one to append")


class _MemoryCampaign(Campaign):
    def __init__(
        self,
        store: MemoryStore,
        key: ScoreKey,
        info: dict[str, Any],
        image_ids: NDArray[np.int64],
        n_decisions: int | None,
    ) -> None:
        super().__init__(key, info, image_ids, n_decisions)
        self._store = store

    def table(self) -> ScoreTable:
        return self._store._tables[self.key]

    def _keep(self, scores: Sequence[Score]) -> None:
        self._store._check_open()
        newer = ScoreTable.from_scores(self.key, self.info, self.image_ids, scores)
        self._store._tables[self.key] = self.table().merged(newer)
