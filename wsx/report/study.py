"""The page of a study: claims first, then tables and figures, all from one record of findings."""

import math
from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from wsx.report._html import figure, note, table, text
from wsx.report._numbers import NONE
from wsx.report._style import GREY, SERIES
from wsx.report.figures import layout, short_names
from wsx.report.findings import Cell, Claim, Findings, Part, Plot, ResultTable, Series
from wsx.report.page import document
from wsx.store.atomic import replace_bytes

# Heatmaps grow with their rows, so that each has room for its name.
_HEIGHT_PX, _ROW_PX, _AROUND_ROWS_PX = 400, 16, 160


def write_study(path: Path, findings: Findings, further: Sequence[Part] = ()) -> Path:
    """Write the page of a study: complete, or as it was before.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_bytes(path, render_study(findings, further).encode("utf-8", errors="replace"))
    return path


def render_study(findings: Findings, further: Sequence[Part] = ()) -> str:
    """Return the page as HTML, further parts before the facts; it needs nothing but itself."""
    parts = [f'<p class="lead">{text(findings.lead)}</p>\n', _claims(findings.claims)]
    parts += [_table(f"table-{number}", found) for number, found in enumerate(findings.tables)]
    parts += [_plot(found) for found in findings.plots]
    parts.append(render_parts(further))
    facts = [[name, value] for name, value in findings.facts.items()]
    parts.append(
        _section("facts", "How it was made", table(["", "value"], facts, n_text_columns=2))
    )
    return document(findings.title, "".join(parts), [], "the tables show the same numbers")


def render_parts(parts: Sequence[Part]) -> str:
    """Return the sections of parts: their tables, each before the figures of its own part."""
    sections = []
    for part in parts:
        sections += [
            _table(part.key if not number else f"{part.key}-{number}", found)
            for number, found in enumerate(part.tables)
        ]
        sections += [_plot(found) for found in part.plots]
    return "".join(sections)


def _section(key: str, heading: str, body: str) -> str:
    return f'<section id="{text(key)}">\n<h2>{text(heading)}</h2>\n{body}\n</section>\n'


def _claims(claims: Sequence[Claim]) -> str:
    if not claims:
        return ""
    rows = [[claim.verdict, claim.text, claim.evidence, claim.source] for claim in claims]
    heads = ["verdict", "claim", "evidence", "source"]
    return _section("claims", "Claims", table(heads, rows, n_text_columns=4))


def _table(key: str, found: ResultTable) -> str:
    is_text = [
        all(isinstance(row[i], str) for row in found.rows) for i in range(len(found.columns))
    ]
    n_text = next((i for i, all_text in enumerate(is_text) if not all_text), len(is_text))
    rows = [[_cell(cell) for cell in row] for row in found.rows]
    body = table(found.columns, rows, n_text_columns=n_text)
    return _section(key, found.title, body + (note(found.note) if found.note else ""))


def _cell(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return NONE
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def _plot(found: Plot) -> str:
    drawn = go.Figure(_traces(found), layout(found.x_title, found.y_title))
    names = [x for one in found.series for x in one.x if isinstance(x, str)]
    if names:
        # Names of archs may be digits, and stay names; long ones take the room they need.
        drawn.update_xaxes(type="category", automargin=True, labelalias=short_names(names))
    height_px = None
    if found.kind == "heatmap":
        names = [one.name for one in found.series]
        drawn.update_yaxes(
            type="category", automargin=True, labelalias=short_names(names), tickfont={"size": 11}
        )
        drawn.update_xaxes(tickangle=-90)
        height_px = max(_HEIGHT_PX, _ROW_PX * len(names) + _AROUND_ROWS_PX)
    body = (note(found.note) if found.note else "") + figure(found.key, drawn, height_px=height_px)
    return _section(f"plot-{found.key}", found.title, body)


def _traces(found: Plot) -> list[go.Scatter | go.Bar | go.Heatmap]:
    if found.kind == "heatmap":
        rows = [[_finite(y) for y in one.y] for one in found.series]
        columns = [str(x) for x in found.series[0].x] if found.series else []
        names = [one.name for one in found.series]
        return [
            go.Heatmap(
                x=columns, y=names, z=rows, colorscale="RdBu", zmid=0, colorbar={"thickness": 12}
            )
        ]
    traces = []
    for number, one in enumerate(found.series):
        colour = SERIES[number % len(SERIES)]
        if found.kind == "bars":
            traces.append(
                go.Bar(x=list(one.x), y=_values(one), name=one.name, marker={"color": colour})
            )
        else:
            mode = "lines+markers" if found.kind == "lines" else "markers"
            traces.append(
                go.Scatter(
                    x=list(one.x), y=_values(one), name=one.name, mode=mode, line={"color": colour}
                )
            )
        if one.low is not None and one.high is not None:
            traces[-1].error_y = {
                "array": [_finite(high - y) for high, y in zip(one.high, one.y, strict=True)],
                "arrayminus": [_finite(y - low) for low, y in zip(one.low, one.y, strict=True)],
                "color": GREY,
                "thickness": 1,
            }
    return traces


def _values(one: Series) -> list[float | None]:
    return [_finite(y) for y in one.y]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
