"""Rank under the supernet against true rank."""

import plotly.graph_objects as go
from matplotlib.figure import Figure

from wsx.report._base import ReportData, Section
from wsx.report._html import figure, note
from wsx.report._style import GREY
from wsx.report.figures import layout, line, mark, picture, points

_X, _Y = "True rank (1 is best)", "Rank under the supernet (1 is best)"


def build(data: ReportData) -> str:
    """Return the interactive figure, or nothing without truth."""
    if data.truth_ranks is None or not data.n_archs:
        return ""
    ends = (1.0, float(data.n_archs))
    marks = [
        line(ends, ends, "equal ranks"),
        points(data.truth_ranks, data.predicted_ranks),
    ]
    plot = go.Figure(marks, layout(_X, _Y))
    plot.update_xaxes(autorange="reversed")
    plot.update_yaxes(autorange="reversed")
    return note(
        "The best archs are at the upper right; archs with equal scores share the mean of their "
        "ranks. On the dotted line both rankings agree."
    ) + figure("ranks", plot)


def draw(data: ReportData) -> Figure | None:
    """Return the same figure for print."""
    if data.truth_ranks is None or not data.n_archs:
        return None
    plot, axes = picture(_X, _Y)
    ends = (1, data.n_archs)
    axes.plot(ends, ends, color=GREY, linewidth=1, linestyle=":")
    mark(axes, data.truth_ranks, data.predicted_ranks)
    axes.invert_xaxis()
    axes.invert_yaxis()
    return plot


SECTION = Section("ranks", "Rank against rank", build, draw)
