"""Verdicts from intervals: what decides, and what only seems to."""

import math

import pytest

from wsx.analysis.uncertainty import spread
from wsx.report.findings import NO_WIDTH, judged, verdict
from wsx.studies.papers.seeds import claim_over_seeds


@pytest.mark.parametrize(
    ("values", "right"),
    [
        ([0.5, 0.5, 0.5], "open"),
        # Equal but for rounding.
        ([0.3 - 0.2, 0.4 - 0.3, 0.1], "open"),
        ([-0.1, -0.1, -0.1], "open"),
        ([0.5, 0.501, 0.499], "holds"),
        ([-0.5, -0.501, -0.499], "does not hold"),
    ],
)
def test_seeds_that_agree_to_the_last_digit_decide_nothing(values, right):
    claim = claim_over_seeds("text", "source", spread(values, "gain"), "gain")
    assert claim.verdict == right
    assert (NO_WIDTH in claim.evidence) == (right == "open")


@pytest.mark.parametrize(
    ("low", "high", "right"),
    [
        (2.0, math.inf, "holds"),
        (0.5, 2.0, "open"),
        (0.1, 0.2, "does not hold"),
        (math.nan, math.nan, "open"),
        (3.0, 3.0, "open"),
    ],
)
def test_an_interval_beside_a_value(low, high, right):
    assert verdict(low, high, above=1.0) == right
    claim = judged("text", "source", low, high, "numbers", above=1.0)
    assert claim.verdict == right
    assert (claim.evidence == "numbers") == (low != high or math.isnan(low))
