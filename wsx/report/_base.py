"""What a report is made of: the data, and sections that each show one side of them.

A section is one file: a heading, a function from the data to HTML, and where it is a figure a
second function that draws the same numbers for print. ``wsx.report.page`` lists the sections in
order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from wsx.analysis import Summary, average_ranks, rank_table
from wsx.errors import OptionError, ShapeError

FloatArray = npt.NDArray[np.float64]

OWN_COLUMNS = frozenset({"rank", "arch", "supernet", "truth", "true rank", "params", "FLOPs"})


@dataclass(frozen=True)
class Failure:
    """An arch without a score: its text form, the status it ended with, and the error."""

    text: str
    status: str
    error: str


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything that a report shows; larger predictions and truths are better.

    Attributes:
        title: Heading of the page.
        texts: Text forms of the scored archs, shape (arch,).
        predicted: Supernet accuracies in [0, 1] or other scores, shape (arch,).
        truth: Stand-alone accuracies or other scores, shape (arch,); None where unknown.
        summary: What ``wsx.analysis.summarise`` says about them; None where unknown.
        params: Parameter counts, shape (arch,), or None.
        flops: Operation counts, shape (arch,), or None.
        columns: Further values per arch by name, each shape (arch,).
        failures: Archs without a score.
        provenance: Where the numbers come from; values of any kind that ``str`` shows.

    Raises:
        ShapeError: Arrays do not have one value per arch.
        OptionError: Some values are not finite, or a column has the name of the report's own.
    """

    title: str
    texts: Sequence[str]
    predicted: FloatArray
    truth: FloatArray | None
    summary: Summary | None
    params: FloatArray | None
    flops: FloatArray | None
    columns: Mapping[str, Sequence[object]]
    failures: Sequence[Failure]
    provenance: Mapping[str, object]
    predicted_ranks: FloatArray = field(init=False)
    truth_ranks: FloatArray | None = field(init=False)

    def __post_init__(self) -> None:
        arrays = {
            "predicted": self.predicted,
            "truth": self.truth,
            "params": self.params,
            "flops": self.flops,
        }
        for name, values in arrays.items():
            if values is not None:
                _check_vector(values, name, n_archs=len(self.texts))
        for name, entries in self.columns.items():
            if name in OWN_COLUMNS:
                raise OptionError(f"column {name!r} is taken; the report has its own of that name")
            if len(entries) != len(self.texts):
                raise ShapeError(
                    f"column {name!r} has {len(entries)} values for {len(self.texts)} archs"
                )
        if self.summary is not None and self.summary.n_archs != len(self.texts):
            raise ShapeError(
                f"the summary covers {self.summary.n_archs} archs, the report {len(self.texts)}"
            )
        table = None if self.truth is None else rank_table(self.predicted, self.truth)
        ranks = average_ranks(self.predicted) if table is None else table.predicted
        object.__setattr__(self, "predicted_ranks", ranks)
        object.__setattr__(self, "truth_ranks", None if table is None else table.truth)

    @property
    def n_archs(self) -> int:
        """How many archs have a score."""
        return len(self.texts)


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes:
        key: Anchor in the page and name of the picture file.
        heading: Heading above it.
        html: Function from the data to HTML; an empty string leaves the section out.
        draw: Function from the data to a picture for print, or None; None for sections of text.
    """

    key: str
    heading: str
    html: Callable[[ReportData], str]
    draw: Callable[[ReportData], Figure | None] | None = None


def _check_vector(values: FloatArray, name: str, *, n_archs: int) -> None:
    if values.shape != (n_archs,):
        raise ShapeError(f"{name} must have shape ({n_archs},) like texts, got {values.shape}")
    n_bad = int(np.count_nonzero(~np.isfinite(values)))
    if n_bad:
        raise OptionError(
            f"{n_bad} of {n_archs} values of {name} are not finite; pass failed archs as failures"
        )
