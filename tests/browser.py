"""A headless Chromium that says what a page did: what it drew, logged and asked for."""

import base64
import io
import json
import os
import re
import shutil
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

PROGRAMS = ("chromium", "chromedriver")
PHONE, DESK = 390, 1200
# Sheets of paper without their margins, in CSS pixels: the narrowest that is common, A4 upright.
PAPER_WIDTH_PX = 703
DRAWN = """
return Array.from(document.querySelectorAll(".figure")).every(
  (figure) => figure.querySelectorAll("svg.main-svg").length > 0 && figure.clientHeight > 100);
"""
# Of each figure, what each of its traces shows; a heatmap gives its picture, which has a pixel or more per cell.
MARKS = """
const seen = (marks) => Array.from(marks).filter((mark) => {
  const box = mark.getBoundingClientRect();
  return Math.min(box.width, box.height) > 0.5 && getComputedStyle(mark).opacity > 0;
}).length;
return Object.fromEntries(Array.from(document.querySelectorAll(".figure"), (figure) => [figure.id,
  Array.from(figure.querySelectorAll(
    ".scatterlayer .trace, .barlayer .trace, .heatmaplayer image"), (trace) =>
      trace.tagName === "image" ? (trace.getAttribute("href") ?? trace.href.baseVal)
        : seen(trace.querySelectorAll(".points path")))]));
"""
# Boxes of what must keep clear of each other, in the coordinates of the window.
BOXES = """
const boxes = (nodes) => Array.from(nodes, (node) => node.getBoundingClientRect())
  .filter((box) => box.width > 0 && box.height > 0)
  .map((box) => [box.left, box.top, box.right, box.bottom]);
return Array.from(document.querySelectorAll(".figure"), (figure) => {
  const own = document.querySelectorAll(`[data-of="${figure.id}"]`);
  return { figure: boxes([figure])[0], legend: boxes([...figure.querySelectorAll(".legend"), ...own]),
    plot: boxes(figure.querySelectorAll(".nsewdrag")),
    buttons: boxes(figure.querySelectorAll(".modebar-group")),
    labels: boxes(figure.querySelectorAll(".xtick text, .ytick text, .xtitle, .ytitle")),
    named: Array.from(own, (one) => one.textContent) };
});
"""
# What sticks out of a width: cells, heads, figures.
STICKING_OUT = """
const outside = Array.from(document.querySelectorAll("th, td, .figure .main-svg, .legend button"))
  .filter((node) => node.getBoundingClientRect().right > arguments[0] + 1
    || node.scrollWidth > node.clientWidth + 1 && node.matches("th, td"));
return outside.map((node) => node.textContent.slice(0, 40) || node.tagName);
"""


def is_installed():
    """Return whether the browser and its driver are there."""
    return all(shutil.which(program) for program in PROGRAMS)


MARKS_OF_TESTS = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not is_installed() and os.environ.get("WSX_TEST_BROWSER") != "required",
        reason="chromium and chromium-driver are not installed",
    ),
]


@dataclass(frozen=True)
class Visit:
    """What opening a page showed.

    Attributes:
        marks: Of each figure, how many marks, bars or cells each of its traces shows.
        figures: Of each figure, the boxes of its parts (left, top, right, bottom), and the names in its legend.
        problems: What the console holds of warnings and errors.
        requests: Addresses that were asked for beyond the page itself.
        overflow: Pixels by which the page is wider than the window.
        print_overflow: What sticks out of an upright sheet of paper.
        print_scale: By how much the page is shrunk to fit on paper; 1 where it is not.
        sheets: Width and height in points of the sheets that the page is printed on.
        print_widths: Widths of the figures in pixels, before printing, while it prints, and after.
    """

    marks: dict[str, list[int]]
    figures: list[dict]
    problems: list[str]
    requests: list[str]
    overflow: int
    print_overflow: list[str]
    print_scale: float
    sheets: list[tuple[float, float]]
    print_widths: list[list[int]]


