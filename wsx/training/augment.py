"""Batches of a training set: random crops and flips, colour jitter, cutout."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from wsx.data import ImageSet
from wsx.data.photos import LazyPixels
from wsx.errors import DataError
from wsx.training.photos import PhotoCrops
from wsx.training.recipes import Recipe

Crops = Callable[[NDArray[np.int64], np.random.Generator], torch.Tensor]
"""From rows of the training set to one crop of each, uint8 (image, channel, height, width)."""
Drawn = tuple[NDArray[np.int64], torch.Tensor, np.random.Generator]


class Batches:
    """Normalised, augmented batches of a training set, each a function of (seed, step) alone.

    Small images stay uint8 on the device; a step gathers, shifts, mirrors and cuts its own batch there.
    Photographs, of which a recipe takes random resized crops, are decoded anew for each batch, the next one
    while a step is trained. Because no state is carried from step to step, a resumed training sees the very
    batches that an uninterrupted one sees.

    Raises:
        DataError: There are fewer images than a batch holds, or the recipe's crops cannot be had of them.
    """

    def __init__(
        self, images: ImageSet, recipe: Recipe, *, seed: int, device: torch.device
    ) -> None:
        if len(images) < recipe.batch_size:
            raise DataError(
                f"{images.dataset} has {len(images)} training images, fewer than "
                f"a batch of {recipe.batch_size}; lower batch_size"
            )
        self.recipe = recipe
        self.seed = seed
        self.n_steps_per_epoch = len(images) // recipe.batch_size
        self._n_images = len(images)
        self._size = images.image_size
        self._device = device
        self._labels = torch.from_numpy(images.labels).to(device)
        shape = (1, -1, 1, 1)
        self._mean = torch.tensor(images.mean, device=device).view(shape) * 255
        self._std = torch.tensor(images.std, device=device).view(shape) * 255
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, dtype=np.int64))
        self._crops: Crops
        self._ahead: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[Drawn]] | None = None
        if recipe.crop_area:
            self._crops = PhotoCrops(images, recipe)
            self._ahead = ThreadPoolExecutor(1)
        else:
            self._crops = ShiftedCrops(images, recipe, device)

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (image, channel, height, width) float32 and labels (image,) of a step.

        Raises:
            DataError: A photograph cannot be decoded.
        """
        rows, crops, rng = self._drawn(step)
        x = crops.to(self._device).float()
        x = (self._jittered(x, rng) - self._mean) / self._std
        if self.recipe.cutout:
            x = x * self._cutout_mask(len(rows), rng).to(self._device)
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        x = x.contiguous(memory_format=layout)
        return x, self._labels[torch.from_numpy(rows).to(self._device)]

    def _drawn(self, step: int) -> Drawn:
        """Return rows and crops of a step, drawn ahead where that takes time."""
        if self._ahead is None:
            return self._draw(step)
        if self._next is None or self._next[0] != step:
            self._next = (step, self._ahead.submit(self._draw, step))
        drawn = self._next[1]
        self._next = (step + 1, self._ahead.submit(self._draw, step + 1))
        return drawn.result()

    def _draw(self, step: int) -> Drawn:
        epoch, place = divmod(step, self.n_steps_per_epoch)
        if self._order[0] != epoch:
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(self._n_images)
            self._order = (epoch, order)
        n = self.recipe.batch_size
        rows = self._order[1][place * n : (place + 1) * n]
        rng = np.random.default_rng([self.seed, 1, step])
        return rows, self._crops(rows, rng), rng

    def _jittered(self, x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Return pixels from 0 to 255 with brightness, contrast and saturation changed, in this order."""
        changes: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "brightness": torch.zeros_like,
            "contrast": lambda x: _grey(x).mean((1, 2, 3), keepdim=True),
            "saturation": _grey,
        }
        for name, without in changes.items():
            strength = getattr(self.recipe, name)
            if strength:
                low, high = max(0.0, 1 - strength), 1 + strength
                kept = torch.from_numpy(rng.uniform(low, high, (len(x), 1, 1, 1))).to(x)
                x = (kept * x + (1 - kept) * without(x)).clamp(0, 255)
        return x

    def _cutout_mask(self, n: int, rng: np.random.Generator) -> torch.Tensor:
        is_cut = []
        for size in self._size:
            centre = torch.from_numpy(rng.integers(size, size=(n, 1)))
            start = centre - self.recipe.cutout // 2
            places = torch.arange(size)
            is_cut.append((places >= start) & (places < start + self.recipe.cutout))
        return (~(is_cut[0][:, None, :, None] & is_cut[1][:, None, None, :])).float()


class ShiftedCrops:
    """Crops of the images' own size, shifted by up to ``crop_padding`` pixels and mirrored or not.

    Raises:
        DataError: The images are too many to lie in memory.
    """

    def __init__(self, images: ImageSet, recipe: Recipe, device: torch.device) -> None:
        if isinstance(images.pixels, LazyPixels):
            raise DataError(
                f"{images.dataset} has {images.pixels.size >> 30} GiB of training pixels, which stay on disk; "
                "set crop_area, such as 0.08, to train on random resized crops, or keep fewer with n_train"
            )
        self._recipe = recipe
        self._size = images.image_size
        padding = (recipe.crop_padding,) * 4
        self._pixels = torch.nn.functional.pad(torch.from_numpy(images.pixels), padding).to(device)

    def __call__(self, rows: NDArray[np.int64], rng: np.random.Generator) -> torch.Tensor:
        """Return one crop of each image, uint8 (image, channel, height, width), on the device."""
        device, n, (height, width) = self._pixels.device, len(rows), self._size
        n_shifts = 2 * self._recipe.crop_padding + 1
        top, left = (torch.from_numpy(rng.integers(n_shifts, size=(n, 1))) for _ in range(2))
        ys = top + torch.arange(height)
        xs = left + torch.arange(width)
        if self._recipe.flips:
            is_flipped = torch.from_numpy(rng.random((n, 1)) < 0.5)
            xs = torch.where(is_flipped, xs.flip(1), xs)
        channels = torch.arange(self._pixels.shape[1], device=device)
        return self._pixels[
            torch.from_numpy(rows).to(device)[:, None, None, None],
            channels[None, :, None, None],
            ys.to(device)[:, None, :, None],
            xs.to(device)[:, None, None, :],
        ]


def _grey(x: torch.Tensor) -> torch.Tensor:
    """Return the luma (ITU-R 601) of pixels (image, channel, height, width), one channel."""
    if x.shape[1] == 1:
        return x
    return (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
