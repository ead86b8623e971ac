"""Random crops, flips and cutout, on a whole batch at once."""

import numpy as np
import torch

from wsx.data import ImageSet
from wsx.errors import DataError
from wsx.training.recipes import Recipe


class Batches:
    """Normalised, augmented batches of a training set, each a function of (seed, step) alone.

    Images stay uint8 on the device; a step gathers, shifts, mirrors and cuts its own batch there. Because no
    state is carried from step to step, a resumed training sees the very batches that an uninterrupted one sees.

    Raises:
        DataError: There are fewer images than a batch holds.
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
        padding = recipe.crop_padding
        pixels = torch.from_numpy(images.pixels)
        self._pixels = torch.nn.functional.pad(pixels, (padding,) * 4).to(device)
        self._labels = torch.from_numpy(images.labels).to(device)
        self._size = images.pixels.shape[-2:]
        shape = (1, -1, 1, 1)
        self._mean = torch.tensor(images.mean, device=device).view(shape) * 255
        self._std = torch.tensor(images.std, device=device).view(shape) * 255
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (image, channel, height, width) float32 and labels (image,) of a step."""
        epoch, place = divmod(step, self.n_steps_per_epoch)
        if self._order[0] != epoch:
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(self._n_images)
            self._order = (epoch, order)
        n = self.recipe.batch_size
        rows = torch.from_numpy(self._order[1][place * n : (place + 1) * n])
        rows = rows.to(self._pixels.device)
        x = self._crop(rows, np.random.default_rng([self.seed, 1, step]))
        if self.recipe.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return x, self._labels[rows]

    def _crop(self, rows: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        device, n, (height, width) = rows.device, len(rows), self._size
        n_shifts = 2 * self.recipe.crop_padding + 1
        top, left = (torch.from_numpy(rng.integers(n_shifts, size=(n, 1))) for _ in range(2))
        ys = top + torch.arange(height)
        xs = left + torch.arange(width)
        if self.recipe.flips:
            is_flipped = torch.from_numpy(rng.random((n, 1)) < 0.5)
            xs = torch.where(is_flipped, xs.flip(1), xs)
        channels = torch.arange(self._pixels.shape[1], device=device)
        x = self._pixels[
            rows[:, None, None, None],
            channels[None, :, None, None],
            ys.to(device)[:, None, :, None],
            xs.to(device)[:, None, None, :],
        ]
        x = (x.float() - self._mean) / self._std
        if self.recipe.cutout:
            x = x * self._cutout_mask(n, rng).to(device)
        return x

    def _cutout_mask(self, n: int, rng: np.random.Generator) -> torch.Tensor:
        is_cut = []
        for size in self._size:
            centre = torch.from_numpy(rng.integers(size, size=(n, 1)))
            start = centre - self.recipe.cutout // 2
            places = torch.arange(size)
            is_cut.append((places >= start) & (places < start + self.recipe.cutout))
        return (~(is_cut[0][:, None, :, None] & is_cut[1][:, None, None, :])).float()
