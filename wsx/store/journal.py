"""The journal beside a score file: finished scores go here at once and stay until they are folded.

An SQLite database in WAL mode with full synchronisation, so that one commit is one durable append.
Each row has a number that only grows; the HDF5 file says up to which number it holds the rows,
which makes folding the same rows twice harmless.
"""

import contextlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.errors import OptionError, StoreError, StoreVersionError, WsxError
from wsx.store.atomic import sync_folder
from wsx.store.records import FORMAT_VERSION, Score, ScoreKey, ScoreTable
from wsx.version import __version__

_TIMEOUT_S = 30.0
_SCHEMA = (
    "CREATE TABLE meta (store_id TEXT NOT NULL, format_version INTEGER NOT NULL)",
    "CREATE TABLE campaigns (digest TEXT PRIMARY KEY, score_key TEXT NOT NULL, info TEXT NOT NULL,"
    " image_ids BLOB NOT NULL, is_folded INTEGER NOT NULL)",
    "CREATE TABLE scores (id INTEGER PRIMARY KEY, digest TEXT NOT NULL REFERENCES campaigns,"
    " body TEXT NOT NULL, bits BLOB NOT NULL)",
)


@dataclass(frozen=True)
class PendingCampaign:
    """What the journal holds of one campaign; ``rows`` pairs each score with its number."""

    key: ScoreKey
    info: dict[str, Any]
    image_ids: NDArray[np.int64]
    rows: list[tuple[int, Score]]

    def on_top_of(self, base: ScoreTable | None, folded_through: int) -> ScoreTable:
        """Return the folded table with the rows that it does not hold yet."""
        scores = [score for number, score in self.rows if number > folded_through]
        newer = ScoreTable.from_scores(self.key, self.info, self.image_ids, scores)
        if base is None:
            base = ScoreTable.from_scores(self.key, self.info, self.image_ids, [])
        return replace(base.merged(newer), info=self.info)


@dataclass(frozen=True)
class Pending:
    """Everything in a journal that may not be in the HDF5 file yet, campaigns by digest."""

    store_id: str
    campaigns: dict[str, PendingCampaign]

    @property
    def n_rows(self) -> int:
        """Number of scores."""
        return sum(len(campaign.rows) for campaign in self.campaigns.values())

    @property
    def last_row(self) -> int:
        """Highest row number, 0 where there is none."""
        return max((row[0] for c in self.campaigns.values() for row in c.rows), default=0)


class Journal:
    """The writer's side of the journal; created where it does not exist.

    Raises:
        StoreError: The file is not a journal or cannot be written.
    """

    def __init__(self, path: Path, store_id: str) -> None:
        self.path = path
        with _explained(path):
            self._connection = sqlite3.connect(path, timeout=_TIMEOUT_S, isolation_level=None)
        try:
            with _explained(path):
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=FULL")
                self._connection.execute("PRAGMA foreign_keys=ON")
                if not _has_tables(self._connection):
                    self._create(store_id)
                elif not _read(self._connection, path).campaigns:
                    # Nothing in it belongs to anybody, so it may serve the file it lies beside now.
                    self._connection.execute("UPDATE meta SET store_id = ?", (store_id,))
        except BaseException:
            self._connection.close()
            raise

    def _create(self, store_id: str) -> None:
        with self._transaction():
            for statement in _SCHEMA:
                self._connection.execute(statement)
            self._connection.execute("INSERT INTO meta VALUES (?, ?)", (store_id, FORMAT_VERSION))
        sync_folder(self.path.parent)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # A full disk may have rolled back already, and then there is nothing to roll back.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def pending(self, digest: str | None = None) -> Pending:
        """Return everything that is not known to be folded, or what of it belongs to one campaign."""
        with _explained(self.path):
            return _read(self._connection, self.path, digest)

    def add_campaign(
        self,
        key: ScoreKey,
        info: dict[str, Any],
        image_ids: NDArray[np.int64],
        *,
        is_folded: bool,
    ) -> None:
        """Make a campaign durable, so that scores can be appended to it.

        Args:
            key: Its key.
            info: Its provenance, replacing what the journal holds.
            image_ids: Its images, ``(image,)``.
            is_folded: The store already holds the campaign with this ``info``.

        Raises:
            StoreError: The journal cannot be written.
        """
        row = (
            key.digest(),
            json.dumps(key.as_dict()),
            json.dumps(info),
            image_ids.astype("<i8").tobytes(),
            is_folded,
        )
        with _explained(self.path), self._transaction():
            self._connection.execute(
                "INSERT INTO campaigns VALUES (?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET"
                " info = excluded.info, is_folded = is_folded AND excluded.is_folded",
                row,
            )

    def append(self, digest: str, first_row: int, scores: Sequence[Score]) -> None:
        """Make scores durable under the numbers from ``first_row`` on, all or none.

        Raises:
            StoreError: The journal cannot be written.
        """
        rows = []
        for number, score in enumerate(scores, first_row):
            body = asdict(score)
            bits = body.pop("bits")
            rows.append((number, digest, json.dumps(body), bits))
        n_bytes = sum(len(row[2]) + len(row[3]) for row in rows)
        with (
            _explained(self.path, f"{len(rows)} scores ({n_bytes} bytes) were not added"),
            self._transaction(),
        ):
            self._connection.executemany("INSERT INTO scores VALUES (?, ?, ?, ?)", rows)

    def forget(self, last_row: int) -> None:
        """Drop the rows up to this number, which the HDF5 file holds now."""
        with _explained(self.path), self._transaction():
            self._connection.execute("DELETE FROM scores WHERE id <= ?", (last_row,))
            self._connection.execute("UPDATE campaigns SET is_folded = 1")

    def close(self) -> None:
        """Let go of the journal; a journal that holds nothing is removed."""
        with contextlib.closing(self._connection), _explained(self.path):
            if self.pending().campaigns:
                return
            self._connection.execute("PRAGMA busy_timeout=0")
            # Leaving WAL mode fails while anybody reads; the empty journal then stays.
            with contextlib.suppress(sqlite3.OperationalError):
                if self._connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0] == "delete":
                    self.path.unlink()


