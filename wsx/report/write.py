"""Writes a report: one HTML page and the pictures beside it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from wsx.analysis import Summary
from wsx.errors import OptionError
from wsx.report._base import Failure, FloatArray, ReportData
from wsx.report.findings import Findings, Part
from wsx.report.page import SECTIONS, render_page
from wsx.report.prints import print_plot
from wsx.report.study import render_parts, write_study
from wsx.store.atomic import replace_bytes


@dataclass(frozen=True)
class ReportFiles:
    """What was written: the page, and pictures by the name of their section."""

    page: Path
    pictures: Mapping[str, Path]


def write_report(
    path: str | Path,
    *,
    title: str,
    texts: Sequence[str],
    predicted: npt.ArrayLike,
    truth: npt.ArrayLike | None = None,
    summary: Summary | None = None,
    provenance: Mapping[str, object],
    params: npt.ArrayLike | None = None,
    flops: npt.ArrayLike | None = None,
    columns: Mapping[str, Sequence[object]] | None = None,
    failures: Sequence[Failure] = (),
    parts: Sequence[Part] = (),
) -> ReportFiles:
    """Write a page that opens anywhere without a network, and PNG pictures named after it.

    Each file is complete or, where it could not be written, as it was before.

    Args:
        path: The page to write, ending in ``.html``; folders are created.
        title: Heading of the page.
        texts: Text forms of the scored archs, shape (arch,).
        predicted: Supernet accuracies in [0, 1] or other scores, shape (arch,); larger is better.
        truth: Stand-alone accuracies in [0, 1] or other scores, shape (arch,).
        summary: ``wsx.analysis.summarise`` of the two; without it the page has figures and tables
            only.
        provenance: Where the numbers come from: score key, versions, seeds, command; may be nested.
        params: Parameter counts, shape (arch,).
        flops: Operation counts, shape (arch,).
        columns: Further values per arch by name, each shape (arch,).
        failures: Archs without a score.
        parts: Further tables and figures, before the failures.

    Raises:
        ShapeError: Arrays do not have one value per arch.
        OptionError: The path is no HTML file, or values are not finite.
        OSError: A file cannot be written.
    """
    page = _html_path(path)
    data = ReportData(
        title=title,
        texts=texts,
        predicted=_floats(predicted),
        truth=None if truth is None else _floats(truth),
        summary=summary,
        params=None if params is None else _floats(params),
        flops=None if flops is None else _floats(flops),
        columns=columns or {},
        failures=failures,
        provenance=provenance,
    )
    html = render_page(data, render_parts(parts))
    page.parent.mkdir(parents=True, exist_ok=True)
    pictures = _write_pictures(page, {**render_pictures(data), **_pictures_of(parts)})
    # A text may hold half of a surrogate pair, which no encoding can write.
    replace_bytes(page, html.encode("utf-8", errors="replace"))
    return ReportFiles(page, pictures)


def write_parts(
    path: str | Path,
    *,
    title: str,
    lead: str,
    parts: Sequence[Part],
    provenance: Mapping[str, object],
) -> ReportFiles:
    """Write a page of parts alone, and PNG pictures named after it.

    Args:
        path: The page to write, ending in ``.html``; folders are created.
        title: Heading of the page.
        lead: What was analysed, in a sentence.
        parts: Tables and figures.
        provenance: Where the numbers come from.

    Raises:
        OptionError: The path is no HTML file.
        OSError: A file cannot be written.
    """
    page = _html_path(path)
    write_study(page, Findings(title, lead, facts=provenance), parts)
    return ReportFiles(page, _write_pictures(page, _pictures_of(parts)))


def _html_path(path: str | Path) -> Path:
    page = Path(path)
    if page.suffix.lower() not in {".html", ".htm"}:
        raise OptionError(f"a report is an HTML file: {str(path)!r} does not end in .html")
    return page


def _write_pictures(page: Path, contents: Mapping[str, bytes]) -> dict[str, Path]:
    paths = {name: page.with_name(f"{page.stem}_{name}.png") for name in contents}
    for name, content in contents.items():
        replace_bytes(paths[name], content)
    return paths


def _pictures_of(parts: Sequence[Part]) -> dict[str, bytes]:
    return {plot.key: _png(print_plot(plot)) for part in parts for plot in part.plots}


def render_pictures(data: ReportData) -> dict[str, bytes]:
    """Return the PNG pictures of all sections that have one, by section."""
    pictures = {}
    for section in SECTIONS:
        figure = None if section.draw is None else section.draw(data)
        if figure is not None:
            pictures[section.key] = _png(figure)
    return pictures


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _floats(values: npt.ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float64)
