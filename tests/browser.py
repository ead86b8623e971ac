"""A headless Chromium that says what a page did: what it drew, logged and asked for."""

import json
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.print_page_options import PrintOptions

PROGRAMS = ("chromium", "chromedriver")
DRAWN = """
return Array.from(document.querySelectorAll(".figure")).map(
  (figure) => figure.querySelectorAll("svg.main-svg").length > 0 && figure.clientHeight > 100);
"""


def is_installed():
    """Return whether the browser and its driver are there."""
    return all(shutil.which(program) for program in PROGRAMS)


@dataclass(frozen=True)
class Visit:
    """What opening a page showed.

    Attributes:
        drawn: Of each place of a figure, whether a figure is in it.
        problems: What the console holds of warnings and errors.
        requests: Addresses that were asked for beyond the page itself.
        overflow: Pixels by which the page is wider than the window.
        n_printed_bytes: Size of the page printed as PDF.
    """

    drawn: list[bool]
    problems: list[str]
    requests: list[str]
    overflow: int
    n_printed_bytes: int


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
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    driver.get(path.as_uri())
    end_s = time.monotonic() + 20
    while not all(drawn := driver.execute_script(DRAWN)) and time.monotonic() < end_s:
        time.sleep(0.1)
    overflow = driver.execute_script(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    printed = driver.print_page(PrintOptions())
    return Visit(
        drawn,
        list(_problems(driver)),
        [url for url in _requests(driver) if url != path.as_uri()],
        overflow,
        len(printed) * 3 // 4,
    )


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