def read_pending(path: Path, digest: str | None = None) -> Pending | None:
    """Return what a journal holds, or what of one campaign, without writing beside it.

    Returns:
        None where there is no journal.

    Raises:
        StoreError: The file is not a journal or cannot be read.
    """
    with _explained(path, "the journal cannot be read"):
        try:
            return _read_only(path, digest) if path.exists() else None
        except sqlite3.OperationalError as error:
            # The low byte is the primary code.
            if error.sqlite_errorcode & 0xFF not in {
                sqlite3.SQLITE_CANTOPEN,
                sqlite3.SQLITE_READONLY,
            }:
                raise
        # In a folder that is not writable SQLite may lack its shared-memory file. Nobody writes
        # there, so a copy is as good.
        with tempfile.TemporaryDirectory() as folder:
            for suffix in ("", "-wal"):
                if (source := path.with_name(path.name + suffix)).exists():
                    shutil.copyfile(source, Path(folder) / source.name)
            copy = Path(folder) / path.name
            return _read_only(copy, digest) if copy.exists() else None


def _read_only(path: Path, digest: str | None) -> Pending | None:
    uri = path.absolute().as_uri() + "?mode=ro"
    with contextlib.closing(
        sqlite3.connect(uri, uri=True, timeout=_TIMEOUT_S, isolation_level=None)
    ) as connection:
        connection.execute("BEGIN")
        return _read(connection, path, digest) if _has_tables(connection) else None


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None


def _read(connection: sqlite3.Connection, path: Path, only: str | None = None) -> Pending:
    store_id, version = connection.execute("SELECT store_id, format_version FROM meta").fetchone()
    if version > FORMAT_VERSION:
        raise StoreVersionError(
            f"{path} is written in format version {version}, wsx {__version__} reads up to "
            f"{FORMAT_VERSION}: update wsx"
        )
    rows: dict[str, list[tuple[int, Score]]] = {}
    try:
        for number, digest, body, bits in connection.execute(
            "SELECT id, digest, body, bits FROM scores WHERE ?1 IS NULL OR digest = ?1 ORDER BY id",
            (only,),
        ):
            rows.setdefault(digest, []).append((number, Score(bits=bits, **json.loads(body))))
        campaigns = {
            digest: PendingCampaign(
                ScoreKey.from_dict(json.loads(key)),
                json.loads(info),
                np.frombuffer(image_ids, dtype="<i8"),
                rows.get(digest, []),
            )
            for digest, key, info, image_ids, is_folded in connection.execute(
                "SELECT digest, score_key, info, image_ids, is_folded FROM campaigns"
                " WHERE ?1 IS NULL OR digest = ?1 ORDER BY rowid",
                (only,),
            )
            if digest in rows or not is_folded
        }
    except (TypeError, ValueError, OptionError) as error:
        raise _damaged(path, error) from error
    return Pending(store_id, campaigns)


def _damaged(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"{path} is not a readable journal ({error}). The HDF5 file beside it is not affected; "
        "move the journal away to go on without the scores in it."
    )


def _unusable(path: Path, what: str, error: Exception) -> StoreError:
    return StoreError(
        f"{path}: {what}: {error}. Make sure that the disk has room and the folder is writable, "
        "then run the same command again; everything added before is safe."
    )


@contextlib.contextmanager
def _explained(path: Path, what: str = "the journal cannot be used") -> Iterator[None]:
    try:
        yield
    except WsxError:
        raise
    except (sqlite3.OperationalError, OSError) as error:
        raise _unusable(path, what, error) from error
    except sqlite3.Error as error:
        raise _damaged(path, error) from error