@contextmanager
def chromium():
    """Start a browser, and end it."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    # Figures of many points need WebGL, which has to be drawn by software where there is no screen.
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--enable-unsafe-swiftshader",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(60)
        yield driver
    finally:
        driver.quit()


def visit(driver, path, *, width=1200):
    """Open a page in a window of some width, and return what happened."""
    driver.get_log("browser")
    driver.get_log("performance")
    _resize(driver, width)
    driver.get(path.as_uri())
    end_s = time.monotonic() + 20
    while not driver.execute_script(DRAWN) and time.monotonic() < end_s:
        time.sleep(0.1)
    overflow = driver.execute_script(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    marks = {key.removeprefix("figure-"): one for key, one in driver.execute_script(MARKS).items()}
    figures = driver.execute_script(BOXES)
    printed, widths = _print(driver)
    return Visit(
        {key: [_count(one) for one in traces] for key, traces in marks.items()},
        figures,
        list(_problems(driver)),
        [url for url in _requests(driver) if url != path.as_uri()],
        overflow,
        _print_overflow(driver, width),
        *_sheets(printed),
        widths,
    )


def _resize(driver, width):
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )


def _count(trace):
    """Return how many marks, or cells of a picture, a trace shows."""
    if isinstance(trace, int):
        return trace
    picture = Image.open(io.BytesIO(base64.b64decode(trace.partition(",")[2]))).convert("RGBA")
    return int(np.count_nonzero(np.asarray(picture)[..., 3]))


def coloured_pixels(driver, key):
    """Return how many pixels of a figure are neither white, grey nor ink, as of marks drawn by a graphics card."""
    box = driver.execute_script(
        "const box = document.getElementById(arguments[0]).getBoundingClientRect();"
        "return { x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height, scale: 1 }",
        f"figure-{key}",
    )
    shot = {"clip": box, "captureBeyondViewport": True, "format": "png"}
    data = driver.execute_cdp_cmd("Page.captureScreenshot", shot)["data"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
    return int(np.count_nonzero(np.ptp(pixels, axis=2) > 40))


def overlaps(figures):
    """Return which parts of figures cover each other or leave their figure, in words."""
    found = []
    for number, figure in enumerate(figures):
        pairs = [("legend", name) for name in ("plot", "buttons", "labels")]
        for one, other in [*pairs, ("buttons", "plot"), ("buttons", "labels")]:
            if any(_meet(a, b) for a in figure[one] for b in figure[other]):
                found.append(f"figure {number}: {one} on {other}")
        left, top, right, bottom = figure["figure"]
        found += [
            f"figure {number}: {box} leaves the figure"
            for box in figure["labels"] + figure["plot"]
            if min(box[0] - left, box[1] - top, right - box[2], bottom - box[3]) < -1
        ]
    return found


def _meet(one, other):
    """Return whether two boxes share more than a pixel either way."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide > 1 and high > 1


def _print(driver):
    """Return the page as PDF, and the widths of figures before, while and after printing."""
    driver.execute_script("""
window.widths = [];
const note = () => widths.push(Array.from(document.querySelectorAll(".figure"),
  (figure) => Number(figure.querySelector(".main-svg")?.getAttribute("width"))));
note();
addEventListener("beforeprint", note);
addEventListener("afterprint", note);
""")
    printed = driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"]
    return base64.b64decode(printed), driver.execute_script("return widths")


def _print_overflow(driver, width):
    """Return what sticks out of an upright sheet, laid out as on paper."""
    _resize(driver, PAPER_WIDTH_PX)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    found = driver.execute_script(STICKING_OUT, PAPER_WIDTH_PX)
    driver.execute_script("dispatchEvent(new Event('afterprint'))")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    _resize(driver, width)
    return found


def _sheets(printed):
    """Return by how much a PDF's pages are shrunk, and their sizes in points.

    Each page begins with the matrix from device units to points, then clips, then that from CSS pixels to
    device units; a CSS pixel is 0.75 points.
    """
    sizes = re.findall(rb"/MediaBox \[0 0 (\S+) (\S+)\]", printed)
    scales = []
    for start in re.finditer(rb"stream\r?\n", printed):
        try:
            content = zlib.decompressobj().decompress(printed[start.end() :])
        except zlib.error:
            continue
        matrices = re.match(
            rb"(\S+) 0 0 \S+ \S+ \S+ cm\s.{,80}?\bq\s(\S+) 0 0 ", content, re.DOTALL
        )
        if matrices:
            scales.append(float(matrices[1]) * float(matrices[2]) / 0.75)
    assert len(scales) >= len(sizes) > 0
    return round(min(scales), 3), [(float(w), float(h)) for w, h in sizes]


def _problems(driver):
    for entry in driver.get_log("browser"):
        # Drawing by software is slow, and the driver says so.
        if "GL Driver Message (OpenGL, Performance" not in entry["message"]:
            yield f"{entry['level']}: {entry['message']}"


def _requests(driver):
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            if urlsplit(url).scheme not in ("data", "blob"):
                yield url
