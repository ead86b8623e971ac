"""Reports in a real browser: every mark drawn, nothing covered, nothing asked for, at any width and on paper."""

import math
from dataclasses import replace

import browser
import numpy as np
import pytest
from study_runs import noisy, plant_truth

from wsx.report import write_report
from wsx.report.findings import Claim, Findings, Plot, ResultTable, Series
from wsx.report.study import write_study
from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p2 import heuristics

pytestmark = browser.MARKS_OF_TESTS


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 0.9, 5000)
    files = write_report(
        tmp_path_factory.mktemp("report") / "report.html",
        title="five thousand archs",
        texts=[f"|nor_conv_3x3~0|+|arch {i}|</script><b>" for i in range(5000)],
        predicted=np.clip(truth + rng.normal(0, 0.05, 5000), 0, 1),
        truth=truth,
        provenance={"seed": 0},
    )
    return files.page


LONG = [
    f"a series with a name that is far too long for a line of a phone, number {i}" for i in range(5)
]
ARCH = "|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|none~0|nor_conv_1x1~1|avg_pool_3x3~2|"
NAN = float("nan")


def findings():
    x = [1.0, 2.0, 3.0]
    lines = [
        Series(name, x, [0.1 + i, 0.2, NAN], [0.0, 0.1, 0.1], [1.2 + i, 0.3, 0.4])
        for i, name in enumerate(LONG)
    ]
    archs = [f"{i}{ARCH}{i}" for i in range(64)]
    heat = [[NAN if i == j else math.sin(i * j) for j in range(64)] for i in range(64)]
    wide = [f"95 % limits of column {i}" for i in range(14)]
    return Findings(
        "a study",
        "what was asked",
        [Claim("weights are shared", "a paper", "open", "tau .1 [-.1, .3]")],
        [
            ResultTable("numbers", ["of", "value"], [["a", 0.25], ["b", None], ["c" * 200, 3]]),
            ResultTable("wide", wide, [["heuristics", *(["[-0.137, 0.035]"] * 13)]] * 3),
        ],
        [
            Plot("lines", "lines", "step", "tau", "lines", lines),
            Plot("marks", "marks", "step", "tau", "marks", lines),
            Plot(
                "bars",
                "bars",
                "op",
                "tau",
                "bars",
                [Series(n, archs[:5], [1.0, -1, 2, 3, NAN]) for n in LONG],
            ),
            Plot(
                "heat",
                "heat",
                "evaluated",
                "trained",
                "heatmap",
                [Series(name, archs, row) for name, row in zip(archs, heat, strict=True)],
            ),
        ],
        {"seeds": [0, 1]},
    )


def expected_marks(found):
    """How many marks, bars or cells there are to draw, by figure and series."""
    counts = {p.key: [sum(map(math.isfinite, one.y)) for one in p.series] for p in found.plots}
    heats = [plot.key for plot in found.plots if plot.kind == "heatmap"]
    return counts | {key: [sum(counts[key])] for key in heats}


def expect_readable(seen, found):
    """See that a page shows all of a study, at the window's width and on paper."""
    assert seen.marks == expected_marks(found)
    assert (seen.problems, seen.requests, seen.overflow) == ([], [], 0)
    assert browser.overlaps(seen.figures) == []
    assert all(
        right - left > 100 and bottom - top > 100 for left, top, right, bottom in plots(seen)
    )
    for plot, figure in zip(found.plots, seen.figures, strict=True):
        names = [one.name for one in plot.series]
        assert figure["named"] == (names if plot.kind != "heatmap" and len(names) > 1 else [])
    assert (seen.print_overflow, seen.print_scale) == ([], 1)
    before, printing, after = seen.print_widths
    assert max(printing) < browser.PAPER_WIDTH_PX
    assert after == before != printing
    has_broad = any(len(table.columns) > 7 for table in found.tables)
    assert any(wide > high for wide, high in seen.sheets) == has_broad


def plots(seen):
    return [box for figure in seen.figures for box in figure["plot"]]


@pytest.mark.parametrize("width", [browser.PHONE, browser.DESK])
def test_reports_draw_everything_and_ask_for_nothing(driver, report, width):
    seen = browser.visit(driver, report, width=width)
    # Five thousand marks are drawn by the graphics card, the line and the bars are not.
    assert all(browser.coloured_pixels(driver, key) > 5000 for key in ("scatter", "ranks"))
    supernet, truth = seen.marks["histogram"]
    assert supernet > 20
    assert truth > 20
    assert len(plots(seen)) == 3
    assert (seen.problems, seen.requests, seen.overflow) == ([], [], 0)
    assert browser.overlaps(seen.figures) == []
    assert (seen.print_overflow, seen.print_scale) == ([], 1)


@pytest.mark.parametrize("width", [browser.PHONE, browser.DESK])
def test_pages_of_studies_are_readable(driver, tmp_path, width):
    found = findings()
    seen = browser.visit(driver, write_study(tmp_path / "study.html", found), width=width)
    expect_readable(seen, found)


@pytest.mark.parametrize("width", [browser.PHONE, browser.DESK])
def test_the_page_of_a_real_study_is_readable(driver, tmp_path, monkeypatch, width):
    plant_truth(monkeypatch)
    rng = np.random.default_rng(0)
    monkeypatch.setattr(heuristics, "accuracy_of", lambda *_: noisy(3, 0.3, rng))
    study = STUDIES["heuristics"]
    found = study.findings(settings_of(study, "tiny", {"seeds": "0,1,2"}), None)
    seen = browser.visit(driver, write_study(tmp_path / "study.html", found), width=width)
    expect_readable(seen, found)


