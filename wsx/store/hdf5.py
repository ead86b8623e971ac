"""The score store on disk: an HDF5 file and, while somebody writes, a journal beside it.

``append`` commits to the journal and returns. Every so often, and on closing, the journal is
folded: a complete new HDF5 file is built in memory, written beside the old one, synchronised and
put in its place, and only then are the journal's rows deleted. So at any instant the HDF5 file is
whole, and a row is in the file, in the journal, or in both under the same number.
"""

import contextlib
import io
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from wsx.errors import OptionError, StoreError
from wsx.store._base import Campaign, ScoreStore
from wsx.store.atomic import partial_path, replace_bytes
from wsx.store.guard import open_scores
from wsx.store.journal import Journal, Pending, read_pending
from wsx.store.layout import (
    campaign_group,
    campaign_groups,
    read_campaign,
    read_header,
    read_key,
    refuse_foreign_members,
    write_campaign,
    write_header,
)
from wsx.store.lock import WriterLock
from wsx.store.records import Score, ScoreKey, ScoreTable

# A fold rewrites the file, so it waits for this part of what the file holds: all folds together
# write about five times the final file, however large it grows.
_FOLD_PART = 4


class HDF5Store(ScoreStore):
    """Campaigns in an HDF5 file.

    Args:
        path: The file; a link is followed, so that the journal lies beside the real file.
        mode: ``r`` reads the file and a journal left beside it and writes nothing, ``a`` also
            appends and folds such a journal first.
        fold_rows: Fold after at least this many scores (and a quarter of those in the file).

    Raises:
        StoreError: The file is missing (``r``), foreign, damaged, locked or cannot be written.
        StoreVersionError: The file is written in a newer format.
        OptionError: ``mode`` or ``fold_rows`` is not valid.
    """

    def __init__(
        self, path: str | Path, mode: Literal["r", "a"] = "r", *, fold_rows: int = 2000
    ) -> None:
        if mode not in {"r", "a"} or fold_rows < 1:
            raise OptionError(
                f"mode must be 'r' or 'a' and fold_rows at least 1, got {mode!r} and {fold_rows}"
            )
        self.path = Path(path).resolve()
        self._journal_path = self.path.with_name(self.path.name + ".journal")
        self._fold_rows = fold_rows
        self._writer: _Writer | None = None
        if mode == "r":
            if self.path.exists() or not self._journal_path.exists():
                with open_scores(self.path):
                    pass
            return
        lock = WriterLock(self.path.with_name(self.path.name + ".lock"))
        try:
            self._writer = _Writer(self.path, self._journal_path, lock)
        except BaseException:
            lock.release()
            raise

    def keys(self) -> list[ScoreKey]:
        """Return the keys of all campaigns, oldest first."""
        # The journal first: what is folded in between is then seen twice and not missed.
        pending = self._pending()
        keys: dict[str, ScoreKey] = {}
        if self.path.exists():
            with open_scores(self.path) as file:
                _check_same_store(self.path, file, pending)
                keys = {digest: read_key(group) for digest, group in campaign_groups(file).items()}
        if pending is not None:
            keys |= {digest: campaign.key for digest, campaign in pending.campaigns.items()}
        return list(keys.values())

    def close(self) -> None:
        """Fold the journal and let others write; closing twice is allowed.

        Raises:
            StoreError: The HDF5 file could not be written; the scores are safe in the journal.
        """
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _pending(self, digest: str | None = None) -> Pending | None:
        if self._writer is not None:
            return self._writer.journal.pending(digest)
        return read_pending(self._journal_path, digest)

    def find(self, key: ScoreKey) -> ScoreTable | None:
        """Return the scores of a campaign, None where there is none; the others are not looked at."""
        digest, base, folded_through = key.digest(), None, 0
        pending = self._pending(digest)
        if self.path.exists():
            with open_scores(self.path) as file:
                folded_through = _check_same_store(self.path, file, pending)
                if (group := campaign_group(file, digest)) is not None:
                    base = read_campaign(group)
        if pending is not None and digest in pending.campaigns:
            return pending.campaigns[digest].on_top_of(base, folded_through)
        return base

    def _open_campaign(
        self,
        key: ScoreKey,
        info: dict[str, Any],
        image_ids: NDArray[np.int64],
        existing: ScoreTable | None,
    ) -> Campaign:
        is_folded = existing is not None and info == existing.info
        self._writing().journal.add_campaign(key, info, image_ids, is_folded=is_folded)
        n_decisions = None if existing is None else existing.arch.shape[1] or None
        return _HDF5Campaign(self, key, info, image_ids, n_decisions)

    def _writing(self) -> "_Writer":
        if self._writer is None:
            raise StoreError(f"{self.path} is not open for appending: open it with mode 'a'")
        return self._writer

    def _append(self, key: ScoreKey, scores: Sequence[Score]) -> None:
        writer = self._writing()
        writer.append(key.digest(), scores)
        if writer.n_pending >= max(self._fold_rows, writer.n_folded // _FOLD_PART):
            writer.fold()


class _HDF5Campaign(Campaign):
    def __init__(
        self,
        store: HDF5Store,
        key: ScoreKey,
        info: dict[str, Any],
        image_ids: NDArray[np.int64],
        n_decisions: int | None,
    ) -> None:
        super().__init__(key, info, image_ids, n_decisions)
        self._store = store

    def table(self) -> ScoreTable:
        return self._store.read(self.key)

    def _keep(self, scores: Sequence[Score]) -> None:
        self._store._append(self.key, scores)


class _Writer:
    """What only the one writer has: the lock, the journal, and the duty to fold."""

    def __init__(self, path: Path, journal_path: Path, lock: WriterLock) -> None:
        self._path = path
        self._lock = lock
        store_id, self._last_row, self.n_folded = uuid.uuid4().hex, 0, 0
        # Left by a fold that was killed; nothing but this writer ever reads or writes it.
        with contextlib.suppress(OSError):
            partial_path(path).unlink(missing_ok=True)
        if path.exists():
            with open_scores(path) as file:
                refuse_foreign_members(file)
                store_id, self._last_row = read_header(file)
        self.journal = Journal(journal_path, store_id)
        try:
            self._last_row = max(self._last_row, self.journal.pending().last_row)
            self.n_pending = 0
            self.fold()
        except BaseException:
            with contextlib.suppress(StoreError):
                self.journal.close()
            raise

    def append(self, digest: str, scores: Sequence[Score]) -> None:
        self.journal.append(digest, self._last_row + 1, scores)
        self._last_row += len(scores)
        self.n_pending += len(scores)

    def fold(self) -> None:
        """Move everything from the journal into the HDF5 file; doing it twice changes nothing."""
        pending = self.journal.pending()
        if not pending.campaigns:
            return
        image = self._build(pending)
        try:
            replace_bytes(self._path, image)
        except OSError as error:
            raise StoreError(
                f"cannot write {self._path} ({len(image)} bytes): {error}. {pending.n_rows} scores "
                f"are safe in {self.journal.path}. Make sure that the disk has room for a second "
                "copy of the file, then run the same command again, which goes on from there."
            ) from error
        self.n_pending = 0
        # Deleting takes room too. Where there is none the rows stay, and by their numbers the next
        # fold and every reader know that the file holds them.
        with contextlib.suppress(StoreError):
            self.journal.forget(pending.last_row)

    def _build(self, pending: Pending) -> memoryview:
        # In memory, because HDF5 cannot close a file on a full disk and stays confused afterwards.
        buffer = io.BytesIO()
        with contextlib.ExitStack() as stack:
            new = stack.enter_context(h5py.File(buffer, "w"))
            old, folded_through = {}, 0
            if self._path.exists():
                file = stack.enter_context(open_scores(self._path))
                folded_through = _check_same_store(self._path, file, pending)
                old = campaign_groups(file)
            campaigns = write_header(new, pending.store_id, max(folded_through, pending.last_row))
            self.n_folded = 0
            for digest in dict.fromkeys([*old, *pending.campaigns]):
                if digest in pending.campaigns:
                    base = read_campaign(old[digest]) if digest in old else None
                    table = pending.campaigns[digest].on_top_of(base, folded_through)
                    write_campaign(campaigns, table)
                else:
                    old[digest].copy(old[digest], campaigns, digest[:16])
                self.n_folded += len(campaigns[digest[:16]]["arch"])
        return buffer.getbuffer()

    def close(self) -> None:
        try:
            self.fold()
        finally:
            try:
                self.journal.close()
            finally:
                self._lock.release()


def _check_same_store(path: Path, file: h5py.File, pending: Pending | None) -> int:
    """Return the last folded row, having made sure that the journal belongs to the file."""
    store_id, folded_through = read_header(file)
    if pending is not None and pending.campaigns and pending.store_id != store_id:
        raise StoreError(
            f"{path} and the journal beside it belong to different stores, so one of them was "
            "moved here: put each back beside its own, or move the journal away"
        )
    return folded_through
