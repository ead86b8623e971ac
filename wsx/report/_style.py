"""The look: colours that people with any colour vision tell apart, one style sheet, one script."""

# Okabe and Ito, "Color Universal Design" (2008).
BLUE, ORANGE, GREY, INK, PAPER = "#0072B2", "#D55E00", "#8A8F98", "#1F2328", "#FFFFFF"
# For series that stand side by side, of the same source.
SERIES = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
GRID = "#E6E8EB"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

# More points than this are drawn by the graphics card, which does not print as sharply.
MAX_VECTOR_POINTS = 4000

CSS = f"""
:root {{ color-scheme: light; --ink: {INK}; --soft: #59636E; --line: {GRID}; --mark: {BLUE}; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 4rem; background: {PAPER};
  color: var(--ink); font: 16px/1.55 {FONT}; }}
h1 {{ font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.15rem; margin: 3rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }}
.lead, .note {{ color: var(--soft); max-width: 46rem; }}
.lead {{ margin: 0; }}
.note {{ font-size: .875rem; margin: .5rem 0; }}
.cards {{ display: grid; gap: .75rem; margin: 1.5rem 0 0; padding: 0;
  grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); }}
.card {{ border: 1px solid var(--line); border-radius: 6px; padding: .75rem 1rem; }}
.card dt {{ font-size: .8125rem; color: var(--soft); }}
.card .value {{ font-size: 1.625rem; font-weight: 600; margin: 0; color: var(--mark);
  font-variant-numeric: tabular-nums; }}
.card .limits {{ font-size: .8125rem; margin: 0; color: var(--soft);
  font-variant-numeric: tabular-nums; }}
.figure {{ width: 100%; height: 30rem; }}
.wide {{ overflow-x: auto; margin: .75rem 0; }}
table {{ border-collapse: collapse; width: 100%; font-size: .875rem; }}
th, td {{ text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0;
  border-bottom: 1px solid var(--line); }}
th {{ font-weight: 600; color: var(--soft); white-space: nowrap; }}
td {{ overflow-wrap: anywhere; min-width: 4.5rem; }}
td:first-child {{ min-width: 9rem; }}
.number {{ text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }}
.code td:last-child, .archs td:nth-child(2), .failures td:first-child {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .8125rem; }}
@media (max-width: 40rem) {{ body {{ padding: 1.25rem .9rem 3rem; }} .figure {{ height: 24rem; }} }}
@media print {{
  body {{ max-width: none; padding: 0; font-size: 10.5pt; }}
  .figure, .card, tr {{ break-inside: avoid; }} h2 {{ break-after: avoid; }}
  .wide {{ overflow: visible; }} .modebar {{ display: none !important; }}
}}
"""

SCRIPT = """
const archs = JSON.parse(document.getElementById("archs").textContent);
for (const block of document.querySelectorAll("script[data-figure]")) {
  const plot = JSON.parse(block.textContent);
  for (const trace of plot.data) if (trace.meta === "archs") trace.text = archs;
  Plotly.newPlot(block.dataset.figure, plot.data, plot.layout,
    { responsive: true, displaylogo: false });
}
"""
