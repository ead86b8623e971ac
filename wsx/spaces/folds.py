"""Parts of a list of archs: folds to train on, groups that share weights, and what is cut by truth.

Zhang et al. train a supernet on one fold of a space, or on its best part by truth (arXiv 2010.08219,
``train_split`` and ``omniscience`` of the released code), and let only groups of archs share weights
(arXiv 2001.01431). All functions split the list that they are given; a fold goes into a file by ``write_archs``
and into training as the measure ``list:FILE``.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsx.errors import ArchError, OptionError, ShapeError
from wsx.registry import unknown_name
from wsx.spaces._base import Arch, Space

Fold = list[Arch]


def random_folds(archs: Sequence[Arch], n: int, *, seed: int) -> list[Fold]:
    """Return n random parts of a list, whose lengths differ by at most one; each keeps the order of the list.

    With seed 42 and the archs in lexicographic order these are the random groups of arXiv 2001.01431, whose code
    shuffles the numbers of the parts, not the archs.

    Raises:
        OptionError: There are fewer archs than parts, or the seed is out of range.
    """
    if not 0 <= seed < 2**32:
        raise OptionError(f"seed is {seed}; it must lie in 0..{2**32 - 1}")
    # The generator of the published groups.
    parts = np.arange(len(archs)) % _checked_number(len(archs), n)
    np.random.RandomState(seed).shuffle(parts)
    return [[archs[int(i)] for i in np.flatnonzero(parts == part)] for part in range(n)]


def consecutive_folds(archs: Sequence[Arch], n: int) -> list[Fold]:
    """Return n slices of the lexicographic list, whose lengths differ by at most one: similar archs together.

    Raises:
        OptionError: There are fewer archs than parts.
    """
    return _slices(sorted(archs), n)


def structured_folds(archs: Sequence[Arch], space: Space, decision: str) -> dict[str, Fold]:
    """Return the archs by the option that they take at a decision; options that none takes are left out.

    Raises:
        OptionError: There are no archs.
        UnknownNameError: The space has no such decision.
    """
    names = [d.name for d in space.decisions]
    if decision not in names:
        raise unknown_name(f"decision of {space.name}", decision, names)
    if not archs:
        raise OptionError("there are no archs to split")
    place = names.index(decision)
    folds: dict[str, Fold] = {option: [] for option in space.decisions[place].options}
    for arch in archs:
        folds[space.decisions[place].options[arch[place]]].append(arch)
    return {option: fold for option, fold in folds.items() if fold}


def truth_folds(archs: Sequence[Arch], truth: ArrayLike, n: int) -> list[Fold]:
    """Return n slices of the archs sorted by truth, the best first; equal ones stay in order.

    Args:
        archs: The archs.
        truth: Shape (arch,), higher is better, such as accuracy or minus perplexity.
        n: How many slices.

    Raises:
        ShapeError: There is not one truth for each arch.
        OptionError: A truth is nan, or there are fewer archs than slices.
    """
    return _slices(_best_first(archs, truth), n)


def oracle_part(archs: Sequence[Arch], truth: ArrayLike, ratio: float) -> Fold:
    """Return the best archs by truth, a ratio of all, rounded and at least one.

    Its control is ``random_part`` with the same ratio.

    Raises:
        ShapeError: There is not one truth for each arch.
        OptionError: A truth is nan, or the ratio lies outside (0, 1].
    """
    return _best_first(archs, truth)[: _n_kept(len(archs), ratio)]


def random_part(archs: Sequence[Arch], ratio: float, *, seed: int) -> Fold:
    """Return a random part of the archs, as many as ``oracle_part`` takes.

    Raises:
        OptionError: The ratio lies outside (0, 1].
    """
    n = _n_kept(len(archs), ratio)
    return [archs[int(i)] for i in np.random.default_rng(seed).permutation(len(archs))[:n]]


def similarity(groups: Sequence[Sequence[Arch]]) -> float:
    """Return the fraction of decisions that an arch has in common with an arch of its group, on average.

    The mean is over all archs and, for each, over all archs of its group, itself included (arXiv 2001.01431).

    Raises:
        OptionError: There is no group, or one is empty.
    """
    if not groups or not all(groups):
        raise OptionError("similarity needs at least one group, and archs in each")
    shares = [_agreement(np.array(group)) for group in groups]
    return float(np.average(shares, weights=[len(group) for group in groups]))


def _agreement(archs: NDArray[np.int64]) -> float:
    """Return the mean share of equal options over all ordered pairs of archs (arch, decision)."""
    n, n_decisions = archs.shape
    counts = [np.bincount(column) / n for column in archs.T]
    return float(sum((share**2).sum() for share in counts) / n_decisions)


def write_archs(path: Path, space: Space, archs: Sequence[Arch]) -> str:
    """Write archs, one text a line, and return the measure that draws from the file.

    Raises:
        ArchError: There are no archs, or the file cannot be written.
    """
    if not archs:
        raise ArchError(f"there are no archs to write to {path}")
    _write(path, [space.format(arch) for arch in archs])
    return f"list:{path}"


def write_groups(path: Path, space: Space, groups: Sequence[Sequence[Arch]]) -> str:
    """Write archs, one text and number of its group a line, and return the grouping of the file.

    Raises:
        ArchError: A group is empty, or the file cannot be written.
    """
    if not groups or not all(groups):
        raise ArchError(f"there must be groups to write to {path}, and archs in each")
    _write(
        path,
        [f"{space.format(arch)} {number}" for number, group in enumerate(groups) for arch in group],
    )
    return f"list:{path}"


def _write(path: Path, lines: Sequence[str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise ArchError(f"cannot write {path}: {error}") from error


def _slices(archs: Sequence[Arch], n: int) -> list[Fold]:
    n = _checked_number(len(archs), n)
    ends = [len(archs) * part // n for part in range(n + 1)]
    return [list(archs[a:b]) for a, b in pairwise(ends)]


def _checked_number(n_archs: int, n: int) -> int:
    if not 1 <= n <= n_archs:
        raise OptionError(f"cannot split {n_archs} archs into {n} parts")
    return n


def _best_first(archs: Sequence[Arch], truth: ArrayLike) -> Fold:
    values = np.asarray(truth, dtype=float)
    if values.shape != (len(archs),):
        raise ShapeError(f"truth has shape {values.shape}; there are {len(archs)} archs")
    if np.isnan(values).any():
        raise OptionError(f"the truth of arch {archs[int(np.isnan(values).argmax())]} is nan")
    return [archs[int(i)] for i in np.argsort(-values, kind="stable")]


def _n_kept(n: int, ratio: float) -> int:
    if not 0 < ratio <= 1:
        raise OptionError(f"ratio is {ratio}; it must lie in (0, 1]")
    return max(1, round(n * ratio))
