"""The embedded default: 1,797 handwritten digits that come with scikit-learn."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsx.data.decode import to_array
from wsx.data.source import Source, SourceSplit


def digits() -> Source:
    """Return the 8x8 grayscale digits, their 0 to 16 scaled to 0 to 255.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test
    part), as ``sklearn.datasets.load_digits``.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)

    def read(
        rows: NDArray[np.int64], image_size: tuple[int, int] | None
    ) -> list[NDArray[np.uint8]]:
        return [to_array(Image.fromarray(pixels[row]), image_size) for row in rows]

    split = SourceSplit("all", bunch.target.astype(np.int64), read, lambda row: f"digits row {row}")
    names = tuple(str(digit) for digit in range(10))
    return Source({"all": split}, names, n_valid=397, n_test=400)
