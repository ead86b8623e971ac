"""A truth table as an objective, to study searches themselves, and as a judge of what they found."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wsx.errors import WsxError
from wsx.search.candidates import Candidates
from wsx.spaces import Arch, Space
from wsx.truth import TruthTable


@dataclass(frozen=True)
class Standing:
    """Where an arch stands in a truth table.

    Attributes:
        truth: What the table says of it, in the table's metric.
        rank: True rank among the rows compared, 1 is best; rows tied in truth share the mean rank. None where
            no row can be compared.
        n_ranked: How many rows are compared.
        regret: By how much the best of these rows is better, at least 0; None likewise.
    """

    truth: float
    rank: float | None
    n_ranked: int
    regret: float | None


class TruthLookup:
    """What a truth table says of archs, however either side spells them.

    As an objective, an arch is worth what the table says, and nan where it says nothing.

    Args:
        table: The table.
        space: Of the archs.
    """

    def __init__(self, table: TruthTable, space: Space) -> None:
        self.table = table
        self._space = space
        self._rows = {text: row for row, text in enumerate(table.texts)}

    @cached_property
    def archs(self) -> dict[Arch, int]:
        """The archs of the table with their rows; rows under names that are no text form are left out."""
        parsed: dict[Arch, int] = {}
        for row, text in enumerate(self.table.texts):
            try:
                parsed.setdefault(self._space.parse(text), row)
            except WsxError:
                # Tables may use names that are no text form, such as a hash.
                continue
        return parsed

    @cached_property
    def _respelt(self) -> dict[str, int]:
        return {self._space.truth_text(arch): row for arch, row in self.archs.items()}

    def row(self, arch: Arch) -> int | None:
        """Return the row of an arch, None where the table has none."""
        name = self._space.truth_text(arch)
        return self._rows[name] if name in self._rows else self._respelt.get(name)

    def score(self, archs: Sequence[Arch], on_scored: Callable[[int], None]) -> list[float]:
        """Return the truth of a batch, larger is better; see ``Objective``."""
        rows = [self.row(arch) for arch in archs]
        on_scored(len(archs))
        return [math.nan if row is None else float(self.table.goodness[row]) for row in rows]

    def identity(self, arch: Arch) -> int | None:
        """Return the row of an arch."""
        return self.row(arch)

    def rows_of(self, candidates: Candidates) -> NDArray[np.int64]:
        """Return the rows that a search might have found, ascending, (row,).

        Under limits these are none where the table's names are no text forms.
        """
        if candidates.only is None and candidates.limits.is_free:
            return np.arange(len(self.table))
        archs = self.archs if candidates.only is None else candidates.only
        rows = {self.row(arch) for arch in archs if candidates.is_allowed(arch)}
        return np.array(sorted(row for row in rows if row is not None), dtype=np.int64)

    def standing(self, arch: Arch, rows: NDArray[np.int64]) -> Standing | None:
        """Return where an arch stands among rows of the table, None where the table does not know it."""
        row = self.row(arch)
        if row is None:
            return None
        goodness = self.table.goodness
        truth = float(goodness[row]) * (1 if self.table.metric == "accuracy" else -1)
        if not rows.size:
            return Standing(truth, None, 0, None)
        rivals = goodness[rows]
        n_better = int((rivals > goodness[row]).sum())
        n_tied = max(1, int((rivals == goodness[row]).sum()))
        regret = max(0.0, float(rivals.max() - goodness[row]))
        return Standing(truth, n_better + (n_tied + 1) / 2, rows.size, regret)
