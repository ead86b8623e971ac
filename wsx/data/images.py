"""Images of one split and of one dataset, as arrays."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.data.photos import LazyPixels
from wsx.data.sampling import stratified
from wsx.errors import DataError, OptionError, ShapeError

# Images hashed at once: what stays on disk is decoded block by block.
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split of a dataset; its arrays must not be written to.

    Attributes:
        dataset: Name of the dataset.
        split: What the images are for: ``train``, ``valid`` or ``test``.
        pixels: uint8, shape (image, channel, height, width); in memory, or decoded when indexed.
        labels: int64, shape (image,), from 0 to n_classes - 1.
        ids: int64, shape (image,), row numbers in the source split; none twice.
        source: The source split that the ids count in: ``train``, ``valid``, ``test`` or ``all``.
        class_names: One name per class.
        mean: Mean of each channel over the training split, in [0, 1].
        std: Standard deviation of each channel over the training split, in (0, 1].
        read_photos: Decodes images by their ids, whole and each in its own size, to uint8 (height, width)
            or (height, width, 3); None where there is nothing but the pixels. A copy in another
            process has none.

    Raises:
        ShapeError: The arrays do not fit together.
        DataError: There is no image, a label without class, an id twice, or a std that is not
            above 0.
    """

    dataset: str
    split: str
    pixels: NDArray[np.uint8] | LazyPixels
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    source: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    read_photos: Callable[[NDArray[np.int64]], Sequence[NDArray[np.uint8]]] | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.dtype != np.uint8:
            raise ShapeError(
                f"pixels must be uint8 (image, channel, height, width), "
                f"not {self.pixels.dtype} {self.pixels.shape}"
            )
        for name, array in (("labels", self.labels), ("ids", self.ids)):
            if array.shape != self.pixels.shape[:1] or array.dtype != np.int64:
                raise ShapeError(
                    f"{name} must be int64 {self.pixels.shape[:1]}, not {array.dtype} {array.shape}"
                )
        if not len(self.mean) == len(self.std) == self.n_channels:
            raise ShapeError(f"mean and std need one value for each of {self.n_channels} channels")
        if not self.pixels.size:
            raise DataError(f"the {self.split} split of {self.dataset!r} holds no image")
        if self.labels.min() < 0 or self.labels.max() >= self.n_classes:
            raise DataError(
                f"labels of {self.dataset!r} {self.split} run from {self.labels.min()} to "
                f"{self.labels.max()}, but there are {self.n_classes} classes"
            )
        if np.unique(self.ids).size != self.ids.size:
            raise DataError(f"the {self.split} split of {self.dataset!r} holds an id twice")
        if not all(value > 0 for value in self.std):
            raise DataError(f"std {self.std} of {self.dataset!r}: a constant channel says nothing")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "read_photos": None}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def n_channels(self) -> int:
        """How many channels an image has: 1 or 3."""
        return int(self.pixels.shape[1])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of every image, in pixels."""
        return int(self.pixels.shape[2]), int(self.pixels.shape[3])

    @cached_property
    def digest(self) -> str:
        """SHA-256 over dataset, source, ids, labels and pixels, in hexadecimal."""
        header = json.dumps([self.dataset, self.source, list(self.pixels.shape)])
        state = hashlib.sha256(header.encode())
        for array in (self.ids.astype("<i8"), self.labels.astype("<i8")):
            state.update(np.ascontiguousarray(array).data)
        for start in range(0, len(self), _BLOCK):
            state.update(np.ascontiguousarray(self.pixels[start : start + _BLOCK]).data)
        return state.hexdigest()

    def take(self, n: int, *, seed: int | None = None) -> "ImageSet":
        """Return n of the images: the first ones, or a class-stratified sample if a seed is given.

        Raises:
            OptionError: n is below 1.
            DataError: There are fewer than n images.
        """
        if n < 1:
            raise OptionError(f"cannot take {n} images; ask for at least 1")
        if n > len(self):
            raise DataError(
                f"cannot take {n} images: the {self.split} split of {self.dataset!r} "
                f"has {len(self)}; ask for fewer"
            )
        chosen = (
            np.arange(n)
            if seed is None
            else stratified(self.labels, n, np.random.default_rng(seed))
        )
        pixels = self.pixels
        taken = pixels.take(chosen) if isinstance(pixels, LazyPixels) else pixels[chosen]
        return replace(self, pixels=taken, labels=self.labels[chosen], ids=self.ids[chosen])

    def floats(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Return images start to stop, normalised: (pixel / 255 - mean) / std, per channel.

        Returns:
            float32, C-contiguous, shape (image, channel, height, width).
        """
        pixels = self.pixels[start:stop]
        out = np.empty(pixels.shape, np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            table = ((np.arange(256) / 255 - mean) / std).astype(np.float32)
            out[:, channel] = table[pixels[:, channel]]
        return out


@dataclass(frozen=True)
class Dataset:
    """Three splits that share classes, shape and normalisation, and no image.

    Raises:
        ShapeError: The splits differ in classes or in image shape.
        DataError: Two splits share ids, or one holds nothing but images of another.
    """

    name: str
    spec: str
    train: ImageSet
    valid: ImageSet
    test: ImageSet

    def __post_init__(self) -> None:
        for one, other in combinations((self.train, self.valid, self.test), 2):
            if (
                one.class_names != other.class_names
                or one.pixels.shape[1:] != other.pixels.shape[1:]
            ):
                raise ShapeError(
                    f"{one.split} of {self.name!r} has {one.n_classes} classes and images of shape "
                    f"{one.pixels.shape[1:]}, {other.split} has {other.n_classes} and "
                    f"{other.pixels.shape[1:]}"
                )
            shared = np.intersect1d(one.ids, other.ids)
            if shared.size and one.source == other.source:
                raise DataError(
                    f"{one.split} and {other.split} of {self.name!r} share {shared.size} images, "
                    f"such as row {shared[0]} of source split {one.source!r}"
                )
        self._refuse_copies()

    def _refuse_copies(self) -> None:
        # Single images that a source holds twice are its own affair; a split that is wholly part
        # of another is a file that was copied or named wrongly. Splits that stay on disk are not decoded
        # for this.
        contents = {
            one.split: _content_hashes(one.pixels)
            for one in (self.train, self.valid, self.test)
            if not isinstance(one.pixels, LazyPixels)
        }
        for one, other in combinations(contents, 2):
            smaller, larger = sorted((one, other), key=lambda split: len(contents[split]))
            if contents[smaller] <= contents[larger]:
                raise DataError(
                    f"every image of {self.name!r} {smaller} is also in {larger}: accuracies would "
                    f"mean nothing; check that the files of the two splits are not copies"
                )


def _content_hashes(pixels: NDArray[np.uint8]) -> set[bytes]:
    return {hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in pixels}
