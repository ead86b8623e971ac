"""Random resized crops: photographs of all sizes become a batch of one size."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from wsx.data import ImageSet
from wsx.errors import DataError
from wsx.training.recipes import Recipe

N_ATTEMPTS = 10
_N_THREADS = min(8, os.cpu_count() or 1)

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a crop, in pixels."""


class PhotoCrops:
    """Random resized crops (Szegedy et al., CVPR 2015), mirrored or not, of an image set's photographs.

    A crop has a uniform share of the photograph's area, at least ``crop_area``, and a log-uniform ratio of its
    sides, at most ``crop_ratio`` either way. It is resized with a triangle filter that widens with the
    reduction, so that nothing aliases.

    Raises:
        DataError: The set has pixels only.
    """

    def __init__(self, images: ImageSet, recipe: Recipe) -> None:
        if images.read_photos is None:
            raise DataError(
                f"{images.dataset} {images.split} has no photographs to crop, only pixels; load it with "
                "load_data, or set crop_area to 0"
            )
        self._read = images.read_photos
        self._ids = images.ids
        self._shape = images.pixels.shape[1:]
        self._recipe = recipe
        self._pool = ThreadPoolExecutor(_N_THREADS)

    def __call__(self, rows: NDArray[np.int64], rng: np.random.Generator) -> torch.Tensor:
        """Return one crop of each image, uint8 (image, channel, height, width).

        Raises:
            DataError: A photograph cannot be decoded.
        """
        draws = rng.random((len(rows), 2 * N_ATTEMPTS + 2))
        is_flipped = rng.random(len(rows)) < 0.5 * self._recipe.flips
        photos = self._read(self._ids[rows])
        n_channels, *size = self._shape
        out = np.empty((len(rows), *size, n_channels), np.uint8)

        def crop(i: int) -> None:
            box = self.box(photos[i].shape[:2], draws[i])
            view = _resized(photos[i], box, size, n_channels)
            out[i] = view[:, ::-1] if is_flipped[i] else view

        list(self._pool.map(crop, range(len(rows))))
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    def box(self, size: tuple[int, ...], draws: NDArray[np.float64]) -> Box:
        """Return the crop of a photograph of so many pixels (height, width) for numbers drawn from [0, 1)."""
        height, width = size
        least, ratio = self._recipe.crop_area, self._recipe.crop_ratio
        *attempts, place_y, place_x = draws.tolist()
        for share, tilt in zip(attempts[::2], attempts[1::2], strict=True):
            area = height * width * (least + share * (1 - least))
            aspect = ratio ** (2 * tilt - 1)
            crop_height, crop_width = round((area / aspect) ** 0.5), round((area * aspect) ** 0.5)
            if 0 < crop_height <= height and 0 < crop_width <= width:
                top = int(place_y * (height - crop_height + 1))
                left = int(place_x * (width - crop_width + 1))
                return left, top, left + crop_width, top + crop_height
        return _middle(height, width, ratio)


def _middle(height: int, width: int, ratio: float) -> Box:
    """Return the largest centre crop whose sides have at most a ratio."""
    crop_height = min(height, max(1, round(width * ratio)))
    crop_width = min(width, max(1, round(height * ratio)))
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return left, top, left + crop_width, top + crop_height


def _resized(
    photo: NDArray[np.uint8], box: Box, size: list[int], n_channels: int
) -> NDArray[np.uint8]:
    image = Image.fromarray(photo).convert("RGB" if n_channels == 3 else "L")
    view = image.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box)
    return np.asarray(view).reshape(*size, n_channels)
