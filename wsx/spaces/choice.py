"""Which archs of a space to work on: drawn, from a file, by their texts, or all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsx.errors import OptionError
from wsx.spaces._base import Arch, Space
from wsx.spaces.lists import pinned, read_archs

MAX_ENUMERATED = 1_000_000


@dataclass(frozen=True)
class ArchChoice:
    """Which archs of a space to work on; exactly one of ``n``, ``file``, ``texts`` and ``takes_all`` is given.

    Attributes:
        n: How many to draw.
        seed: Seed of the draw.
        measure: What the draw is uniform over, as for ``Space.population``; None takes the space's first.
        file: A file with one text form (or index) a line.
        takes_all: Every arch of the measure.
        texts: Their text forms.
    """

    n: int | None = None
    seed: int = 0
    measure: str | None = None
    file: Path | None = None
    takes_all: bool = False
    texts: tuple[str, ...] = ()

    def archs(self, space: Space) -> list[Arch]:
        """Return the archs.

        Raises:
            OptionError: None or several ways to choose are given, or the space is too large to list.
            ArchError: The file has lines, or there are texts, that are no archs.
            UnknownNameError: The space has no such measure.
        """
        n_ways = sum((self.n is not None, self.file is not None, self.takes_all, bool(self.texts)))
        if n_ways != 1:
            raise OptionError("choose archs by exactly one of --n, --archs and --all")
        if self.file is not None:
            return read_archs(self.file, space)
        if self.texts:
            return [space.parse(text) for text in self.texts]
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
        if self.texts:
            return {"archs_from": f"a list of {len(self.texts)}"}
        return {"measure": pinned(self.measure_of(space)), "n": self.n, "seed": self.seed}
