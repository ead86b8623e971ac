"""Lists of archs in files, to score or to draw from.

The measure ``list:PATH`` is uniform over the archs of a file. What is stored is ``list:PATH@DIGEST``, so that
a list which has changed since is noticed.
"""

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from wsx.errors import ArchError, WsxError

if TYPE_CHECKING:
    from wsx.spaces._base import Arch, Space

LIST = "list:"
_PINNED = re.compile(r"list:(?P<path>.+)@(?P<digest>[0-9a-f]{16})", re.DOTALL)


def pinned(measure: str) -> str:
    """Return a measure as it is stored: a list by its path and the digest of its bytes, any other as it is.

    Raises:
        ArchError: The file of a list cannot be read.
    """
    if not measure.startswith(LIST) or _PINNED.fullmatch(measure):
        return measure
    path = Path(measure.removeprefix(LIST))
    return f"{LIST}{path}@{_digest(path)}"


def archs_of_list(measure: str, space: "Space") -> "list[Arch]":
    """Return the archs of a pinned list measure, each once, in the order of the file.

    Raises:
        ArchError: The file is missing, has changed since, or has lines that are no archs.
    """
    match = _PINNED.fullmatch(measure)
    if match is None:
        raise ArchError(f"{measure!r} is no list of archs; it must read list:PATH")
    path = Path(match["path"])
    if (now := _digest(path)) != match["digest"]:
        raise ArchError(
            f"arch file {path} has changed: its digest is {now}, not {match['digest']}. Put the old file back"
        )
    return list(dict.fromkeys(read_archs(path, space)))


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except (OSError, ValueError) as error:
        raise ArchError(f"arch file {path} cannot be read: {error}") from error


def read_archs(path: Path, space: "Space") -> "list[Arch]":
    """Return the archs of a file: one text form or index a line; blank lines and ``#`` lines are skipped.

    Raises:
        ArchError: The file is missing, empty, or has bad lines, the first of which is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ArchError(f"arch file {path} cannot be read: {error}") from error
    archs, problems = [], []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            archs.append(_arch(text, space))
        except WsxError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        more = f" ({len(problems)} bad lines in all)" if len(problems) > 1 else ""
        raise ArchError(f"arch file {path}, {problems[0]}{more}")
    if not archs:
        raise ArchError(f"arch file {path} lists no archs")
    return archs


def _arch(text: str, space: "Space") -> "Arch":
    arch = _arch_of_whole(text, space.whole)
    return arch if space.whole is space else space.check(arch)


def _arch_of_whole(text: str, space: "Space") -> "Arch":
    """Return the arch of a line. Digits are a text form where the space has such, otherwise an index."""
    try:
        return space.parse(text)
    except WsxError:
        if not text.isdecimal():
            raise
    try:
        index = int(text)
    except ValueError:
        raise ArchError(f"{text[:60]!r}... has {len(text)} digits and is no index") from None
    return space.arch_at(index)
