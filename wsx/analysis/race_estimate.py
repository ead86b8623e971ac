"""What archs will have right on all images, estimated from some of them and from archs that have seen all.

The regression estimator of survey sampling (Cochran, Sampling Techniques, 1977, chapter 7) in a stratified sample
with Neyman's allocation (chapter 5): outcomes are regressed on those of the references, archs with outcomes on all
images, and what remains unexplained varies a fraction of what the outcomes do.
"""

import numpy as np
import numpy.typing as npt

from wsx.analysis._vectors import FloatArray

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

IMAGES_PER_COEFFICIENT = 4
_BLOCK = 1024


def order_images(references: BoolArray, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Return the order in which images are seen, and the stratum of each image.

    Images on which the references disagree come early. Every prefix is a stratified random sample: a stratum
    holds images with a like number of dissenting references, and its images come in random order, at a rate in
    proportion to p(1 - p), where p is the share of references that are right by the rule of succession.

    Args:
        references: Outcomes, shape (reference, image).
        rng: Source of chance.

    Returns:
        Indices of images, shape (image,), and strata from 0, shape (image,).
    """
    n_references, n_images = references.shape
    right = references.sum(axis=0)
    dissent = np.minimum(right, n_references - right)
    strata = np.floor(np.log2(dissent + 1)).astype(np.int64)
    share = (dissent + 1) / (n_references + 2)
    key = np.empty(n_images)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        rate = members.size * (share[members] * (1 - share[members])).mean()
        key[rng.permutation(members)] = (np.arange(members.size) + rng.random()) / rate
    return np.argsort(key, kind="stable"), strata


def estimate_correct(
    seen: BoolArray, order: IntArray, strata: IntArray, references: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Return what archs will have right on all images, estimated from the first images of an order.

    Args:
        seen: Outcomes on the first images of the order, shape (arch, seen).
        order: All images, shape (image,), from ``order_images``.
        strata: Stratum of each image, shape (image,).
        references: Outcomes of the references on all images, shape (reference, image).

    Returns:
        Estimated counts and their standard errors, shape (arch,), in images; exact once all images are seen.
    """
    prefix, n_images = order[: seen.shape[1]], order.size
    sizes, taken = np.bincount(strata), np.bincount(strata[prefix], minlength=strata.max() + 1)
    weight = (sizes / np.maximum(taken, 1))[strata[prefix]]
    controls = references[: n_controls(len(references), prefix.size)]
    x = np.column_stack([np.ones(n_images), controls.T])
    root = np.sqrt(weight)[:, None]
    weighted = x[prefix] * root
    inverse = np.linalg.pinv(weighted)
    # A residual of an image that helped to fit the line is too small; this is what it would be without.
    slack = np.maximum(1 - (weighted * inverse.T).sum(axis=1), 1e-3)[:, None]
    total, error = np.empty(len(seen)), np.empty(len(seen))
    for start in range(0, len(seen), _BLOCK):
        rows = slice(start, start + _BLOCK)
        outcomes = seen[rows].T.astype(np.float64)
        slope = inverse @ (outcomes * root)
        residual = outcomes - x[prefix] @ slope
        shift, variance = _expand(residual, residual / slack, strata[prefix], sizes, taken)
        total[rows], error[rows] = x.sum(axis=0) @ slope + shift, np.sqrt(variance)
    return total, error


def n_controls(n_references: int, n_seen: int) -> int:
    """Return how many references a regression on so many images can bear."""
    return min(n_references, max(0, n_seen // IMAGES_PER_COEFFICIENT - 1))


def _expand(
    residual: FloatArray, left_out: FloatArray, strata: IntArray, sizes: IntArray, taken: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Return the stratified total of residuals (seen, arch) over all images, and its variance."""
    total, variance = np.zeros(residual.shape[1]), np.zeros(residual.shape[1])
    for stratum in np.flatnonzero(sizes):
        n_all, n = int(sizes[stratum]), int(taken[stratum])
        members = strata == stratum
        if n:
            total += n_all * residual[members].mean(axis=0)
        # One outcome says nothing of its spread; 1/4 is the most that a bit can have.
        spread = left_out[members].var(axis=0, ddof=1) if n > 1 else 0.25
        variance += n_all * (n_all - n) * spread / max(n, 1)
    return total, variance
