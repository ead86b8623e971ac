"""Text for language models: three splits of tokens in memory."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.data.hub_text import hub_lines
from wsx.data.source import SPLIT_WORDS, by_split
from wsx.data.vocabulary import Vocabulary
from wsx.errors import DataError, OptionError, ShapeError

_SPLITS = ("train", "valid", "test")
_FILE = re.compile(rf"(?:.+\.)?({'|'.join(SPLIT_WORDS)})\.(?:txt|tokens)")


@dataclass(frozen=True, eq=False)
class TextSet:
    """One split of a text, in memory; its array must not be written to.

    Every token but the first is predicted from those before it, so a set of n + 1 tokens has length n.

    Attributes:
        dataset: Name of the dataset, with the digest of its vocabulary.
        split: What the text is for: ``train``, ``valid`` or ``test``.
        tokens: int64, shape (token,), numbers of words.
        n_tokens: Words of the vocabulary.

    Raises:
        ShapeError: The array is of another shape or type.
        DataError: There is nothing to predict, or a token lies outside the vocabulary.
    """

    dataset: str
    split: str
    tokens: NDArray[np.int64]
    n_tokens: int

    def __post_init__(self) -> None:
        if self.tokens.ndim != 1 or self.tokens.dtype != np.int64:
            raise ShapeError(
                f"tokens must be int64 (token,), not {self.tokens.dtype} {self.tokens.shape}"
            )
        if len(self.tokens) < 2:
            raise DataError(
                f"{self.split} of {self.dataset!r} has {len(self.tokens)} tokens; it needs two"
            )
        if self.tokens.min() < 0 or self.tokens.max() >= self.n_tokens:
            raise DataError(
                f"tokens of {self.dataset!r} {self.split} run from {self.tokens.min()} to "
                f"{self.tokens.max()}, but there are {self.n_tokens} words"
            )

    def __len__(self) -> int:
        return len(self.tokens) - 1

    @property
    def ids(self) -> NDArray[np.int64]:
        """Places of the predicted tokens in the split, int64 (token,)."""
        return np.arange(1, len(self.tokens), dtype=np.int64)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over dataset and tokens, in hexadecimal."""
        state = hashlib.sha256(self.dataset.encode())
        state.update(np.ascontiguousarray(self.tokens.astype("<i8")).data)
        return state.hexdigest()

    def take(self, n: int) -> "TextSet":
        """Return the beginning of the text with n tokens to predict.

        Raises:
            OptionError: n is below 1.
            DataError: There are fewer.
        """
        if n < 1:
            raise OptionError(f"cannot take {n} tokens; ask for at least 1")
        if n > len(self):
            raise DataError(
                f"cannot take {n} tokens: {self.split} of {self.dataset!r} has {len(self)}"
            )
        return replace(self, tokens=self.tokens[: n + 1])


@dataclass(frozen=True)
class TextDataset:
    """Three splits of a text and the vocabulary of its training split.

    Raises:
        DataError: Two splits are the same text.
    """

    name: str
    spec: str
    vocabulary: Vocabulary
    train: TextSet
    valid: TextSet
    test: TextSet

    def __post_init__(self) -> None:
        for one, other in combinations((self.train, self.valid, self.test), 2):
            if np.array_equal(one.tokens, other.tokens):
                raise DataError(
                    f"{one.split} and {other.split} of {self.name!r} are the same text; check that the "
                    "files are not copies"
                )


def load_text(spec: str, *, vocabulary: Vocabulary | None = None) -> TextDataset:
    """Load a text in three splits.

    Words are split at white space, and every line ends in ``<eos>``. Words that the vocabulary lacks become
    ``<unk>``.

    Args:
        spec: ``NAME=PATH`` for a folder of ``train.txt``, ``valid.txt`` and ``test.txt`` (names such as
            ``ptb.train.txt`` and ``wiki.valid.tokens`` will do), or ``OWNER/NAME[:CONFIG]`` on the Hugging Face
            hub, of which the column ``text`` is read.
        vocabulary: That of a run; None makes it of the training text.

    Raises:
        DataError: Text that is missing, empty, binary, or the same in two splits.
    """
    name, is_local, path = spec.partition("=")
    if is_local and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise DataError(f"{name!r} is no name for a text; write NAME=PATH")
    if not is_local and "/" not in spec:
        raise DataError(
            f"{spec!r} is no text: give NAME=PATH for a folder of train.txt, valid.txt and test.txt, or "
            "OWNER/NAME on the Hugging Face hub"
        )
    lines = _folder_lines(Path(path).expanduser()) if is_local else hub_lines(spec)
    if missing := [split for split in _SPLITS if split not in lines]:
        found = ", ".join(lines) or "nothing"
        raise DataError(
            f"{spec!r} lacks {', '.join(missing)}; it has {found}. Text is split in three"
        )
    for split in _SPLITS:
        if not any(line.split() for line in lines[split]):
            raise DataError(f"{split} of {spec!r} holds no words")
    words = vocabulary or Vocabulary.of(lines["train"])
    dataset = f"{name}@vocabulary-{words.digest[:16]}"
    sets = [TextSet(dataset, split, words.encode(lines[split]), len(words)) for split in _SPLITS]
    return TextDataset(name, spec, words, *sets)


def _folder_lines(folder: Path) -> dict[str, Sequence[str]]:
    if not folder.is_dir():
        raise DataError(
            f"{folder} is no folder; text lies in train.txt, valid.txt and test.txt of one"
        )
    files = {
        path: match[1] for path in sorted(folder.iterdir()) if (match := _FILE.fullmatch(path.name))
    }
    if len(set(files.values())) < len(files):
        names = ", ".join(path.name for path in files)
        raise DataError(f"{folder} has several texts for a split ({names}); keep one of each")
    return {
        split: _read_lines(path)
        for split, path in by_split(
            {word: path for path, word in files.items()}, str(folder)
        ).items()
    }


def _read_lines(path: Path) -> Sequence[str]:
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: byte {error.start} cannot be read") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if "\x00" in text:
        raise DataError(f"{path} is binary: it holds a NUL at character {text.index(chr(0))}")
    lines = text.replace("\r\n", "\n").split("\n")
    # What follows the last line's end is no line.
    return lines if lines[-1] else lines[:-1]


def cut_streams(
    text: TextSet, n_streams: int, window: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a text cut into streams that run side by side, each a stretch of it.

    Args:
        text: The text.
        n_streams: How many streams.
        window: Streams are padded to a multiple of so many tokens.

    Returns:
        Inputs and labels, int64 (stream, time): the label is the token after the input. Padding has input 0 and
        label -1, and lies behind the text alone.
    """
    length = -(-len(text) // n_streams)
    width = -(-length // window) * window
    inputs = np.zeros((n_streams, width), np.int64)
    labels = np.full((n_streams, width), -1, np.int64)
    for row in range(n_streams):
        start, stop = min(row * length, len(text)), min((row + 1) * length, len(text))
        inputs[row, : stop - start] = text.tokens[start:stop]
        labels[row, : stop - start] = text.tokens[start + 1 : stop + 1]
    return inputs, labels
