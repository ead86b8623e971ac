"""What a study found, as plain data: claims with verdicts, tables, figures. Page and JSON show the same."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from wsx.errors import ShapeError

Cell = str | int | float | None
Verdict = Literal["holds", "does not hold", "open"]
PlotKind = Literal["lines", "marks", "bars", "heatmap"]


@dataclass(frozen=True)
class Claim:
    """Something that a paper says, and what these data say about it.

    Attributes:
        text: The claim, in our words.
        source: Where it was made, such as ``arXiv 2001.01431, section 3.5``.
        verdict: ``open`` where the interval leaves both possible, or there was too little data.
        evidence: The numbers behind the verdict, with their interval, in one sentence.
    """

    text: str
    source: str
    verdict: Verdict
    evidence: str


NO_WIDTH = "the interval has no width: how far the number moves by chance is not known"
"""Why a verdict is open where all repeats gave the same value."""


def has_width(low: float, high: float) -> bool:
    """Return whether limits lie apart by more than rounding; those of equal values, as of few archs, do not."""
    return not math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-12)


def verdict(low: float, high: float, *, above: float = 0.0) -> Verdict:
    """Return whether an interval says that a quantity is larger than a value; NaN or no width leaves it open."""
    if not has_width(low, high):
        return "open"
    if low > above:
        return "holds"
    return "does not hold" if high < above else "open"


def judged(
    text: str, source: str, low: float, high: float, evidence: str, *, above: float = 0.0
) -> Claim:
    """Return a claim that holds where a quantity is larger than a value, judged by its interval.

    Args:
        text: The claim.
        source: Where it was made.
        low: Lower limit of the quantity.
        high: Upper limit; where it is the lower one too, the evidence says why that decides nothing.
        evidence: The numbers, with their interval.
        above: The value.
    """
    if not has_width(low, high):
        evidence = f"{evidence}; {NO_WIDTH}"
    return Claim(text, source, verdict(low, high, above=above), evidence)


@dataclass(frozen=True)
class ResultTable:
    """Rows of cells under heads; numbers keep their precision until they are shown.

    Raises:
        ShapeError: A row has another number of cells than there are columns.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ShapeError(
                    f"table {self.title!r} has {len(self.columns)} columns and a row of {len(row)} cells"
                )


@dataclass(frozen=True)
class Series:
    """One line, cloud of marks or row of bars; ``low`` and ``high`` are limits of an interval around ``y``.

    Raises:
        ShapeError: The parts differ in length.
    """

    name: str
    x: Sequence[float | str]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None

    def __post_init__(self) -> None:
        lengths = {len(part) for part in (self.x, self.y, self.low, self.high) if part is not None}
        if len(lengths) > 1:
            raise ShapeError(f"series {self.name!r} has parts of {sorted(lengths)} values")


@dataclass(frozen=True)
class Plot:
    """A figure.

    Attributes:
        key: Anchor in the page; letters and dashes.
        title: Heading above it.
        x_title: Of the horizontal axis.
        y_title: Of the vertical axis.
        kind: ``heatmap`` shows one series per row, coloured by ``y``.
        series: What is drawn.
        note: What to look at.
    """

    key: str
    title: str
    x_title: str
    y_title: str
    kind: PlotKind
    series: Sequence[Series]
    note: str = ""


@dataclass(frozen=True)
class Findings:
    """Everything that a study ends in.

    Attributes:
        title: Heading of the page.
        lead: What was asked and at what scale, in a sentence or two.
        claims: With verdicts.
        tables: Ours, with the published figures beside them where we know them.
        plots: Figures.
        facts: Settings, counts, seeds, versions.
    """

    title: str
    lead: str
    claims: Sequence[Claim] = ()
    tables: Sequence[ResultTable] = ()
    plots: Sequence[Plot] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, JSON-clean: what has no value is null."""
        cleaned: dict[str, Any] = _clean(asdict(self))
        return cleaned


@dataclass(frozen=True)
class Part:
    """One question of a report: its tables, then its figures.

    Attributes:
        key: Name in JSON and anchor in the page; letters and dashes.
        tables: Numbers.
        plots: Figures.
    """

    key: str
    tables: Sequence[ResultTable]
    plots: Sequence[Plot] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, JSON-clean: what has no value is null."""
        cleaned: dict[str, Any] = _clean(asdict(self))
        return cleaned


def limits(low: float, high: float, digits: int = 3) -> str:
    """Return an interval as a table cell."""
    return "" if math.isnan(low) or math.isnan(high) else f"[{low:.{digits}f}, {high:.{digits}f}]"


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _clean(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(entry) for entry in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
