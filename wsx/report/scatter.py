"""Supernet accuracy against truth, or against parameters where truth is unknown."""

import plotly.graph_objects as go
from matplotlib.figure import Figure

from wsx.report._base import FloatArray, ReportData, Section
from wsx.report._html import figure, note
from wsx.report._numbers import is_accuracy
from wsx.report.figures import layout, mark, picture, points


def build(data: ReportData) -> str:
    """Return the interactive figure, or nothing where there is nothing to plot against."""
    axes = _axes(data)
    if axes is None:
        return ""
    x, y, x_title, y_title = axes
    plot = go.Figure([points(x, y)], layout(x_title, y_title))
    return note("One mark per arch. Drag to zoom, double-click to return.") + figure(
        "scatter", plot
    )


def draw(data: ReportData) -> Figure | None:
    """Return the same figure for print."""
    found = _axes(data)
    if found is None:
        return None
    x, y, x_title, y_title = found
    plot, axes = picture(x_title, y_title)
    mark(axes, x, y)
    return plot


def _axes(data: ReportData) -> tuple[FloatArray, FloatArray, str, str] | None:
    if not data.n_archs:
        return None
    y, y_title = _scaled(data.predicted, "Supernet")
    if data.truth is not None:
        x, x_title = _scaled(data.truth, "Stand-alone")
        return x, y, x_title, y_title
    if data.params is not None:
        return data.params / 1e6, y, "Parameters (millions)", y_title
    return None


def _scaled(values: FloatArray, name: str) -> tuple[FloatArray, str]:
    if is_accuracy(values):
        return 100 * values, f"{name} accuracy (%)"
    return values, f"{name} score"


SECTION = Section("scatter", "Every arch", build, draw)
