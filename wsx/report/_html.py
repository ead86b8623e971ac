"""HTML from text that nobody has vetted: strings pass ``text``, JSON passes ``script_json``."""

import html
import json
from collections.abc import Iterable, Sequence

from plotly.graph_objects import Figure


def text(value: object) -> str:
    """Return a value as HTML text, with every special character escaped."""
    return html.escape(str(value), quote=True)


def script_json(value: str) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return value.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def table(
    headers: Sequence[str], rows: Iterable[Sequence[object]], *, n_text_columns: int = 1
) -> str:
    """Return a table that scrolls sideways by itself on narrow screens.

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
    return (
        f'<div class="wide"><table>\n<thead>{line(headers, "th")}</thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def note(sentence: str) -> str:
    """Return a paragraph of explanation."""
    return f'<p class="note">{text(sentence)}</p>'


def figure(key: str, plot: Figure) -> str:
    """Return the place of an interactive figure and the data that the page's script draws there.

    Traces whose ``meta`` is ``archs`` get one hover text per point from the page's list of archs.
    """
    plain = json.dumps(json.loads(plot.to_json()), separators=(",", ":"))
    return (
        f'<div id="figure-{key}" class="figure"></div>\n'
        f'<script type="application/json" data-figure="figure-{key}">{script_json(plain)}</script>'
    )
