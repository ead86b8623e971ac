"""Pages of parts in a real browser: the report of a campaign with truth, and of many campaigns together."""

import browser
import numpy as np
import pytest
from test_studies_analyze import N_ARCHS, write_scores, write_truth_csv
from test_studies_analyze_panel import QUALITY, noisy, planted, write_truth

from wsx.analysis import SummaryOptions
from wsx.studies.analyze import compare, report_comparison
from wsx.studies.analyze_panel import PanelOptions, analyze_panel, report_panel

pytestmark = browser.MARKS_OF_TESTS


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign")
    truth = np.random.default_rng(0).uniform(0.5, 0.9, N_ARCHS)
    comparison = compare(
        write_scores(folder / "scores.h5"),
        truth=write_truth_csv(folder / "t.csv", truth),
        options=SummaryOptions(n_resamples=50),
    )
    return report_comparison(comparison, folder / "r.html", title="a campaign")


@pytest.fixture(scope="module")
def panel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("panel")
    found = analyze_panel(
        planted(folder / "scores.h5", noisy(3, 12)),
        truth=write_truth(folder / "t.csv", QUALITY),
        options=PanelOptions(n_resamples=50),
    )
    return report_panel(found, folder / "r.html", title="campaigns together")


def expect_readable(seen):
    """See that a page has marks in all figures, nothing covered, and fits the window and paper."""
    assert all(sum(marks) > 0 for marks in seen.marks.values())
    assert (seen.problems, seen.requests, seen.overflow) == ([], [], 0)
    assert browser.overlaps(seen.figures) == []
    assert (seen.print_overflow, seen.print_scale) == ([], 1)


@pytest.mark.parametrize("width", [browser.PHONE, browser.DESK])
def test_the_report_of_a_campaign_draws_its_parts(driver, campaign, width):
    seen = browser.visit(driver, campaign.page, width=width)
    assert set(seen.marks) == set(campaign.pictures)
    assert {"pruning-top", "pruning-loss", "picks"} < set(campaign.pictures)
    expect_readable(seen)


@pytest.mark.parametrize("width", [browser.PHONE, browser.DESK])
def test_the_page_of_campaigns_together_draws_everything(driver, panel, width):
    seen = browser.visit(driver, panel.page, width=width)
    expected = {"variance", "s-tau", "scores", "gt-tau", "ranks", "periodicity"}
    assert set(seen.marks) == set(panel.pictures) == expected
    # Three runs of twelve checkpoints.
    assert seen.marks["scores"] == seen.marks["gt-tau"] == [12, 12, 12]
    expect_readable(seen)
