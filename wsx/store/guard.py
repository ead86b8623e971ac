"""Open what somebody else may have written: only plain data of a plausible size gets through.

HDF5 follows external links, external raw storage and virtual datasets to any file of the machine
without asking, and a file of a few kilobytes can declare terabytes. All of these are refused
before a byte is read or allocated.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from wsx.errors import StoreError, StoreVersionError, WsxError
from wsx.store.records import FORMAT, FORMAT_VERSION
from wsx.version import __version__

MAX_DATASET_BYTES = 2**34
# Deflate cannot do better than 1032 to 1, so a larger claim is not backed by data.
_MAX_COMPRESSION = 1100
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


@contextlib.contextmanager
def open_scores(path: Path) -> Iterator[h5py.File]:
    """Open a score file for reading; whatever goes wrong inside is a ``StoreError`` with the path.

    Raises:
        StoreError: Missing, not HDF5, not a score file, truncated or damaged.
        StoreVersionError: Written in a newer format.
    """
    if not path.is_file():
        raise StoreError(f"there is no score file {path}: check the name")
    try:
        if not h5py.is_hdf5(path):
            raise StoreError(
                f"{path} is not an HDF5 file, or its beginning is lost: restore it from a copy"
            )
        # The file is only ever replaced as a whole, so HDF5's own locks would only get in the way
        # on read-only media and network file systems.
        with h5py.File(path, "r", locking=False) as file:
            _check_format(file, path)
            yield file
    except WsxError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise StoreError(
            f"{path} is truncated, damaged or unreadable ({error}): restore it from a copy, or "
            "move it away and score again"
        ) from error


def _check_format(file: h5py.File, path: Path) -> None:
    if "format" not in file.attrs or text_attribute(file, "format") != FORMAT:
        raise StoreError(
            f"{path} is an HDF5 file but not a score file: its attribute 'format' is not {FORMAT!r}"
        )
    version = integer_attribute(file, "format_version")
    if version > FORMAT_VERSION:
        raise StoreVersionError(
            f"{path} is written in format version {version} (by wsx "
            f"{text_attribute(file, 'wsx_version')}), wsx {__version__} reads up to "
            f"{FORMAT_VERSION}: update wsx"
        )
    if version < 1:
        raise StoreError(f"{path} names the format version {version}, which never existed")


def text_attribute(item: h5py.Group, name: str) -> str:
    """Return a string attribute.

    Raises:
        StoreError: It is missing or not a single string.
    """
    _check_attribute(item, name)
    value = item.attrs[name]
    if not isinstance(value, str):
        raise StoreError(f"{item.file.filename}: attribute {name!r} of {item.name} is not a string")
    return value


def integer_attribute(item: h5py.Group, name: str) -> int:
    """Return an integer attribute.

    Raises:
        StoreError: It is missing or not a single integer.
    """
    _check_attribute(item, name)
    value = item.attrs[name]
    if not isinstance(value, np.integer):
        raise StoreError(
            f"{item.file.filename}: attribute {name!r} of {item.name} is not an integer"
        )
    return int(value)


def _check_attribute(item: h5py.Group, name: str) -> None:
    if name not in item.attrs or item.attrs.get_id(name).shape != ():
        raise StoreError(
            f"{item.file.filename}: attribute {name!r} of {item.name} is missing or not "
            "a single value"
        )


def member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """Return an object that truly lies in this file.

    Raises:
        StoreError: It is missing, or a soft or external link.
    """
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        what = "missing" if link is None else f"a {type(link).__name__}, which is never followed"
        raise StoreError(f"{group.file.filename}: {name!r} of {group.name} is {what}")
    return group[name]


def plain_dataset(group: h5py.Group, name: str, *, dtype: str, n_axes: int) -> h5py.Dataset:
    """Return a dataset that is safe to read whole.

    Args:
        group: Where it lies.
        name: Its name.
        dtype: Expected numpy type, or ``text`` for fixed-width strings.
        n_axes: Expected number of axes.

    Raises:
        StoreError: Not a dataset of this kind, virtual, stored elsewhere, behind an unknown
            filter, or larger than its file can hold.
    """
    item = member(group, name)
    where = f"{group.file.filename}: {group.name}/{name}"
    if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
        raise StoreError(f"{where} is not a dataset stored in this file: nothing else is read")
    is_text = item.dtype.kind == "S" and h5py.check_string_dtype(item.dtype) is not None
    if not (is_text if dtype == "text" else item.dtype == np.dtype(dtype)) or item.ndim != n_axes:
        raise StoreError(
            f"{where} has type {item.dtype} and {item.ndim} axes, expected {dtype} and {n_axes}"
        )
    plist = item.id.get_create_plist()
    filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
    if filters - _FILTERS:
        raise StoreError(
            f"{where} needs the HDF5 filters {sorted(filters - _FILTERS)}, which are not allowed"
        )
    _check_size(item, where)
    return item


def _check_size(item: h5py.Dataset, where: str) -> None:
    stored = min(item.id.get_storage_size(), Path(item.file.filename).stat().st_size)
    limit = min(MAX_DATASET_BYTES, _MAX_COMPRESSION * stored)
    if item.nbytes > limit:
        raise StoreError(
            f"{where} claims {item.nbytes} bytes but stores {stored} (limit {limit}): "
            "nothing is read"
        )
    # A chunk is unpacked as a whole, however little of it belongs to the dataset.
    if item.chunks and item.nbytes and any(np.greater(item.chunks, item.shape)):
        raise StoreError(f"{where} has chunks {item.chunks} beyond its shape {item.shape}")
