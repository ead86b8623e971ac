"""Lists of archs: from a file of text forms, or drawn from a space."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsx.errors import ArchError, OptionError, WsxError
from wsx.spaces._base import Arch, Space

MAX_ENUMERATED = 1_000_000


@dataclass(frozen=True)
class ArchChoice:
    """Which archs of a space to work on; exactly one of ``n``, ``file`` and ``takes_all`` is given.

    Attributes:
        n: How many to draw.
        seed: Seed of the draw.
        measure: What the draw is uniform over; None takes the space's first measure.
        file: A file with one text form (or index) a line.
        takes_all: Every arch of the measure.
    """

    n: int | None = None
    seed: int = 0
    measure: str | None = None
    file: Path | None = None
    takes_all: bool = False

    def archs(self, space: Space) -> list[Arch]:
        """Return the archs.

        Raises:
            OptionError: None or several ways to choose are given, or the space is too large to list.
            ArchError: The file has lines that are no archs.
            UnknownNameError: The space has no such measure.
        """
        n_ways = sum((self.n is not None, self.file is not None, self.takes_all))
        if n_ways != 1:
            raise OptionError("choose archs by exactly one of --n, --archs and --all")
        if self.file is not None:
            return read_archs(self.file, space)
        measure = self.measure_of(space)
        if self.n is not None:
            return space.sample(self.n, rng=np.random.default_rng(self.seed), measure=measure)
        listed = space.population(measure)
        if listed is None and space.n_archs > MAX_ENUMERATED:
            raise OptionError(
                f"{space.name} has {space.n_archs} archs, too many to list; draw some"
            )
        return list(space.enumerate()) if listed is None else list(listed)

    def measure_of(self, space: Space) -> str:
        """Return the measure that archs are drawn under."""
        return self.measure if self.measure is not None else next(iter(space.measures))

    def facts(self, space: Space) -> dict[str, Any]:
        """Return how archs were chosen, for provenance."""
        if self.file is not None:
            return {"archs_from": self.file.name}
        return {"measure": self.measure_of(space), "n": self.n, "seed": self.seed}


def read_archs(path: Path, space: Space) -> list[Arch]:
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


def _arch(text: str, space: Space) -> Arch:
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
