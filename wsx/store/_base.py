"""What every score store does: keep campaigns, each with one key, and hand them back as arrays."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsx.errors import OptionError, ShapeError, StoreError, StoreKeyError
from wsx.store.records import Score, ScoreKey, ScoreTable


def require_same_key(existing: ScoreKey, offered: ScoreKey) -> None:
    """Refuse to go on with a campaign under another key.

    Raises:
        StoreKeyError: The keys differ; the message names each differing field.
    """
    differences = existing.differences(offered)
    if differences:
        raise StoreKeyError(
            f"these scores belong to another campaign ({'; '.join(differences)}). Scores with "
            "different keys never mix: use the settings of the campaign, or start a new one."
        )


class Campaign(ABC):
    """All scores that share one key, open for appending."""

    def __init__(
        self,
        key: ScoreKey,
        info: dict[str, Any],
        image_ids: NDArray[np.int64],
        n_decisions: int | None,
    ) -> None:
        self.key = key
        self.info = info
        self.image_ids = image_ids
        self._n_decisions = n_decisions

    @abstractmethod
    def table(self) -> ScoreTable:
        """Return all scores of the campaign, including the last append."""

    @abstractmethod
    def _keep(self, scores: Sequence[Score]) -> None:
        """Make checked scores durable."""

    def append(self, scores: Sequence[Score]) -> None:
        """Add scores, all or none; on return they survive a kill, a power loss and a full disk.

        An arch that is scored again replaces its row.

        Raises:
            StoreError: The scores contradict themselves or cannot be written; none were added,
                unless the message says that they are safe in the journal.
            StoreKeyError: An arch has another number of decisions than the campaign.
        """
        if not scores:
            return
        n_decisions = self._n_decisions or len(scores[0].arch)
        for score in scores:
            _check_score(score, n_decisions, len(self.image_ids))
        self._n_decisions = n_decisions
        self._keep(scores)

    def finished(self) -> set[tuple[int, ...]]:
        """Return the archs that need no scoring: all but the failed ones, which are tried again."""
        table = self.table()
        return {tuple(row) for row in table.arch[table.status != "failed"].tolist()}

    def known_functions(self) -> dict[str, Score]:
        """Return the first ``ok`` score of each function key, so that equal functions run once."""
        table = self.table()
        known: dict[str, Score] = {}
        for index in np.flatnonzero(table.ok & (table.function_key != "")):
            if table.function_key[index] not in known:
                known[table.function_key[index]] = table.score(int(index))
        return known


class ScoreStore(ABC):
    """Campaigns by key.

    Obligations of every store: what ``append`` has returned for is never lost; as many archs come
    out as went in; one writer at a time, any number of readers; use from one thread.
    """

    @abstractmethod
    def keys(self) -> list[ScoreKey]:
        """Return the keys of all campaigns, oldest first."""

    @abstractmethod
    def close(self) -> None:
        """Write everything out and let go of the store; closing twice is allowed."""

    @abstractmethod
    def find(self, key: ScoreKey) -> ScoreTable | None:
        """Return the scores of a campaign, None where there is none; the others are not looked at."""

    @abstractmethod
    def _open_campaign(
        self,
        key: ScoreKey,
        info: dict[str, Any],
        image_ids: NDArray[np.int64],
        existing: ScoreTable | None,
    ) -> Campaign:
        """Create the campaign, or open it with its updated ``info``."""

    def campaign(self, key: ScoreKey, *, image_ids: ArrayLike, info: Mapping[str, Any]) -> Campaign:
        """Create the campaign of this key, or open it to go on.

        Args:
            key: What the scores depend on.
            image_ids: Which images are scored, integers ``(image,)``.
            info: Provenance, anything JSON can hold. Going on with other values keeps the first
                ones and adds the others to the list under ``resumed``.

        Raises:
            StoreKeyError: The campaign exists with other images.
            ShapeError: ``image_ids`` is not a non-empty row of integers.
            OptionError: ``info`` cannot be written as JSON.
        """
        ids = _check_image_ids(image_ids)
        values = _check_info(info)
        existing = self.find(key)
        if existing is None:
            return self._open_campaign(key, values, ids, None)
        if not np.array_equal(existing.image_ids, ids):
            raise StoreKeyError(
                f"campaign {key.digest()[:16]} was scored on {len(existing.image_ids)} images, "
                f"these {len(ids)} are others under the same images_sha256: score the same images, "
                "or give the key the digest of these"
            )
        return self._open_campaign(key, _resumed(existing.info, values), ids, existing)

    def read(self, campaign: ScoreKey | str | None = None) -> ScoreTable:
        """Return the scores of one campaign.

        Args:
            campaign: A key or the beginning of its digest; may be left out where there is only one.

        Raises:
            StoreError: No campaign fits, or several do; the message lists them.
        """
        if isinstance(campaign, ScoreKey) and (table := self.find(campaign)) is not None:
            return table
        keys, found = self.keys(), []
        if not isinstance(campaign, ScoreKey):
            found = [key for key in keys if key.digest().startswith(campaign or "")]
        if len(found) == 1 and (table := self.find(found[0])) is not None:
            return table
        wanted = campaign.digest()[:16] if isinstance(campaign, ScoreKey) else campaign
        which = "the store holds" if wanted is None else f"{wanted!r} fits"
        listed = "\n".join(f"  {key.digest()[:16]} {told}" for key, told in _told(found or keys))
        raise StoreError(
            f"{which} {len(found) or 'no'} campaigns; name one by the beginning of its digest:"
            f"\n{listed or '  (the store is empty)'}"
        )

    def tables(self) -> Iterator[ScoreTable]:
        """Yield the scores of every campaign, oldest first."""
        for key in self.keys():
            if (table := self.find(key)) is not None:
                yield table

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _told(keys: Sequence[ScoreKey]) -> list[tuple[ScoreKey, str]]:
    """Return each key with the fields that tell it from the others."""
    rows = [key.as_dict() for key in keys]
    names = [
        name for name in (rows[0] if rows else {}) if len({str(row[name]) for row in rows}) > 1
    ]
    return [
        (key, ", ".join(f"{name} {row[name] if row[name] != '' else 'none'}" for name in names))
        for key, row in zip(keys, rows, strict=True)
    ]


def _check_score(score: Score, n_decisions: int, n_images: int) -> None:
    if len(score.arch) != n_decisions or not score.arch:
        raise StoreKeyError(
            f"arch {score.arch} has {len(score.arch)} decisions, the campaign's archs have "
            f"{n_decisions}"
        )
    if not all(-(2**15) <= value < 2**15 for value in score.arch):
        raise StoreError(f"arch {score.arch} has a decision outside int16")
    if not 0 <= score.correct <= score.total <= n_images:
        raise StoreError(
            f"score of {score.text or score.arch} counts {score.correct} of {score.total} correct, "
            f"the campaign has {n_images} images"
        )
    n_bytes = (n_images + 7) // 8
    if len(score.bits) not in ({n_bytes} if score.status == "ok" else {0, n_bytes}):
        raise StoreError(
            f"score of {score.text or score.arch} has {len(score.bits)} bytes of outcomes, "
            f"{n_images} images need {n_bytes}"
        )
    if score.status != "ok":
        return
    n_ones = int(np.bitwise_count(np.frombuffer(score.bits, dtype=np.uint8)).sum())
    has_padding = n_images % 8 and score.bits[-1] & (0xFF >> n_images % 8)
    if score.total != n_images or score.correct != n_ones or has_padding:
        raise StoreError(
            f"score of {score.text or score.arch} contradicts itself: {score.correct} of "
            f"{score.total} correct, {n_ones} bits set, {n_images} images in the campaign"
        )


def _check_image_ids(image_ids: ArrayLike) -> NDArray[np.int64]:
    ids = np.asarray(image_ids)
    if ids.ndim != 1 or not ids.size or ids.dtype.kind not in "iu":
        raise ShapeError(
            f"image_ids must be a non-empty row of integers, got {ids.dtype} of shape {ids.shape}"
        )
    return ids.astype(np.int64)


def _check_info(info: Mapping[str, Any]) -> dict[str, Any]:
    try:
        text = json.dumps(dict(info), allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise OptionError(f"info must hold only what JSON can: {error}") from error
    values: dict[str, Any] = json.loads(text)
    return values


def _resumed(first: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    later = first.get("resumed", [])
    known = [{name: value for name, value in first.items() if name != "resumed"}, *later]
    return first if now in known else {**first, "resumed": [*later, now]}
