"""One page that needs nothing but itself: styles, plotly.js, data and text in a single file."""

import json
import textwrap
from collections.abc import Sequence

from plotly.offline import get_plotlyjs

from wsx.report import headline, histograms, measures, ranks, scatter, tables
from wsx.report._base import ReportData, Section
from wsx.report._html import note, script_json, text
from wsx.report._numbers import rank_text
from wsx.report._style import CSS, SCRIPT

SECTIONS: tuple[Section, ...] = (
    headline.SECTION,
    scatter.SECTION,
    ranks.SECTION,
    histograms.SECTION,
    tables.TOP,
    measures.SECTION,
    measures.BASELINES,
    tables.FAILURES,
    tables.PROVENANCE,
)

# No request may leave the page, whatever the texts hold; scattergl compiles code.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; worker-src blob:; base-uri 'none'; form-action 'none'"
)
_HOVER_WIDTH = 64


def render_page(data: ReportData, parts: str = "") -> str:
    """Return the whole page as HTML, with further sections before those of failures and provenance."""
    ends = (tables.FAILURES, tables.PROVENANCE)
    body = "".join(_section(section, data) for section in SECTIONS if section not in ends)
    body += parts + "".join(_section(section, data) for section in ends)
    return document(data.title, body, _hovers(data), "the PNG files beside this page show the same")


def document(title: str, body: str, hovers: Sequence[str], instead: str) -> str:
    """Return a page that needs nothing but itself.

    Args:
        title: Its heading.
        body: HTML below it.
        hovers: What hovering over each arch shows.
        instead: Where a reader without JavaScript finds what the figures show.
    """
    listed = script_json(json.dumps(hovers))
    scripts = (
        f'<script type="application/json" id="archs">{listed}</script>'
        f"\n<script>{get_plotlyjs()}</script>\n<script>{SCRIPT}</script>"
    )
    warning = note(f"The figures need JavaScript; {instead}.")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{text(title)}</title>
<style>{CSS}</style>
</head>
<body>
<h1>{text(title)}</h1>
{body}
<noscript>{warning}</noscript>
{scripts}
</body>
</html>
"""


def _section(section: Section, data: ReportData) -> str:
    body = section.html(data)
    if not body:
        return ""
    return f'<section id="{section.key}">\n<h2>{text(section.heading)}</h2>\n{body}\n</section>\n'


def _hovers(data: ReportData) -> list[str]:
    """Return what hovering over each arch shows, in the little HTML that plotly knows."""
    facts = tables.arch_facts(data)
    hovers = []
    for arch, name in enumerate(data.texts):
        lines = textwrap.wrap(name, _HOVER_WIDTH) or [""]
        lines.append(f"rank {rank_text(data.predicted_ranks[arch])}")
        lines += [f"{fact}: {value(arch)}" for fact, value in facts.items()]
        hovers.append("<br>".join(text(line) for line in lines))
    return hovers
