"""Texts of the Hugging Face hub, through ``datasets`` and its cache."""

from collections.abc import Sequence

from wsx.data.hub import no_progress_bars
from wsx.data.source import SPLIT_WORDS, by_split
from wsx.errors import DataError

COLUMNS = ("text", "sentence")


def hub_lines(name: str) -> dict[str, Sequence[str]]:
    """Return the lines of every split of a text of the hub.

    Args:
        name: ``OWNER/NAME``, or ``OWNER/NAME:CONFIG`` where it has several configurations.

    Raises:
        DataError: It cannot be loaded, for want of a network, say, or has no column of text.
    """
    import datasets

    path, _, config = name.partition(":")
    try:
        with no_progress_bars():
            loaded = datasets.load_dataset(path, config or None)
            splits = {word: loaded[word] for word in loaded if word in SPLIT_WORDS}
            columns = {
                word: [c for c in COLUMNS if c in s.column_names] for word, s in splits.items()
            }
            rows = {word: list(s[columns[word][0]]) for word, s in splits.items() if columns[word]}
    except Exception as error:
        # The library lets errors of its many back ends through as they come.
        raise DataError(
            f"{name!r} cannot be loaded from the Hugging Face hub ({type(error).__name__}: {error}); "
            "check the name and the network, or download its text and give NAME=FOLDER"
        ) from error
    for word in splits:
        if word not in rows or not all(isinstance(row, str) for row in rows[word]):
            raise DataError(
                f"{word} of {name!r} has no column of text named {' or '.join(COLUMNS)}"
            )
    return by_split({word: _lines(texts) for word, texts in rows.items()}, name)


def _lines(texts: Sequence[str]) -> Sequence[str]:
    return [line for text in texts for line in text.removesuffix("\n").split("\n")]
