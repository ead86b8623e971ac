"""The words of a training text, in the order in which they first occur."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.errors import DataError

END_OF_LINE, UNKNOWN = "<eos>", "<unk>"
VOCABULARY_FILE = "vocabulary.txt"
"""Its name in runs and export folders."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words by number, ``<eos>`` and ``<unk>`` among them.

    Raises:
        DataError: A word occurs twice, holds white space, or one of the two is missing.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self._index) != len(self.words):
            raise DataError("the vocabulary names a word twice")
        if missing := {END_OF_LINE, UNKNOWN} - set(self._index):
            raise DataError(f"the vocabulary lacks {', '.join(sorted(missing))}")
        for word in self.words:
            if word.split() != [word]:
                raise DataError(f"the vocabulary holds {word[:60]!r}, which is no word")

    @classmethod
    def of(cls, lines: Iterable[str]) -> "Vocabulary":
        """Return the vocabulary of a text: its words in the order in which they first occur."""
        words = dict.fromkeys(word for line in lines for word in line.split())
        return cls(tuple(words | dict.fromkeys((END_OF_LINE, UNKNOWN))))

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the words in their order, in hexadecimal."""
        return hashlib.sha256("\n".join(self.words).encode()).hexdigest()

    def encode(self, lines: Iterable[str]) -> NDArray[np.int64]:
        """Return the tokens of lines, int64 (token,): words split at white space, ``<eos>`` after each line."""
        index, unknown, end = self._index, self._index[UNKNOWN], self._index[END_OF_LINE]
        tokens: list[int] = []
        for line in lines:
            tokens += [index.get(word, unknown) for word in line.split()]
            tokens.append(end)
        return np.array(tokens, np.int64)


def write_vocabulary(path: Path, vocabulary: Vocabulary) -> None:
    """Write one word a line, complete under the path or not at all.

    Raises:
        OSError: The file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    part.write_text(
        "".join(f"{word}\n" for word in vocabulary.words), encoding="utf-8", newline="\n"
    )
    part.replace(path)


def read_vocabulary(path: Path) -> Vocabulary:
    """Return a vocabulary that ``write_vocabulary`` wrote.

    Raises:
        DataError: The file is missing, cut off, or no vocabulary.
    """
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"vocabulary {path} cannot be read: {error}") from error
    *words, rest = text.split("\n")
    if rest:
        raise DataError(f"vocabulary {path} is cut off after {len(words)} words")
    try:
        return Vocabulary(tuple(words))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
