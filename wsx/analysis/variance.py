"""Where the variance of accuracies comes from: the arch, the run, the checkpoint, or none of these.

Random-effects model of accuracies of archs a at checkpoints c of runs r,

    y_rca = mean + arch_a + run_r + checkpoint_rc + (arch x run)_ra + remainder_rca,

with checkpoints nested in runs. Each component is a difference of mean products over pairs of cells that
share some of the three indices; on full tables this is the analysis-of-variance estimator. Only the arch
component helps to rank archs; arch x run is a ranking that belongs to one run.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsx.analysis._tables import as_table
from wsx.analysis._vectors import FloatArray
from wsx.analysis.resample import Interval
from wsx.analysis.uncertainty import Resampling
from wsx.errors import OptionError, ShapeError

NAMES = ("arch", "run", "checkpoint", "arch_by_run", "remainder")


@dataclass(frozen=True)
class Component:
    """One part of the variance of accuracies.

    Attributes:
        label: The part in words, with what cannot be told from it.
        variance: Estimate in squared units of accuracy; below 0 by chance where the part is small, nan
            where the table cannot tell it.
        share: Part of the sum of all components, those below 0 taken as 0; in [0, 1].
        interval: Limits of the variance, None without resamples.
        share_interval: Limits of the share.
        reason: Why there is no variance, or no share, else None.
    """

    label: str
    variance: float
    share: float
    interval: Interval | None = None
    share_interval: Interval | None = None
    reason: str | None = None


@dataclass(frozen=True)
class VarianceSplit:
    """The variance of accuracies, split.

    Attributes:
        components: ``arch``, ``run``, ``checkpoint``, ``arch_by_run``, ``remainder``, and ``images`` for the
            noise of the evaluation images.
        n_runs: Runs in the table.
        n_checkpoints: Checkpoints per run.
        n_archs: Archs in the table.
    """

    components: Mapping[str, Component]
    n_runs: int
    n_checkpoints: int
    n_archs: int


def split_variance(
    accuracies: npt.ArrayLike,
    *,
    n_images: int | None = None,
    outcomes: npt.ArrayLike | None = None,
    resampling: Resampling | None = None,
) -> VarianceSplit:
    """Return the variance components of accuracies over archs, runs and checkpoints.

    The noise of the images is taken out where something is known about them. With ``n_images`` it is binomial,
    p (1 - p) / (n - 1) in every cell, all from the remainder: right if each cell had images of its own, too
    much if all saw the same ones, because easy and hard images move all archs together. With ``outcomes`` it
    is measured: the components are computed for each image alone, and what their mean exceeds those of the
    accuracies by, over n - 1, is noise.

    Intervals draw runs and archs again, independently; pairs of a run or an arch with itself do not count, as
    in ``s_tau``. With few runs (under some five) the interval of the run component is too narrow.

    Args:
        accuracies: Fractions in [0, 1], or other scores without images, shape (run, checkpoint, arch).
        n_images: Images behind each accuracy.
        outcomes: True where an image is classified correctly, shape (run, checkpoint, arch, image).
        resampling: How runs and archs are drawn again.

    Raises:
        ShapeError: The axes do not fit, or there are fewer than 2 archs or than 2 checkpoints in all.
        OptionError: Some values are not finite, or the images do not fit the accuracies.
    """
    table = as_table(accuracies, "accuracies", ("run", "checkpoint", "arch"))
    n_runs, n_checkpoints, n_archs = table.shape
    if n_archs < 2 or n_runs * n_checkpoints < 2:
        raise ShapeError(
            "a split needs 2 archs, and 2 checkpoints of one run or of several, "
            f"got shape (run, checkpoint, arch) = {table.shape}"
        )
    options = resampling or Resampling()
    noise = _image_noise(table, n_images, outcomes)
    ones = np.ones((1, n_runs)), np.ones((1, n_archs))
    known = np.zeros(len(NAMES)) if noise is None else noise
    value = _with_images(_components(table, *ones) - known, noise)
    drawn = np.zeros((0, value.shape[1]))
    if options.n_resamples:
        rngs = options.rngs(2)
        weights = [options.weights(n, rng) for n, rng in zip((n_runs, n_archs), rngs, strict=True)]
        drawn = _with_images(_components(table, weights[0], weights[1]) - known, noise)
    return VarianceSplit(
        _described(value[0], drawn, table.shape[:2], options), n_runs, n_checkpoints, n_archs
    )


def _components(table: FloatArray, runs: FloatArray, archs: FloatArray) -> FloatArray:
    """Return the components of weighted tables, shape (resample, component); nan where not told apart.

    Args:
        table: Accuracies, shape (run, checkpoint, arch).
        runs: How often each run is drawn, shape (resample, run).
        archs: How often each arch is drawn, shape (resample, arch).
    """
    # Subtracting a member first leaves exact zeros of a constant table.
    table = table - table.flat[0]
    table -= table.mean()
    same, arch, checkpoint, both, run, none = _products(table, runs, archs)
    nothing = np.full_like(same, np.nan)
    if table.shape[0] == 1:
        parts = [checkpoint - both, nothing, arch - both, nothing, same - arch - checkpoint + both]
    elif table.shape[1] == 1:
        parts = [run - none, arch - none, nothing, nothing, same - arch - run + none]
    else:
        parts = [
            run - none,
            both - none,
            arch - both,
            checkpoint - run - both + none,
            same - arch - checkpoint + both,
        ]
    return np.stack(parts, axis=1)


def _products(table: FloatArray, runs: FloatArray, archs: FloatArray) -> list[FloatArray]:
    """Return mean products of two cells, each shape (resample,).

    In this order the cells are the same, or differ in: arch; checkpoint; checkpoint and arch, all within
    one run; run; run and arch. Cells of different runs may lie at any checkpoints.
    """
    n_runs, n_checkpoints, n_archs = table.shape
    total, square = table.sum(axis=1), (table**2).sum(axis=1)  # (run, arch)
    off = total**2 - square
    # What each checkpoint of each run adds up to over the archs drawn: (run, checkpoint, resample).
    by_cell = (table.reshape(-1, n_archs) @ archs.T).reshape(n_runs, n_checkpoints, -1)
    by_run, by_arch = archs @ total.T, runs @ total  # (resample, run), (resample, arch)

    def over(values: FloatArray, power_runs: int, power_archs: int) -> FloatArray:
        sums: FloatArray = (((runs**power_runs) @ values) * archs**power_archs).sum(axis=1)
        return sums

    within_cell = (runs * (by_cell**2).sum(axis=1).T).sum(axis=1)
    within_run = (runs * by_run**2).sum(axis=1)
    arch_pairs = within_cell - over(square, 1, 2)
    both_pairs = within_run - within_cell - over(off, 1, 2)
    run_pairs = (archs * by_arch**2).sum(axis=1) - over(total**2, 2, 1)
    none_pairs = (
        (runs * by_run).sum(axis=1) ** 2
        - (runs**2 * by_run**2).sum(axis=1)
        - (archs**2 * by_arch**2).sum(axis=1)
        + over(total**2, 2, 2)
    )
    r, a = runs.sum(axis=1), archs.sum(axis=1)
    r2, a2 = r**2 - (runs**2).sum(axis=1), a**2 - (archs**2).sum(axis=1)
    c, c2 = n_checkpoints, n_checkpoints * (n_checkpoints - 1)
    return [
        _ratio(over(square, 1, 1), r * c * a),
        _ratio(arch_pairs, r * c * a2),
        _ratio(over(off, 1, 1), r * c2 * a),
        _ratio(both_pairs, r * c2 * a2),
        _ratio(run_pairs, r2 * c**2 * a),
        _ratio(none_pairs, r2 * c**2 * a2),
    ]


def _ratio(sums: FloatArray, n_pairs: FloatArray) -> FloatArray:
    return np.divide(sums, n_pairs, out=np.full_like(sums, np.nan), where=n_pairs > 0)


def _image_noise(
    table: FloatArray, n_images: int | None, outcomes: npt.ArrayLike | None
) -> FloatArray | None:
    """Return what the images add to each component, shape (component,), or None where unknown."""
    if outcomes is not None:
        return _measured_noise(table, np.asarray(outcomes))
    if n_images is None:
        return None
    if n_images < 2 or (table < 0).any() or (table > 1).any():
        raise OptionError(
            f"image noise needs accuracies in [0, 1] on 2 or more images, got {n_images} images "
            f"and accuracies in {table.min():g}..{table.max():g}"
        )
    binomial = float((table * (1 - table)).mean()) / (n_images - 1)
    return np.array([0, 0, 0, 0, binomial])


def _measured_noise(table: FloatArray, outcomes: npt.NDArray[np.generic]) -> FloatArray:
    if outcomes.dtype != np.bool_ or outcomes.shape[:-1] != table.shape or outcomes.shape[-1] < 2:
        raise ShapeError(
            f"outcomes must be boolean, shape {table.shape} and 2 or more images, "
            f"got {outcomes.dtype} {outcomes.shape}"
        )
    n_images = outcomes.shape[-1]
    if np.abs(outcomes.mean(axis=-1) - table).max() * n_images >= 0.5:
        raise OptionError("the outcomes do not give the accuracies; both must be of the same cells")
    ones = np.ones((1, table.shape[0])), np.ones((1, table.shape[2]))
    sums = np.zeros(len(NAMES))
    for image in range(n_images):
        sums += _components(outcomes[..., image].astype(np.float64), *ones)[0]
    noise: FloatArray = (sums / n_images - _components(table, *ones)[0]) / (n_images - 1)
    return noise


def _with_images(components: FloatArray, noise: FloatArray | None) -> FloatArray:
    images = np.nan if noise is None else np.nansum(noise)
    return np.column_stack([components, np.full(len(components), images)])


def _described(
    value: FloatArray, drawn: FloatArray, shape: tuple[int, ...], options: Resampling
) -> dict[str, Component]:
    shares, drawn_shares = _shares(value[None])[0], _shares(drawn)
    found = {}
    for i, (name, (label, reason)) in enumerate(_words(shape[0], shape[1]).items()):
        if np.isnan(value[i]):
            found[name] = Component(label, float("nan"), float("nan"), reason=reason)
            continue
        # The noise of the images is not drawn again.
        limits = options.intervals("both", drawn[:, i], value[i]) if name != "images" else {}
        of_share = options.intervals("both", drawn_shares[:, i], shares[i])
        found[name] = Component(
            label,
            float(value[i]),
            float(shares[i]),
            limits.get("both"),
            of_share.get("both"),
            "no component is above 0" if np.isnan(shares[i]) else None,
        )
    return found


def _shares(components: FloatArray) -> FloatArray:
    # A resample that lacks a component which the table has is left out as a whole.
    is_told = ~np.isnan(components).all(axis=0)
    parts = np.where(is_told, np.maximum(components, 0), 0)
    total = parts.sum(axis=1, keepdims=True)
    shares: FloatArray = np.full_like(parts, np.nan)
    np.divide(parts, total, out=shares, where=total > 0)
    return shares


def _words(n_runs: int, n_checkpoints: int) -> dict[str, tuple[str, str]]:
    one_run, one_checkpoint = n_runs == 1, n_checkpoints == 1
    return {
        "arch": ("arch, and arch x run" if one_run else "arch", ""),
        "run": ("run, and checkpoint" if one_checkpoint else "run", "needs 2 runs"),
        "checkpoint": ("checkpoint in run", "needs 2 checkpoints in a run"),
        "arch_by_run": ("arch x run", "needs 2 runs with 2 checkpoints each"),
        "remainder": (
            "arch x checkpoint, and arch x run" if one_checkpoint else "arch x checkpoint",
            "",
        ),
        "images": ("evaluation images", "needs the number of images, or outcomes"),
    }
