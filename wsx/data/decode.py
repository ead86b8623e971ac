"""From encoded images to arrays, with no trust in the bytes."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from wsx.errors import DataError

# Pillow knows many more, some of which start other programs or read other files.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
# No dataset of labelled images comes near; a bomb of a few bytes can unpack to a thousand times it.
MAX_PIXELS = 1 << 26
# Below this, header parsing dominates, which holds the interpreter lock: threads only get in each
# other's way.
_SMALL_BYTES = 8192
_N_THREADS = min(8, os.cpu_count() or 1)
_BLOCK = 64

Encoded = bytes | Path
Pixels = NDArray[np.uint8]


def decode_images(
    images: Sequence[Encoded], places: Sequence[str], image_size: tuple[int, int] | None
) -> list[Pixels]:
    """Decode many images, in order.

    Args:
        images: Encoded bytes, or the files that hold them.
        places: Where each image comes from, for messages.
        image_size: Height and width to resize (short side) and centre-crop to; None keeps sizes.

    Returns:
        uint8 arrays of shape (height, width) for grayscale or (height, width, 3).

    Raises:
        DataError: An image that cannot be decoded, has 16 bits or floats per channel, or more than
            MAX_PIXELS pixels; its place is named.
    """
    # A batch of photographs is spread over all threads, a whole dataset in blocks that end together.
    size = min(_BLOCK, -(-len(images) // _N_THREADS))
    blocks = [slice(start, start + size) for start in range(0, len(images), size)] if size else []

    def decode_block(block: slice) -> list[Pixels]:
        pairs = zip(images[block], places[block], strict=True)
        return [_decode(image, place, image_size) for image, place in pairs]

    is_small = all(
        isinstance(image, bytes) and len(image) < _SMALL_BYTES for image in images[:_BLOCK]
    )
    with ThreadPoolExecutor(1 if is_small else _N_THREADS) as pool:
        return [array for block in pool.map(decode_block, blocks) for array in block]


def to_array(image: Image.Image, image_size: tuple[int, int] | None) -> Pixels:
    """Return an 8-bit image as an array, resized and centre-cropped if a size is given."""
    if image_size is not None:
        image = ImageOps.fit(image, image_size[::-1], Image.Resampling.BILINEAR)
    return np.array(image, dtype=np.uint8)


def stack_images(images: Sequence[Pixels], places: Sequence[str]) -> Pixels:
    """Stack decoded images of one size; grayscale ones gain three channels if any has colour.

    Returns:
        uint8, shape (image, channel, height, width), 1 or 3 channels.

    Raises:
        DataError: Two images differ in size.
    """
    sizes = [image.shape[:2] for image in images]
    for size, place in zip(sizes, places, strict=True):
        if size != sizes[0]:
            raise DataError(
                f"images differ in size (height x width): {places[0]} is {_times(sizes[0])}, "
                f"{place} is {_times(size)}; choose one with image_size"
            )
    n_channels = 3 if any(image.ndim == 3 for image in images) else 1
    out = np.empty((len(images), n_channels, *sizes[0]), np.uint8)
    for row, image in zip(out, images, strict=True):
        row[:] = image.transpose(2, 0, 1) if image.ndim == 3 else image
    return out


def _times(size: tuple[int, ...]) -> str:
    return "x".join(str(length) for length in size)


def _decode(encoded: Encoded, place: str, image_size: tuple[int, int] | None) -> Pixels:
    try:
        data = encoded.read_bytes() if isinstance(encoded, Path) else encoded
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _check_header(image, place)
            return to_array(_to_8bit(_upright(image)), image_size)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{place}: {error}") from error
    except Exception as error:
        # Pillow's plug-ins raise whatever a hostile byte makes them stumble over.
        raise DataError(
            f"{place}: not a readable image ({type(error).__name__}: {error}); "
            f"replace or remove it. Formats: {', '.join(FORMATS)}"
        ) from error


def _check_header(image: Image.Image, place: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{place}: {image.width}x{image.height} pixels; the most is {MAX_PIXELS}")
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{place}: mode {image.mode} has more than 8 bits per channel; convert it")


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image) if "exif" in image.info else image


def _to_8bit(image: Image.Image) -> Image.Image:
    if image.mode in {"L", "RGB"}:
        return image
    if image.mode in {"1", "LA"}:
        return image.convert("L")
    if image.mode in {"P", "PA"}:
        # Pillow warns when a palette with transparency goes to RGB in one step.
        image = image.convert("RGBA")
    return image.convert("RGB")
