"""Axes, marks and fonts that all figures share, on screen and in print."""

from collections.abc import Iterable, Sequence

import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from wsx.report._base import FloatArray
from wsx.report._style import BLUE, FONT, GREY, GRID, INK, MAX_VECTOR_POINTS, PAPER

# Longer names leave no room for the data beside them.
MAX_NAME = 20


def layout(x_title: str, y_title: str) -> go.Layout:
    """Return the layout of an interactive figure with titled axes; the page has its legend below it."""
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": GREY, "ticks": "outside"}
    return go.Layout(
        template="none",
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        # The buttons stand above the axes, on nothing.
        margin={"l": 70, "r": 20, "t": 44, "b": 60},
        hoverlabel={"align": "left", "font": {"family": "monospace", "size": 12}},
        showlegend=False,
        xaxis={**axis, "title": {"text": x_title}},
        yaxis={**axis, "title": {"text": y_title}},
    )


def points(x: FloatArray, y: FloatArray) -> go.Scatter | go.Scattergl:
    """Return one mark per arch, in the order of the archs; the page adds the hover texts."""
    kind = go.Scatter if x.size <= MAX_VECTOR_POINTS else go.Scattergl
    return kind(
        x=x,
        y=y,
        mode="markers",
        marker={"color": BLUE, "size": mark_size(x.size), "opacity": mark_opacity(x.size)},
        hovertemplate="%{text}<extra></extra>",
        meta="archs",
        showlegend=False,
    )


def line(x: Sequence[float], y: Sequence[float], name: str) -> go.Scatter:
    """Return a grey guide line."""
    return go.Scatter(
        x=list(x),
        y=list(y),
        mode="lines",
        name=name,
        hoverinfo="skip",
        line={"color": GREY, "width": 1, "dash": "dot"},
    )


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return what stands at an axis for names too long for it: their beginning and their end."""
    half = MAX_NAME // 2
    return {name: f"{name[:half]}…{name[-half:]}" for name in names if len(name) > MAX_NAME}


def picture(x_title: str, y_title: str) -> tuple[Figure, Axes]:
    """Return an empty figure for print, without touching any global state of matplotlib."""
    plot = Figure(figsize=(5.6, 4.4), dpi=150, layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(plot)
    axes = plot.add_subplot()
    axes.set_xlabel(x_title, color=INK)
    axes.set_ylabel(y_title, color=INK)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    return plot, axes


def mark(axes: Axes, x: FloatArray, y: FloatArray) -> None:
    """Draw one mark per arch."""
    size = mark_size(x.size) ** 2 / 2
    axes.scatter(x, y, s=size, color=BLUE, alpha=mark_opacity(x.size), linewidths=0)


def mark_size(n_archs: int) -> float:
    """Return a diameter in pixels that keeps the marks of many archs apart."""
    return 8.0 if n_archs <= 200 else 6.0 if n_archs <= 2000 else 4.0


def mark_opacity(n_archs: int) -> float:
    """Return an opacity in (0, 1] at which overlapping marks show as density."""
    return 0.85 if n_archs <= 200 else 0.55 if n_archs <= 2000 else 0.25
