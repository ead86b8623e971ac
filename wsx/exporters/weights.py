"""One flat file of weights for all subnets of a checkpoint.

Raw little-endian values at aligned offsets. What subnets derive from the supernet's tensors, such as sliced
kernels, is appended once per distinct content. The same bytes lie in memory for scoring and on disk for
exported folders.
"""

import hashlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsx.errors import ExportError

WEIGHT_FILE, SCRATCH_FILE = "weights.bin", "scratch.bin"
ALIGNMENT = 64
DTYPES = (np.dtype("float32"), np.dtype("float64"), np.dtype("int64"))


# Compared by identity: a file makes one for each weight, and emission looks them up by the hundred.
@dataclass(frozen=True, eq=False)
class Place:
    """Where a weight lies in the file."""

    offset: int
    n_bytes: int
    shape: tuple[int, ...]
    dtype: np.dtype
    file_name: str = WEIGHT_FILE

    @property
    def n_values(self) -> int:
        """Numbers that the weight has."""
        return self.n_bytes // self.dtype.itemsize


class WeightFile:
    """The weights of a checkpoint, by name, in one growing buffer.

    Args:
        tensors: The supernet's parameters and buffers.
        file_name: Under which models refer to the file.

    Attributes:
        file_name: As given.
        emitted: What kinds of nodes become in ONNX; see ``wsx.exporters.templates``.

    Threads may add and look up at once: bytes once written never move inside the file.
    """

    def __init__(
        self, tensors: Mapping[str, np.ndarray], *, file_name: str = WEIGHT_FILE
    ) -> None:
        self.file_name = file_name
        self.emitted: dict[Any, Any] = {}
        self._scratch: WeightFile | None = None
        self._lock = threading.Lock()
        self._places: dict[str, Place] = {}
        self._n_bytes = 0
        self._buffer = np.zeros(sum(_padded(t.nbytes) for t in tensors.values()), dtype=np.uint8)
        for name, tensor in tensors.items():
            self._append(name, tensor)

    @classmethod
    def from_buffer(cls, buffer: np.ndarray, places: Mapping[str, Place]) -> "WeightFile":
        """Return the weights of a file that was read back, of which only some need names."""
        weights = cls({})
        weights._buffer, weights._n_bytes, weights._places = buffer, buffer.nbytes, dict(places)
        return weights

    def adopt(self, stored: "WeightFile") -> None:
        """Take over the derived weights of a file that began with these very weights, places included.

        Raises:
            ExportError: The file began with other weights.
        """
        with self._lock:
            mine = self._buffer[: self._n_bytes]
            if not np.array_equal(stored._buffer[: len(mine)], mine):
                raise ExportError(f"{WEIGHT_FILE} holds other weights than the checkpoint")
            n_bytes = _padded(len(stored._buffer))
            self._buffer = np.zeros(n_bytes, dtype=np.uint8)
            self._buffer[: len(stored._buffer)] = stored._buffer
            self._n_bytes = n_bytes
            self._places.update(stored._places)
            self.emitted.clear()

    @property
    def scratch(self) -> "WeightFile":
        """What models need that are scored here and never saved: a file of its own, which nobody writes."""
        with self._lock:
            if self._scratch is None:
                self._scratch = WeightFile({}, file_name=SCRATCH_FILE)
            return self._scratch

    @property
    def places(self) -> Mapping[str, Place]:
        """Where each weight lies."""
        return self._places

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> Place:
        return self._places[name]

    @property
    def n_bytes(self) -> int:
        """Bytes in use."""
        return self._n_bytes

    @property
    def buffer(self) -> np.ndarray:
        """All bytes in use, uint8; later additions need not appear in it."""
        with self._lock:
            return self._buffer[: self._n_bytes]

    def array(self, name: str) -> np.ndarray:
        """Return a weight by name, a view into the buffer."""
        place = self._places[name]
        raw = self.buffer[place.offset : place.offset + place.n_bytes]
        return raw.view(place.dtype).reshape(place.shape)

    def add_derived(self, array: np.ndarray, owner: str = "") -> str:
        """Return the name of a derived weight, which is appended if its owner has none of this content."""
        array = np.ascontiguousarray(array)
        identity = hashlib.blake2b(f"{array.dtype}{array.shape}{owner}".encode(), digest_size=12)
        identity.update(array.tobytes())
        name = f"derived.{identity.hexdigest()}"
        with self._lock:
            if name not in self._places:
                self._append(name, array)
        return name

    def write(self, folder: Path) -> None:
        """Write the file into a folder: complete under its name, or not at all."""
        part = folder / f"{self.file_name}.part"
        try:
            with part.open("wb") as file:
                file.write(self.buffer.data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(folder / self.file_name)
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def _append(self, name: str, tensor: np.ndarray) -> None:
        if tensor.dtype not in DTYPES:
            raise ExportError(f"weight {name} is {tensor.dtype}; subnets are exported from float32")
        start, end = self._n_bytes, self._n_bytes + _padded(tensor.nbytes)
        if end > len(self._buffer):
            # A new buffer: sessions being made keep reading the old one, whose bytes stay as they are.
            grown = np.zeros(max(end, 2 * len(self._buffer)), dtype=np.uint8)
            grown[:start] = self._buffer[:start]
            self._buffer = grown
        raw = np.ascontiguousarray(tensor).astype(tensor.dtype.newbyteorder("<"), copy=False)
        self._buffer[start : start + raw.nbytes] = raw.reshape(-1).view(np.uint8)
        self._places[name] = Place(
            start, raw.nbytes, tensor.shape, tensor.dtype, self.file_name
        )
        self._n_bytes = end


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT
