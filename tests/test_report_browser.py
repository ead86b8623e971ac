"""Reports in a real browser: every figure drawn, nothing in the console, nothing asked for, at any width."""

import os
from dataclasses import replace

import browser
import numpy as np
import pytest

from wsx.report import write_report
from wsx.report.findings import Claim, Findings, Plot, ResultTable, Series
from wsx.report.study import write_study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.is_installed() and os.environ.get("WSX_TEST_BROWSER") != "required",
        reason="chromium and chromium-driver are not installed",
    ),
]
PHONE, DESK = 390, 1200


@pytest.fixture(scope="module")
def driver():
    with browser.chromium() as started:
        yield started


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


def findings():
    x = [1.0, 2.0, 3.0]
    lines = [Series("a", x, [0.1, 0.2, float("nan")], [0.0, 0.1, 0.1], [0.2, 0.3, 0.4])]
    return Findings(
        "a study",
        "what was asked",
        [Claim("weights are shared", "a paper", "open", "tau .1 [-.1, .3]")],
        [ResultTable("numbers", ["of", "value"], [["a", 0.25], ["b", None], ["c" * 200, 3]])],
        [
            Plot("lines", "lines", "step", "tau", "lines", lines),
            Plot("marks", "marks", "step", "tau", "marks", lines),
            Plot("bars", "bars", "op", "tau", "bars", [Series("b", ["u", "v"], [1.0, -1.0])]),
            Plot(
                "heat",
                "heat",
                "evaluated",
                "trained",
                "heatmap",
                [Series("u", ["u", "v"], [1.0, float("nan")]), Series("v", ["u", "v"], [0.0, 1.0])],
            ),
        ],
        {"seeds": [0, 1]},
    )


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_reports_draw_everything_and_ask_for_nothing(driver, report, width):
    seen = browser.visit(driver, report, width=width)
    assert len(seen.drawn) == 3
    assert all(seen.drawn)
    assert (seen.problems, seen.requests, seen.overflow) == ([], [], 0)
    assert seen.n_printed_bytes > 50_000


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_pages_of_studies_draw_everything_and_ask_for_nothing(driver, tmp_path, width):
    seen = browser.visit(driver, write_study(tmp_path / "study.html", findings()), width=width)
    assert seen.drawn == [True] * 4
    assert (seen.problems, seen.requests, seen.overflow) == ([], [], 0)
    assert seen.n_printed_bytes > 20_000


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
    assert seen.drawn[2] is False
    assert seen.problems
