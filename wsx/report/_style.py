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
.legend {{ display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: .25rem 0 0; }}
.legend button {{ border: 0; padding: .125rem 0; background: none; color: inherit; cursor: pointer;
  font: .8125rem/1.4 {FONT}; text-align: left; overflow-wrap: anywhere; }}
.legend button[aria-pressed="false"] {{ opacity: .4; text-decoration: line-through; }}
.legend i {{ display: inline-block; width: .75rem; height: .75rem; border-radius: 50%;
  margin-right: .375rem; vertical-align: -.0625rem; print-color-adjust: exact; }}
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
@page {{ margin: 12mm; }}
@page broad {{ size: landscape; }}
@media screen and (max-width: 40rem) {{
  body {{ padding: 1.25rem .9rem 3rem; }} .figure {{ height: 24rem; }}
  td:not(.number) {{ min-width: 6rem; }} td:first-child {{ min-width: 7.5rem; }}
  #claims thead {{ display: none; }} #claims td {{ display: block; border: 0;
    padding: 0; }}
  #claims tr {{ display: block; border-bottom: 1px solid var(--line); padding: .5rem 0; }}
  #claims td:first-child {{ font-weight: 600; }} #claims td:last-child {{ color: var(--soft); }}
}}
@media print {{
  body {{ max-width: none; padding: 0; font-size: 10.5pt; }}
  .figure, .legend, .card, tr {{ break-inside: avoid; }} h2, .figure {{ break-after: avoid; }}
  .figure {{ height: auto !important; }} .modebar {{ display: none !important; }}
  .wide {{ overflow: visible; }} section:has(.broad) {{ page: broad; }}
  table {{ font-size: 8.5pt; }} .broad table {{ font-size: 7.5pt; }}
  th, td {{ padding-right: .375rem; }} td, td:first-child {{ min-width: 0; }}
  th, td, .number {{ white-space: normal; overflow-wrap: anywhere; }}
}}
"""

SCRIPT = """
const archs = JSON.parse(document.getElementById("archs").textContent);
const places = [];
// The page has the legend; a picture by itself needs its own.
const camera = { name: "picture", title: "Download as a PNG", icon: Plotly.Icons.camera,
  click: (place) => Plotly.downloadImage({ data: place.data, layout: { ...place.layout,
    showlegend: document.querySelector(`[data-of="${place.id}"]`) !== null } },
    { format: "png", width: 1100, height: 600, filename: place.id }) };
for (const block of document.querySelectorAll("script[data-figure]")) {
  const plot = JSON.parse(block.textContent);
  const place = document.getElementById(block.dataset.figure);
  for (const trace of plot.data) if (trace.meta === "archs") trace.text = archs;
  Plotly.newPlot(place, plot.data, plot.layout, { responsive: true, displaylogo: false,
    showSendToCloud: false, modeBarButtonsToRemove: ["toImage"], modeBarButtonsToAdd: [camera] });
  places.push(place);
}
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", shown);
    Plotly.restyle(button.dataset.of, { visible: shown }, [Number(button.dataset.trace)]);
  });
}
// A figure does not shrink with the sheet, and a page with one that sticks out is shrunk as a whole.
addEventListener("beforeprint", () => {
  for (const place of places)
    Plotly.relayout(place, { width: 680, height: Math.min(place.clientHeight, 900) });
});
addEventListener("afterprint", () => {
  for (const place of places) Plotly.relayout(place, { width: null, height: null, autosize: true });
});
"""
