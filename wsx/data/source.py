"""What every loader hands over: labels at once, pixels when asked for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wsx.errors import DataError

SPLIT_WORDS = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}
_N_CLASSES_MAX = 1_000_000

T = TypeVar("T")


def by_split(by_word: Mapping[str, T], place: str) -> dict[str, T]:
    """Return what was found under words such as ``val`` under the names of the splits.

    Raises:
        DataError: Two words name one split.
    """
    named: dict[str, T] = {}
    for word, value in by_word.items():
        if SPLIT_WORDS[word] in named:
            raise DataError(
                f"{place}: {word!r} and another name both mean the {SPLIT_WORDS[word]} split; "
                f"keep one of them"
            )
        named[SPLIT_WORDS[word]] = value
    return named


@dataclass(frozen=True)
class SourceSplit:
    """One split as its source has it.

    Attributes:
        name: ``train``, ``valid`` or ``test``, or ``all`` where the source has no splits.
        labels: int64, shape (row,).
        read: Decodes rows, in the order given, to uint8 (height, width) or (height, width, 3);
            resizes to (height, width) if given.
        place: Names a row in messages.
    """

    name: str
    labels: NDArray[np.int64]
    read: Callable[[NDArray[np.int64], tuple[int, int] | None], Sequence[NDArray[np.uint8]]]
    place: Callable[[int], str]

    def read_photos(self, rows: NDArray[np.int64]) -> Sequence[NDArray[np.uint8]]:
        """Decode rows, in the order given, each in its own size."""
        return self.read(rows, None)


@dataclass(frozen=True)
class Source:
    """A dataset before its splits are cut.

    Attributes:
        splits: The source's own splits, by name.
        class_names: One name per class.
        n_valid: Default size of a validation split cut from the source's images.
        n_test: Default size of a test split cut likewise; None if it must be asked for.
    """

    splits: Mapping[str, SourceSplit]
    class_names: tuple[str, ...]
    n_valid: int | None = None
    n_test: int | None = None


def check_labels(splits: Iterable[SourceSplit], n_classes: int | None) -> int:
    """Check that all labels lie in 0 to n_classes - 1 and return n_classes.

    Args:
        splits: All splits of a source.
        n_classes: How many classes there are; None counts those of the labels, which then must
            be 0, 1, 2, ... without a gap.

    Raises:
        DataError: A label is out of range, or there is a gap.
    """
    splits = list(splits)
    for split in splits:
        wrong = (split.labels < 0) | (split.labels >= (n_classes or _N_CLASSES_MAX))
        if wrong.any():
            row = int(np.argmax(wrong))
            hint = ": -1 marks data without labels" if split.labels[row] == -1 else ""
            raise DataError(
                f"{split.place(row)} has label {split.labels[row]}, outside 0 to "
                f"{(n_classes or _N_CLASSES_MAX) - 1}{hint}; leave that split out or correct it"
            )
    if n_classes is not None:
        return n_classes
    found = np.unique(np.concatenate([split.labels for split in splits]))
    gaps = np.setdiff1d(np.arange(found[-1] + 1), found)
    if gaps.size:
        raise DataError(
            f"labels without class names must be 0, 1, 2, ...; {gaps[0]} never occurs, though "
            f"{found[-1]} does: renumber them, or store the column as a ClassLabel"
        )
    return int(found[-1]) + 1