def test_a_name_in_the_legend_hides_its_series_and_shows_it_again(driver, tmp_path):
    browser.visit(driver, write_study(tmp_path / "study.html", findings()))
    press = "document.querySelectorAll('[data-of=figure-lines]')[1].click();"
    count = "return document.querySelectorAll('#figure-lines .scatterlayer .trace').length"
    assert [driver.execute_script(script) for script in (count, press + count, press + count)] == [
        5,
        4,
        5,
    ]


def test_no_button_sends_data_anywhere(driver, tmp_path):
    browser.visit(driver, write_study(tmp_path / "study.html", findings()))
    titles = driver.execute_script(
        "return Array.from(document.querySelectorAll('.modebar-btn'), (one) => one.dataset.title)"
    )
    assert "Download as a PNG" in titles
    assert not [title for title in titles if "hare" in title or "loud" in title]


def test_names_that_are_digits_stay_names(driver, tmp_path):
    named = Plot("named", "t", "arch", "rank", "marks", [Series("r", ["434", "111"], [1.0, 2.0])])
    found = replace(findings(), plots=[named])
    browser.visit(driver, write_study(tmp_path / "study.html", found))
    ticks = driver.execute_script(
        "return Array.from(document.querySelectorAll('.xtick text')).map((tick) => tick.textContent)"
    )
    assert ticks == ["434", "111"]
    rows = [Series("434", ["111", "434"], [1.0, 2.0]), Series("111", ["111", "434"], [2.0, 1.0])]
    found = replace(findings(), plots=[Plot("named", "t", "arch", "arch", "heatmap", rows)])
    browser.visit(driver, write_study(tmp_path / "heat.html", found))
    ticks = driver.execute_script(
        "return Array.from(document.querySelectorAll('.ytick text')).map((tick) => tick.textContent)"
    )
    assert ticks == ["434", "111"]


def broken(page, old, new):
    content = page.read_text()
    assert old in content
    path = page.with_name("broken.html")
    path.write_text(content.replace(old, new, 1))
    return path


def test_what_is_wrong_is_seen(driver, tmp_path):
    page = write_study(tmp_path / "study.html", findings())
    asks = '<img src="https://example.com/x.png">'
    assert browser.visit(driver, broken(page, "<h1>", f"{asks}<h1>")).problems
    policy = "default-src 'none'"
    free = broken(page, policy, "default-src *; img-src *")
    free.write_text(
        free.read_text().replace("<h1>", f"{asks}<h1>").replace("img-src data:", "img-src-x data:")
    )
    assert browser.visit(driver, free).requests == ["https://example.com/x.png"]
    wide = broken(page, "<h1>", '<div style="width:3000px">x</div><h1>')
    assert browser.visit(driver, wide).overflow > 1000
    silent = broken(page, 'data-figure="figure-bars"', 'data-figure="figure-none"')
    seen = browser.visit(driver, silent)
    assert seen.marks["bars"] == []
    assert seen.problems


def test_marks_that_are_not_drawn_are_seen(driver, tmp_path, report):
    page = write_study(tmp_path / "study.html", findings())
    empty = broken(
        page, "const plot = JSON.parse(block.textContent);", "const plot = { data: [] };"
    )
    assert browser.visit(driver, empty).marks == {key: [] for key in expected_marks(findings())}
    hidden = broken(
        page, "const place = ", "for (const t of plot.data) t.visible = !t.z; const place = "
    )
    assert browser.visit(driver, hidden).marks["heat"] == []
    fewer = broken(page, "const place = ", "for (const t of plot.data) t.y?.pop(); const place = ")
    assert browser.visit(driver, fewer).marks != expected_marks(findings())
    bare = broken(
        report, "const place = ", "for (const t of plot.data) t.visible = false; const place = "
    )
    browser.visit(driver, bare)
    assert browser.coloured_pixels(driver, "scatter") < 100


@pytest.mark.parametrize("width", [browser.PHONE, browser.DESK])
def test_what_covers_the_data_is_seen(driver, tmp_path, width):
    page = write_study(tmp_path / "study.html", findings())
    inside = '"showlegend":true,"legend":{"orientation":"h","y":1.08,"x":0}'
    legend = broken(page, '"showlegend":false', inside)
    found = browser.overlaps(browser.visit(driver, legend, width=width).figures)
    assert any(words.startswith("figure 0: legend on ") for words in found)
    assert all(words.startswith("figure 0") for words in found)
    # Without a margin above, the buttons stand on the data.
    low = broken(page, '"t":44', '"t":4')
    found = browser.overlaps(browser.visit(driver, low, width=width).figures)
    assert "figure 0: buttons on plot" in found


def test_labels_that_are_cut_off_are_seen(driver, tmp_path):
    page = write_study(tmp_path / "study.html", findings())
    # In a wide window these labels lie flat, and have room without a margin of their own.
    cut = broken(page, '"automargin":true', '"automargin":false')
    found = browser.overlaps(browser.visit(driver, cut, width=browser.PHONE).figures)
    assert any("leaves the figure" in words for words in found)


def test_what_falls_off_the_paper_is_seen(driver, tmp_path):
    page = write_study(tmp_path / "study.html", findings())
    stiff = broken(
        page, "white-space: normal; overflow-wrap: anywhere; }", "white-space: nowrap; }"
    )
    seen = browser.visit(driver, stiff)
    assert "[-0.137, 0.035]" in seen.print_overflow
    assert seen.print_scale < 1
    rigid = broken(page, 'addEventListener("beforeprint"', 'addEventListener("never"')
    seen = browser.visit(driver, rigid)
    assert "svg" in seen.print_overflow
    assert seen.print_scale < 1
    assert max(seen.print_widths[1]) > browser.PAPER_WIDTH_PX
    upright = broken(page, "{ size: landscape; }", "{ }")
    assert all(wide < high for wide, high in browser.visit(driver, upright).sheets)
