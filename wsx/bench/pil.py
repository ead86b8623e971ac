"""Images as published loops have them: PIL pictures turned into tensors one by one, or tensors in memory."""

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from wsx.data import ImageSet


class PilImages(Dataset[tuple[torch.Tensor, int]]):
    """The images of a set, each made a picture, perhaps augmented, and normalised when it is asked for.

    Args:
        images: The set.
        crop_padding: Zero pixels around a picture before a random crop of its own size.
        flips: Mirror pictures at random.
        rng: Where crops and flips come from; None does neither.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        crop_padding: int = 0,
        flips: bool = False,
        rng: np.random.Generator | None = None,
    ) -> None:
        self._images = images
        self._crop_padding = crop_padding
        self._flips = flips
        self._rng = rng
        self._mean = torch.tensor(images.mean).view(-1, 1, 1)
        self._std = torch.tensor(images.std).view(-1, 1, 1)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return an image (channel, height, width) float32 and its label."""
        (pixels,) = self._images.pixels[index : index + 1]
        picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        if self._rng is not None:
            picture = self._augmented(picture, self._rng)
        array = np.array(picture).reshape(picture.height, picture.width, -1)
        x = torch.from_numpy(array).permute(2, 0, 1).contiguous().float().div(255)
        return x.sub_(self._mean).div_(self._std), int(self._images.labels[index])

    def _augmented(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        width, height = picture.size
        left, top = rng.integers(2 * self._crop_padding + 1, size=2).tolist()
        padded = ImageOps.expand(picture, self._crop_padding)
        picture = padded.crop((left, top, left + width, top + height))
        return ImageOps.mirror(picture) if self._flips and rng.random() < 0.5 else picture


def pil_batches(images: ImageSet, batch_size: int) -> DataLoader[tuple[torch.Tensor, int]]:
    """Return the loader of images in their order, in this process."""
    return DataLoader(PilImages(images), batch_size, shuffle=False, num_workers=0)


def tensor_batches(images: ImageSet, batch_size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return all images (image, channel, height, width) float32 and labels (image,), in memory, in batches."""
    x, labels = torch.from_numpy(images.floats()), torch.from_numpy(images.labels)
    starts = range(0, len(images), batch_size)
    return [(x[i : i + batch_size], labels[i : i + batch_size]) for i in starts]
