"""Figures of findings for print hold the numbers of the page."""

import math

import numpy as np
from matplotlib.colors import to_hex

from wsx.report._style import SERIES
from wsx.report.findings import Plot, Series
from wsx.report.prints import MAX_NAMES, print_plot

NAN = math.nan


def printed(kind, *series):
    plot = print_plot(Plot("key", "title", "across", "up", kind, series))
    axes = plot.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("across", "up")
    return axes


def test_lines_have_their_points_limits_and_names():
    low, high = [0.0, 1.5, 2.0], [2.0, 2.5, 4.0]
    axes = printed(
        "lines", Series("a", [1, 2, 4], [1.0, 2.0, 3.0], low, high), Series("b", [1], [NAN])
    )
    first, second = axes.get_lines()
    assert np.array_equal(first.get_xydata(), [[1, 1], [2, 2], [4, 3]])
    assert (to_hex(first.get_color()), to_hex(second.get_color())) == tuple(
        colour.lower() for colour in SERIES[:2]
    )
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    (bars,) = axes.collections
    ends = [[segment[0][1], segment[1][1]] for segment in bars.get_segments()]
    assert ends == [[0, 2], [1.5, 2.5], [2, 4]]


def test_marks_have_no_line_and_names_stand_at_the_axis():
    axes = printed("marks", Series("rank", ["434", "111"], [2.0, 1.0]))
    (marks,) = axes.get_lines()
    assert marks.get_linestyle() == "None"
    assert marks.get_xdata().tolist() == [0, 1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["434", "111"]
    assert axes.get_legend() is None


def test_more_names_than_fit_are_left_out():
    names = [str(n) for n in range(MAX_NAMES + 1)]
    axes = printed("marks", Series("rank", names, [1.0] * len(names)))
    assert list(axes.get_xticks()) == []


def test_bars_of_several_series_stand_side_by_side():
    axes = printed(
        "bars", Series("a", ["u", "v"], [1.0, -1.0]), Series("b", ["u", "v"], [2.0, NAN])
    )
    boxes = [(bar.get_x(), bar.get_height()) for bar in axes.patches]
    assert [height for _, height in boxes[:3]] == [1, -1, 2]
    assert boxes[2][0] >= boxes[0][0] + axes.patches[0].get_width() - 1e-9


def test_heatmaps_have_one_row_per_series_around_zero():
    axes = printed(
        "heatmap", Series("u", ["x", "y"], [1.0, NAN]), Series("v", ["x", "y"], [-3.0, 0])
    )
    (image,) = axes.get_images()
    np.testing.assert_array_equal(np.ma.filled(image.get_array(), NAN), [[1, NAN], [-3, 0]])
    assert image.get_clim() == (-3, 3)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["u", "v"]


def test_a_limit_beside_its_number_and_no_value_at_all_are_drawn_without_error():
    printed("lines", Series("a", [1, 2], [1.0, NAN], [1.5, NAN], [2.0, NAN]))
    printed("heatmap", Series("u", ["x"], [NAN]))
