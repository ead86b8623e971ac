"""Class-stratified samples."""

import numpy as np
from numpy.typing import NDArray

from wsx.errors import DataError


def stratified(
    labels: NDArray[np.int64], n: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw n positions so that every class keeps its share, to within one image.

    Shares are rounded by the largest remainder, ties are drawn, so the total is exactly n.

    Args:
        labels: Class of each image, shape (image,).
        n: How many to draw, 1 to the number of images.
        generator: Where the randomness comes from.

    Returns:
        Positions in rising order, shape (n,), none twice.

    Raises:
        DataError: There are fewer than n images, or n is below 1.
    """
    if not 1 <= n <= labels.size:
        raise DataError(f"cannot draw {n} of {labels.size} images; ask for 1 to {labels.size}")
    _, class_of, n_images = np.unique(labels, return_inverse=True, return_counts=True)
    quota = n * n_images // labels.size
    remainder = n * n_images % labels.size
    by_remainder = np.lexsort((generator.permutation(quota.size), -remainder))
    quota[by_remainder[: n - quota.sum()]] += 1

    shuffled = generator.permutation(labels.size)
    by_class = shuffled[np.argsort(class_of[shuffled], kind="stable")]
    rank_in_class = np.arange(labels.size) - np.repeat(np.cumsum(n_images) - n_images, n_images)
    return np.sort(by_class[rank_in_class < np.repeat(quota, n_images)]).astype(np.int64)
