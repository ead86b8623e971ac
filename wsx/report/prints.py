"""Figures of findings for print: the same numbers as ``wsx.report.study`` draws in the page."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsx.report._style import GREY, SERIES
from wsx.report.figures import picture
from wsx.report.findings import Plot, Series

MAX_LEGEND = 10
MAX_NAMES = 40


def print_plot(plot: Plot) -> Figure:
    """Return a figure for print; what has no value is left out of it."""
    figure, axes = picture(plot.x_title, plot.y_title)
    if plot.kind == "heatmap":
        _heatmap(figure, axes, plot.series)
        return figure
    names = list(dict.fromkeys(x for one in plot.series for x in one.x if isinstance(x, str)))
    for number, one in enumerate(plot.series):
        x = [float(names.index(x) if isinstance(x, str) else x) for x in one.x]
        _series(axes, plot, one, x, SERIES[number % len(SERIES)], number)
    if names:
        # Beyond some number names only cover one another.
        shown = names if len(names) <= MAX_NAMES else []
        axes.set_xticks(range(len(shown)), labels=shown, rotation=90, fontsize=7)
    if 1 < len(plot.series) <= MAX_LEGEND:
        axes.legend(frameon=False, fontsize=8)
    return figure


def _series(
    axes: Axes, plot: Plot, one: Series, x: Sequence[float], colour: str, number: int
) -> None:
    y = np.array(one.y, dtype=np.float64)
    if one.low is not None and one.high is not None:
        below, above = y - np.array(one.low), np.array(one.high) - y
        # A basic interval may lie beside its number.
        reach = np.nan_to_num(np.maximum([below, above], 0))
        axes.errorbar(x, y, yerr=reach, fmt="none", ecolor=GREY, elinewidth=1)
    if plot.kind == "bars":
        width = 0.8 / len(plot.series)
        axes.bar(np.array(x) + number * width, y, width, color=colour, label=one.name)
    else:
        line = "-" if plot.kind == "lines" else "none"
        axes.plot(x, y, color=colour, marker="o", markersize=3, linestyle=line, label=one.name)


def _heatmap(figure: Figure, axes: Axes, series: Sequence[Series]) -> None:
    values = np.array([one.y for one in series], dtype=np.float64)
    limit = max((abs(x) for x in values.ravel() if math.isfinite(x)), default=1.0) or 1.0
    drawn = axes.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto", origin="lower")
    figure.colorbar(drawn)
    axes.grid(visible=False)
    columns = [str(x) for x in series[0].x]
    axes.set_xticks(range(len(columns)), labels=columns, rotation=90, fontsize=7)
    axes.set_yticks(range(len(series)), labels=[one.name for one in series], fontsize=7)
