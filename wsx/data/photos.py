"""Images that stay on disk until they are asked for, where an array of all of them would not fit."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.data.decode import stack_images
from wsx.data.source import SourceSplit

IN_MEMORY_BYTES = 1 << 31
"""A split whose array would be larger stays on disk."""

_N_CHANNELS = 3


class LazyPixels:
    """A uint8 array (image, channel, height, width) whose images are decoded whenever it is indexed.

    It stands in for the array of an ``ImageSet``: it has its shape and is indexed along its first axis.
    Images have three channels whatever the files have.

    Args:
        split: Where the images are.
        ids: Rows of the split, shape (image,).
        image_size: Height and width that images are resized and cropped to.
    """

    ndim = 4
    dtype = np.dtype(np.uint8)

    def __init__(
        self, split: SourceSplit, ids: NDArray[np.int64], image_size: tuple[int, int]
    ) -> None:
        self._split = split
        self._ids = ids
        self._image_size = image_size
        self.shape = (len(ids), _N_CHANNELS, *image_size)

    @property
    def size(self) -> int:
        """How many numbers, and so how many bytes, the array would have."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return some of the images, decoded, as an array.

        Raises:
            DataError: An image cannot be decoded.
        """
        ids = self._ids[index]
        if not len(ids):
            return np.empty((0, *self.shape[1:]), np.uint8)
        pixels = _decode(self._split, ids, self._image_size)
        return pixels if pixels.shape[1] == _N_CHANNELS else np.repeat(pixels, _N_CHANNELS, axis=1)

    def take(self, rows: NDArray[np.int64]) -> "NDArray[np.uint8] | LazyPixels":
        """Return some of the images: decoded where they fit into memory, otherwise as they are here."""
        taken = LazyPixels(self._split, self._ids[rows], self._image_size)
        return taken if taken.size > IN_MEMORY_BYTES else taken[:]

    def __reduce__(self) -> tuple[Any, ...]:
        # Another machine may not have the files: what travels is the array.
        return np.asarray, (self[:],)


def read_pixels(
    split: SourceSplit, ids: NDArray[np.int64], image_size: tuple[int, int] | None
) -> NDArray[np.uint8] | LazyPixels:
    """Return images of a split, in memory unless they are too many.

    Args:
        split: Where the images are.
        ids: Rows of the split, shape (image,).
        image_size: Height and width to resize and crop to; None keeps sizes, which then must be equal.

    Raises:
        DataError: An image cannot be decoded, or sizes differ.
    """
    if image_size is not None:
        lazy = LazyPixels(split, ids, image_size)
        if lazy.size > IN_MEMORY_BYTES:
            return lazy
    else:
        # Photographs of all sizes are told by the first few, before a million of them are decoded.
        _decode(split, ids[:64], None)
    return _decode(split, ids, image_size)


def _decode(
    split: SourceSplit, ids: NDArray[np.int64], image_size: tuple[int, int] | None
) -> NDArray[np.uint8]:
    return stack_images(split.read(ids, image_size), [split.place(row) for row in ids.tolist()])
