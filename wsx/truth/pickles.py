"""Plain values out of other people's compressed pickles, without running their code."""

import bz2
import io
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

from wsx.errors import TruthError

MAX_BYTES = 1 << 26  # The largest file of NATS-Bench's folder form unpacks to 1.4 MB.
_FORMATS = {"f8": "d", "f4": "f", "i8": "q", "i4": "i"}


def read_pickle(path: Path) -> Any:
    """Read a pickle in bz2 that holds dicts, lists, strings, numbers and NumPy scalars.

    Only three names are known to it, and two of them are stand-ins for NumPy's, so reading it can
    neither import nor call anything else.

    Raises:
        TruthError: The file is damaged, unpacks to more than MAX_BYTES, or names another global.
    """
    try:
        return _Unpickler(io.BytesIO(_unpack(path))).load()
    except TruthError as error:
        raise TruthError(f"{path}: {error}") from error
    except Exception as error:
        # A damaged pickle makes the unpickler raise almost anything.
        raise TruthError(
            f"{path} is not a readable pickle in bz2 ({type(error).__name__}: {error}); "
            f"download it again"
        ) from error


def _unpack(path: Path) -> bytes:
    unpacker = bz2.BZ2Decompressor()
    data = unpacker.decompress(path.read_bytes(), max_length=MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise TruthError(f"unpacks to more than {MAX_BYTES} bytes; it is no NATS-Bench record")
    if not unpacker.eof:
        raise TruthError("is truncated; download it again")
    return data


class _DType:
    """What a pickled ``numpy.dtype`` of a plain number says."""

    def __init__(self, name: str, *_: object) -> None:
        if name not in _FORMATS:
            raise TruthError(f"holds a NumPy scalar of type {name!r}; only plain numbers are read")
        self.format = _FORMATS[name]

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if state[1] != "<":
            raise TruthError(f"holds NumPy scalars of byte order {state[1]!r}")


def _scalar(kind: _DType, data: bytes) -> float | int:
    value: float | int = struct.unpack(f"<{kind.format}", data)[0]
    return value


_KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in _KNOWN:
            raise TruthError(
                f"refused: the pickle asks for {module_name}.{global_name}, which no NATS-Bench "
                f"record needs; do not use this file"
            )
        return _KNOWN[module_name, global_name]
