"""A folder of exported subnets: one ONNX file each, one shared weight file, a manifest.

    DIR/manifest.json     what the subnets were exported from: space, macro options, checkpoint, BatchNorm mode
    DIR/subnets.jsonl     one line per finished subnet: file, arch, text, function key
    DIR/weights.bin       the weights that all models refer to; next to them, as ONNX Runtime demands
    DIR/000000.onnx ...

A model is written before its line, so a line never stands for half a file. A repeated export reads the lines
and writes what is missing. Torch-free.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from wsx.errors import ArchError, CheckpointError, ExportError
from wsx.exporters.weights import WEIGHT_FILE, Place, WeightFile
from wsx.spaces import Arch, Cost, Space
from wsx.spaces.loading import described_space

FORMAT_VERSION = 1
MANIFEST, ROWS = "manifest.json", "subnets.jsonl"


@dataclass(frozen=True)
class SubnetRow:
    """One exported subnet.

    Attributes:
        file: Name of the ONNX file in the folder.
        arch: The arch.
        text: Its text form.
        function_key: Digest of what it computes.
        n_bytes: Size of the ONNX file.
        derived: Weights that this subnet was the first to need beyond the supernet's own: name to
            (offset, n_bytes, shape, dtype).
        params: Its parameters, counted on its graph; -1 in folders of older versions.
        flops: Its multiply-adds for one image, likewise.
    """

    file: str
    arch: Arch
    text: str
    function_key: str
    n_bytes: int
    derived: Mapping[str, Any] = field(default_factory=dict)
    params: int = -1
    flops: int = -1


class ExportFolder:
    """An export folder, open for reading, or for writing what is missing.

    Args:
        path: The folder.
        facts: The manifest.
        weights: The weights of its models.
        rows: Finished subnets, by arch.
    """

    def __init__(
        self, path: Path, facts: Mapping[str, Any], weights: WeightFile, rows: dict[Arch, SubnetRow]
    ) -> None:
        self.path = path
        self.facts = facts
        self.weights = weights
        self.rows = rows
        self.space: Space = described_space(facts)
        self._n_stored = weights.n_bytes
        self._known = {name for row in rows.values() for name in row.derived}
        self._n_seen = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of all models and the weight file."""
        return self.weights.n_bytes + sum(row.n_bytes for row in self.rows.values())

    def row(self, arch: Arch) -> SubnetRow:
        """Return the row of an arch.

        Raises:
            ArchError: The folder has no such subnet.
        """
        if arch not in self.rows:
            raise ArchError(f"{self.path} holds no subnet of {self.space.format(arch)}")
        return self.rows[arch]

    def read(self, arch: Arch) -> bytes:
        """Return the bytes of a subnet's model.

        Raises:
            ArchError: The folder has no such subnet.
            ExportError: Its file is missing or has another size than when it was written.
        """
        row = self.row(arch)
        path = self.path / Path(row.file).name
        if not path.is_file() or path.stat().st_size != row.n_bytes:
            raise ExportError(f"{path} is missing or damaged; export the subnet again")
        return path.read_bytes()

    def add(self, arch: Arch, model: bytes, function_key: str, cost: Cost) -> SubnetRow:
        """Write a subnet and its line; a killed export keeps both."""
        file = f"{len(self.rows):06d}.onnx"
        write_durably(self.path / file, model)
        derived = {
            name: (place.offset, place.n_bytes, place.shape, place.dtype.str)
            # Places are never taken back: what was looked at for the last subnet need not be again.
            for name, place in islice(self.weights.places.items(), self._n_seen, None)
            if name.startswith("derived.") and name not in self._known
        }
        text = self.space.format(arch)
        row = SubnetRow(file, arch, text, function_key, len(model), derived, **asdict(cost))
        with _writes(self.path):
            self._store_weights()
            with (self.path / ROWS).open("a") as lines:
                lines.write(json.dumps(asdict(row)) + "\n")
        self.rows[arch] = row
        self._known.update(derived)
        self._n_seen = len(self.weights.places)
        return row

    def _store_weights(self) -> None:
        buffer = self.weights.buffer
        if buffer.nbytes > self._n_stored:
            with (self.path / WEIGHT_FILE).open("r+b") as file:
                file.seek(self._n_stored)
                file.write(buffer[self._n_stored :].data)
            self._n_stored = buffer.nbytes


