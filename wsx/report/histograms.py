"""How the accuracies spread."""

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure

from wsx.report._base import FloatArray, ReportData, Section
from wsx.report._html import figure
from wsx.report._numbers import is_accuracy
from wsx.report._style import BLUE, ORANGE
from wsx.report.figures import layout, picture

_Y = "Archs"


def build(data: ReportData) -> str:
    """Return the interactive figure, or nothing without archs."""
    if not data.n_archs:
        return ""
    edges, counts, x_title = _counts(data)
    plot = go.Figure(layout=layout(x_title, _Y))
    for (name, heights), color in zip(counts.items(), (BLUE, ORANGE), strict=False):
        bars = go.Bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=heights,
            width=np.diff(edges),
            name=name,
            marker={"color": color},
            opacity=0.6,
            hovertemplate="%{x:.4g}: %{y} archs",
        )
        plot.add_trace(bars)
    plot.update_layout(barmode="overlay", bargap=0)
    return figure("histogram", plot)


def draw(data: ReportData) -> Figure | None:
    """Return the same figure for print."""
    if not data.n_archs:
        return None
    edges, counts, x_title = _counts(data)
    plot, axes = picture(x_title, _Y)
    for (name, heights), color in zip(counts.items(), (BLUE, ORANGE), strict=False):
        axes.stairs(heights, edges, fill=True, alpha=0.6, color=color, label=name)
    axes.legend(frameon=False)
    return plot


def _counts(data: ReportData) -> tuple[FloatArray, dict[str, np.ndarray], str]:
    """Return common bin edges, and the archs in each bin by what was measured."""
    sets = {"supernet": data.predicted}
    # Other scores may have other units than their truth; only accuracies share an axis.
    as_percent = is_accuracy(data.predicted)
    if as_percent and data.truth is not None and is_accuracy(data.truth):
        sets["stand-alone"] = data.truth
    scale = 100 if as_percent else 1
    scaled = {name: scale * values for name, values in sets.items()}
    together = np.concatenate(list(scaled.values()))
    n_bins = int(np.clip(2 * data.n_archs ** (1 / 2), 10, 60))
    edges = np.histogram_bin_edges(together, bins=n_bins)
    counts = {name: np.histogram(values, bins=edges)[0] for name, values in scaled.items()}
    return edges, counts, "Accuracy (%)" if as_percent else "Score"


SECTION = Section("histogram", "Distribution", build, draw)
