"""What a score file holds: the key of a campaign, one score, and a campaign's scores as arrays.

Axes: ``arch`` (in the order in which archs first arrived), ``decision``, ``image``.
"""

import hashlib
import json
import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from wsx.errors import OptionError, ShapeError, StoreError

FORMAT = "wsx-scores"
FORMAT_VERSION = 1
STATUSES = ("ok", "failed", "not-finite")
MAX_TEXT_BYTES = 8192
MAX_ERROR_CHARACTERS = 2000
_INT64 = np.iinfo(np.int64)


class Column(NamedTuple):
    """One per-arch column: its name, its stored type (``text`` or a numpy type) and its unit."""

    name: str
    dtype: str
    unit: str


COLUMNS = (
    Column("text", "text", ""),
    Column("function_key", "text", ""),
    Column("correct", "<i8", "image"),
    Column("total", "<i8", "image"),
    Column("loss_sum", "<f8", "nat"),
    Column("seconds_record", "<f8", "s"),
    Column("seconds_calibrate", "<f8", "s"),
    Column("seconds_build", "<f8", "s"),
    Column("seconds_run", "<f8", "s"),
    Column("status", "text", ""),
    Column("error", "text", ""),
    Column("params", "<i8", "parameter"),
    Column("flops", "<i8", "FLOP"),
)
_ARRAYS = ("arch", "bits", *(column.name for column in COLUMNS))


def _check_text(name: str, value: str) -> None:
    if not isinstance(value, str) or "\x00" in value:
        raise OptionError(f"{name} must be a string without NUL characters, got {value!r:.80}")
    try:
        n_bytes = len(value.encode())
    except UnicodeEncodeError as error:
        raise OptionError(f"{name} cannot be written as UTF-8: {value!r:.80} ({error})") from None
    if n_bytes > MAX_TEXT_BYTES:
        raise OptionError(
            f"{name} takes {n_bytes} bytes; a score file keeps at most {MAX_TEXT_BYTES}"
        )