def create_folder(path: Path, facts: Mapping[str, Any], weights: WeightFile) -> ExportFolder:
    """Return a folder to export into; one with the same manifest is continued.

    Args:
        path: The folder; created if missing.
        facts: The manifest; ``space``, ``supernet``, ``checkpoint_sha256`` and ``bn`` are needed.
        weights: The supernet's weights; derived ones that the folder already holds are added.

    Raises:
        ExportError: The folder holds subnets of another checkpoint, space or mode.
    """
    facts = json.loads(json.dumps({"format_version": FORMAT_VERSION, **facts}))
    if (path / MANIFEST).exists():
        old = _read_manifest(path)
        if old != facts:
            names = sorted(k for k in {*old, *facts} if old.get(k) != facts.get(k))
            raise ExportError(
                f"{path} holds subnets exported otherwise: {', '.join(names)} differ. Choose another --out"
            )
        rows = _read_rows(path)
        # A first export that was killed early may have left the manifest alone.
        if rows or (path / WEIGHT_FILE).exists():
            weights.adopt(_stored_weights(path, rows))
        with _writes(path):
            weights.write(path)
        return ExportFolder(path, facts, weights, rows)
    with _writes(path):
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise ExportError(f"{path} is not empty and holds no wsx export; choose another --out")
        write_durably(path / MANIFEST, json.dumps(facts, indent=2).encode())
        weights.write(path)
    return ExportFolder(path, facts, weights, {})


def open_folder(path: Path) -> ExportFolder:
    """Return an export folder for reading.

    Raises:
        ExportError: The folder is no export, or one of a newer format.
    """
    facts = _read_manifest(path)
    rows = _read_rows(path)
    return ExportFolder(path, facts, _stored_weights(path, rows), rows)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file: complete under its name, or not at all.

    Raises:
        ExportError: The disk is full or the folder cannot be written.
    """
    part = path.with_name(path.name + ".part")
    with _writes(path):
        try:
            part.write_bytes(content)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


@contextmanager
def _writes(path: Path) -> Iterator[None]:
    """Turn the failure to write a file or folder into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"cannot write {path}: {error.strerror}. What was exported is kept; free space and repeat"
        ) from error


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((path / MANIFEST).read_text())
        version = int(facts["format_version"])
        missing = {"space", "supernet", "checkpoint_sha256", "bn"} - set(facts)
    except FileNotFoundError:
        raise ExportError(f"{path} holds no export (no {MANIFEST})") from None
    except (ValueError, KeyError, TypeError, OverflowError, OSError) as error:
        raise ExportError(f"{path / MANIFEST} is damaged: {error}") from error
    if version > FORMAT_VERSION:
        raise ExportError(
            f"{path} has export format {version}; this wsx reads up to {FORMAT_VERSION}. Upgrade wsx"
        )
    if missing:
        raise ExportError(f"{path / MANIFEST} lacks {', '.join(sorted(missing))}")
    return facts


def _read_rows(path: Path) -> dict[Arch, SubnetRow]:
    rows_path = path / ROWS
    if not rows_path.exists():
        return {}
    try:
        lines = rows_path.read_text().splitlines(keepends=True)
    except (UnicodeDecodeError, OSError) as error:
        raise ExportError(f"{rows_path} cannot be read: {error}") from error
    if lines and not lines[-1].endswith("\n"):
        # A crash cut the last line short; its subnet is exported again.
        lines.pop()
        write_durably(rows_path, "".join(lines).encode())
    rows = {}
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            row = SubnetRow(**{**values, "arch": tuple(values["arch"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ExportError(f"{rows_path} line {number} is damaged: {error}") from error
        rows[row.arch] = row
    return rows


def _stored_weights(path: Path, rows: Mapping[Arch, SubnetRow]) -> WeightFile:
    try:
        buffer = np.fromfile(path / WEIGHT_FILE, dtype=np.uint8)
    except OSError as error:
        raise CheckpointError(f"{path / WEIGHT_FILE} cannot be read: {error.strerror}") from error
    try:
        places = {
            name: Place(offset, n_bytes, tuple(shape), np.dtype(dtype))
            for row in rows.values()
            for name, (offset, n_bytes, shape, dtype) in row.derived.items()
        }
        n_bytes = max((place.offset + place.n_bytes for place in places.values()), default=0)
    except (ValueError, TypeError, AttributeError) as error:
        raise ExportError(f"{path / ROWS} is damaged: {error}") from error
    if n_bytes > buffer.nbytes:
        # New weights would be appended where finished subnets expect theirs.
        raise ExportError(
            f"{path / WEIGHT_FILE} is cut off: it has {buffer.nbytes} bytes and subnets refer to {n_bytes}. "
            "Export into another --out"
        )
    return WeightFile.from_buffer(buffer, places)


def is_folder(path: Path) -> bool:
    """Return whether a path is an export folder."""
    return (path / MANIFEST).is_file()
