"""HTML from text that nobody has vetted: strings pass ``text``, JSON passes ``script_json``."""

import html
import json
from collections.abc import Iterable, Sequence

from plotly.basedatatypes import BaseTraceType
from plotly.graph_objects import Figure

# Tables of more columns are printed on sheets that lie on their side.
MAX_UPRIGHT_COLUMNS = 7


def text(value: object) -> str:
    """Return a value as HTML text, with every special character escaped."""
    return html.escape(str(value), quote=True)


def script_json(value: str) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return value.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def table(
    headers: Sequence[str], rows: Iterable[Sequence[object]], *, n_text_columns: int = 1
) -> str:
    """Return a table that scrolls sideways by itself on narrow screens, and wraps its cells on paper.

    Args:
        headers: Column heads.
        rows: Cells; every one is escaped.
        n_text_columns: How many leading columns are left-aligned text; the others are numbers.
    """

    def line(cells: Sequence[object], tag: str) -> str:
        marked = (
            f"<{tag}>{text(cell)}</{tag}>"
            if column < n_text_columns
            else f'<{tag} class="number">{text(cell)}</{tag}>'
            for column, cell in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    kind = "wide broad" if len(headers) > MAX_UPRIGHT_COLUMNS else "wide"
    return (
        f'<div class="{kind}"><table>\n<thead>{line(headers, "th")}</thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def note(sentence: str) -> str:
    """Return a paragraph of explanation."""
    return f'<p class="note">{text(sentence)}</p>'


def figure(key: str, plot: Figure, *, height_px: int | None = None) -> str:
    """Return the place of an interactive figure, its legend, and the data that the page's script draws there.

    Traces whose ``meta`` is ``archs`` get one hover text per point from the page's list of archs.

    Args:
        key: Anchor in the page.
        plot: What is drawn.
        height_px: Height in pixels; None for that of the style sheet.
    """
    plain = json.dumps(json.loads(plot.to_json()), separators=(",", ":"))
    style = "" if height_px is None else f' style="height: {height_px}px"'
    return (
        f'<div id="figure-{text(key)}" class="figure"{style}></div>\n{_legend(key, plot)}'
        f'<script type="application/json" data-figure="figure-{text(key)}">{script_json(plain)}</script>'
    )


def _legend(key: str, plot: Figure) -> str:
    """Return the names of a figure's series, which wrap where plotly's own legend covers the data."""
    named = [
        (i, one) for i, one in enumerate(plot.data) if one.name and one.showlegend is not False
    ]
    if len(named) < 2:
        return ""
    buttons = "".join(
        f'<button type="button" aria-pressed="true" data-of="figure-{text(key)}" data-trace="{i}">'
        f'<i style="background: {text(_colour(one))}"></i>{text(one.name)}</button>'
        for i, one in named
    )
    return f'<div class="legend">{buttons}</div>\n'


def _colour(trace: BaseTraceType) -> str:
    return str(trace.marker.color or trace.line.color)