@dataclass(frozen=True)
class ScoreKey:
    """Everything that a score depends on besides the arch; scores with different keys never mix.

    Attributes:
        space: Name of the space.
        checkpoint_sha256: Digest of the supernet's weights.
        dataset: Name of the data.
        images_sha256: Digest of the images that are scored, in order.
        bn: BatchNorm mode with its parameters, such as ``calibrated:4x256``.
        bn_images_sha256: Digest of the images behind the BatchNorm statistics; may be empty.
        batch_size: Images per batch where it changes the score, otherwise 0.
        precision: Number format of the forward pass, such as ``float32``.
        provider: Execution provider, such as ``CPUExecutionProvider``.

    Raises:
        OptionError: A field is of the wrong type or cannot be stored.
    """

    space: str
    checkpoint_sha256: str
    dataset: str
    images_sha256: str
    bn: str
    bn_images_sha256: str
    batch_size: int
    precision: str
    provider: str

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "batch_size":
                _check_text(field.name, value)
            elif type(value) is not int or not 0 <= value <= _INT64.max:
                raise OptionError(f"batch_size must be an int of at least 0, got {value!r}")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the key with these fields.

        Raises:
            StoreError: A field is missing, unknown or of the wrong type.
        """
        names = {field.name for field in fields(cls)}
        if names != set(values):
            missing, unknown = sorted(names - set(values)), sorted(set(values) - names)
            raise StoreError(f"not a score key: missing fields {missing}, unknown fields {unknown}")
        try:
            return cls(**values)
        except OptionError as error:
            raise StoreError(f"not a score key: {error}") from error

    def digest(self) -> str:
        """Return the hex SHA-256 of the key and the format, written as JSON with sorted names."""
        values = {"format": FORMAT, "format_version": FORMAT_VERSION, **self.as_dict()}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def differences(self, other: "ScoreKey") -> list[str]:
        """Return one ``field: mine != theirs`` for each field that differs."""
        theirs = other.as_dict()
        return [
            f"{name}: {value!r} != {theirs[name]!r}"
            for name, value in self.as_dict().items()
            if value != theirs[name]
        ]


@dataclass(frozen=True)
class Score:
    """One arch, scored once.

    Attributes:
        arch: One small int per decision.
        text: The arch in its space's text form.
        function_key: Digest of what the subnet computes; empty where it is unknown.
        correct: Images classified correctly.
        total: Images scored.
        loss_sum: Cross-entropy summed over the images, in nats.
        bits: ``numpy.packbits`` of one correct/wrong bit per image; may be empty unless ``ok``.
        seconds_record: Time to record the graph, in seconds; likewise the other three.
        seconds_calibrate: Time for the BatchNorm statistics.
        seconds_build: Time to create the session.
        seconds_run: Time of the forward passes.
        status: ``ok``, ``failed`` (an error, tried again next time) or ``not-finite``.
        error: What went wrong; empty when ``ok``. Clipped to 2,000 characters, and unprintable
            surrogates and NULs are escaped, so that an odd error message never loses the row.
        params: Parameters of the subnet, -1 where unknown.
        flops: Floating-point operations per image, -1 where unknown.

    Raises:
        OptionError: A field is of the wrong type, out of range or cannot be stored.
    """

    arch: tuple[int, ...]
    text: str
    function_key: str
    correct: int
    total: int
    loss_sum: float
    bits: bytes
    seconds_record: float
    seconds_calibrate: float
    seconds_build: float
    seconds_run: float
    status: str
    error: str
    params: int
    flops: int

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise OptionError(f"status must be one of {', '.join(STATUSES)}, got {self.status!r}")
        clean = self.error.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
        _set(self, "error", clean[:MAX_ERROR_CHARACTERS])
        _set(self, "arch", tuple(operator.index(value) for value in self.arch))
        _set(self, "bits", bytes(self.bits))
        for column in COLUMNS:
            value = getattr(self, column.name)
            if column.dtype == "text":
                _check_text(column.name, value)
            elif column.dtype == "<f8":
                _set(self, column.name, float(value))
            else:
                _set(self, column.name, operator.index(value))
                if not -1 <= value <= _INT64.max:
                    raise OptionError(f"{column.name} must lie in [-1, 2**63), got {value}")

    @property
    def accuracy(self) -> float:
        """Fraction of the images that are classified correctly, in [0, 1]; nan unless ``ok``."""
        return self.correct / self.total if self.status == "ok" and self.total else math.nan


def _set(score: Score, name: str, value: object) -> None:
    # numpy scalars become plain numbers once, here, so that every store sees the same values.
    object.__setattr__(score, name, value)


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """All scores of one campaign as arrays, one row per arch in the order of first arrival.

    Attributes:
        key: What the scores depend on.
        info: Where they come from: sampling measure, seed, versions, command.
        image_ids: Which images were scored, ``(image,)`` int64.
        arch: ``(arch, decision)`` int16.
        bits: Packed correct/wrong bits, ``(arch, ceil(image / 8))`` uint8; zero where not run.
        text: ``(arch,)`` of str; likewise ``function_key``, ``status`` and ``error``.
        correct: ``(arch,)`` int64, images; likewise ``total``.
        loss_sum: ``(arch,)`` float64, nats.
        seconds_record: ``(arch,)`` float64, seconds; likewise the other three.
        params: ``(arch,)`` int64, -1 where unknown; likewise ``flops``.
    """

    key: ScoreKey
    info: dict[str, Any]
    image_ids: NDArray[np.int64]
    arch: NDArray[np.int16]
    bits: NDArray[np.uint8]
    text: NDArray[np.object_]
    function_key: NDArray[np.object_]
    correct: NDArray[np.int64]
    total: NDArray[np.int64]
    loss_sum: NDArray[np.float64]
    seconds_record: NDArray[np.float64]
    seconds_calibrate: NDArray[np.float64]
    seconds_build: NDArray[np.float64]
    seconds_run: NDArray[np.float64]
    status: NDArray[np.object_]
    error: NDArray[np.object_]
    params: NDArray[np.int64]
    flops: NDArray[np.int64]

    @classmethod
    def from_scores(
        cls,
        key: ScoreKey,
        info: dict[str, Any],
        image_ids: NDArray[np.int64],
        scores: Iterable[Score],
    ) -> Self:
        """Return the table of these scores, in their order.

        Raises:
            ShapeError: Archs of different lengths, or bits that do not fit the images.
        """
        rows = list(scores)
        n_bytes = (len(image_ids) + 7) // 8
        if len({len(row.arch) for row in rows}) > 1 or any(
            len(row.bits) not in {0, n_bytes} for row in rows
        ):
            raise ShapeError(
                f"scores of one table need archs of one length and 0 or {n_bytes} bytes of bits"
            )
        arrays = {
            column.name: np.array(
                [getattr(row, column.name) for row in rows],
                dtype=object if column.dtype == "text" else column.dtype,
            )
            for column in COLUMNS
        }
        n_decisions = len(rows[0].arch) if rows else 0
        arch = np.array([row.arch for row in rows], dtype=np.int16).reshape(len(rows), n_decisions)
        packed = b"".join(row.bits or bytes(n_bytes) for row in rows)
        bits = np.frombuffer(packed, dtype=np.uint8).reshape(len(rows), n_bytes)
        return cls(key=key, info=info, image_ids=image_ids, arch=arch, bits=bits, **arrays)

    def __len__(self) -> int:
        return len(self.arch)

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Which archs have a score, ``(arch,)``."""
        return np.asarray(self.status == "ok", dtype=bool)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Fraction of the images that are classified correctly, ``(arch,)``; nan unless ``ok``."""
        return np.where(self.ok, self.correct / np.maximum(self.total, 1), np.nan)

    def outcomes(self) -> NDArray[np.bool_]:
        """Return whether each image was classified correctly, ``(arch, image)``."""
        unpacked = np.unpackbits(self.bits, axis=1, count=len(self.image_ids))
        return unpacked.astype(bool)

    def score(self, index: int) -> Score:
        """Return one row as a score; its bits are zeros where the store was given none."""
        values = {column.name: getattr(self, column.name)[index] for column in COLUMNS}
        return Score(arch=tuple(self.arch[index]), bits=self.bits[index].tobytes(), **values)

    def merged(self, newer: "ScoreTable") -> "ScoreTable":
        """Return both tables in one; an arch scored again gets the newer row in its old place."""
        parts = [table for table in (self, newer) if len(table)]
        if not parts:
            return self
        stacked = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _ARRAYS}
        # A dict keeps a key's first position and its last value.
        latest = {row.tobytes(): i for i, row in enumerate(stacked["arch"])}
        take = np.fromiter(latest.values(), dtype=np.intp, count=len(latest))
        newest: dict[str, Any] = {name: array[take] for name, array in stacked.items()}
        return replace(self, **newest)
