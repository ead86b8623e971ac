"""Contrasts of groups and the ratio of variances: against SciPy, and against what was planted."""

import math

import numpy as np
import pytest
import scipy.stats

from wsx.analysis import between_over_within, contrast, squared_effects
from wsx.errors import OptionError, ShapeError

N_TRIALS = 400


def bounds(share, n):
    """Limits of a count of n that has this share on average: four standard deviations."""
    half = 4 * math.sqrt(share * (1 - share) * n)
    return share * n - half, share * n + half


@pytest.mark.parametrize("sizes", [(3, 3), (4, 7)])
def test_two_groups_are_students_test(sizes):
    rng = np.random.default_rng(0)
    one, other = (rng.normal(size=n) for n in sizes)
    found = contrast({"one": one, "other": other}, {"one": 1, "other": -1})
    expected = scipy.stats.ttest_ind(one, other).confidence_interval(0.95)
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high], rel=1e-9)
    assert found.value == pytest.approx(one.mean() - other.mean(), rel=1e-12)


def test_other_groups_lend_their_deviation():
    groups = {"a": [0.0, 1.0], "b": [2.0, 3.0], "c": [10.0, 14.0]}
    found = contrast(groups, {"a": -0.5, "b": -0.5, "c": 1}, level=0.9)
    deviation = math.sqrt((0.5 + 0.5 + 8) / 3)
    half = scipy.stats.t.ppf(0.95, 3) * deviation * math.sqrt((0.25 + 0.25 + 1) / 2)
    expected = [10.5, 10.5 - half, 10.5 + half]
    assert [found.value, found.low, found.high] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n_tests", "share"), [(1, 0.95), (5, 0.99)])
def test_limits_hold_what_was_planted_as_often_as_they_say(n_tests, share):
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(N_TRIALS):
        groups = {str(mean): mean + rng.normal(size=3) for mean in range(6)}
        found = contrast(groups, {"5": 1, "0": -1}, n_tests=n_tests)
        hits += found.low < 5 < found.high
    low, high = bounds(share, N_TRIALS)
    assert low < hits < high


def test_groups_without_values():
    groups = {"a": [0.0, 1.0], "b": [2.0, math.nan], "c": [1.0, 5.0]}
    found = contrast(groups, {"a": 1, "c": -1})
    assert found == contrast({"a": groups["a"], "c": groups["c"]}, {"a": 1, "c": -1})
    for weights in ({"b": 1}, {"a": 1, "b": -1}):
        assert math.isnan(contrast(groups, weights).low)
    single = contrast({"a": [1.0], "b": [2.0]}, {"a": 1, "b": -1})
    assert math.isnan(single.value)
    assert math.isnan(single.high)


def test_wrong_contrasts_are_refused():
    with pytest.raises(OptionError, match="weights name x, of which"):
        contrast({"a": [0.0, 1.0]}, {"x": 1})
    with pytest.raises(OptionError, match="n_tests is 0"):
        contrast({"a": [0.0, 1.0]}, {"a": 1}, n_tests=0)
    with pytest.raises(OptionError, match="level"):
        contrast({"a": [0.0, 1.0]}, {"a": 1}, level=1.0)


def test_the_ratio_of_variances_is_that_of_the_f_test():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(5, 3)) + 2 * np.arange(5)[:, None]
    found = between_over_within(values)
    ratio = scipy.stats.f_oneway(*values).statistic
    ends = scipy.stats.f.ppf([0.975, 0.025], 4, 10)
    expected = [(ratio - 1) / 3, *((ratio / end - 1) / 3 for end in ends)]
    assert [found.value, found.low, found.high] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("planted", [0.5, 4.0])
def test_the_ratio_of_variances_is_found(planted):
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(N_TRIALS):
        ways = math.sqrt(planted) * rng.normal(size=(6, 1))
        found = between_over_within(ways + rng.normal(size=(6, 4)))
        hits += found.low < planted < found.high
    low, high = bounds(0.95, N_TRIALS)
    assert low < hits < high


def test_ratios_without_value():
    assert math.isnan(between_over_within([[1.0, 1.0], [2.0, 2.0]]).value)
    assert math.isnan(between_over_within([[1.0, math.nan], [2.0, 3.0]]).high)
    same = between_over_within([[1.0, 2.0], [2.0, 1.0]])
    assert (same.value, same.low) == (0, 0)
    for values in ([[1.0, 2.0]], [[1.0], [2.0]], [1.0, 2.0]):
        with pytest.raises(ShapeError, match="two groups or more"):
            between_over_within(values)


def test_squared_effects_are_free_of_what_chance_adds():
    rng = np.random.default_rng(11)
    effect, noise = np.array([0.0, 0.5, -1.0]), np.array([2.0, 0.1, 1.0])
    found = [
        squared_effects(effect[:, None] + noise[:, None] * rng.normal(size=(3, 4)))
        for _ in range(4000)
    ]
    means = np.mean(found, axis=1)
    assert abs(means.mean() - (effect**2).mean()) < 4 * means.std() / math.sqrt(4000)


def test_squared_effects_are_pseudo_values_of_products():
    changes = np.random.default_rng(12).normal(size=(2, 4))

    def mean_product(rows):
        pairs = [(i, j) for i in rows for j in rows if i != j]
        return sum(one[i] * one[j] for one in changes for i, j in pairs) / (2 * len(pairs))

    everyone = range(4)
    expected = [
        4 * mean_product(everyone) - 3 * mean_product([j for j in everyone if j != i])
        for i in everyone
    ]
    np.testing.assert_allclose(squared_effects(changes), expected, rtol=0, atol=1e-12)
    assert np.isnan(squared_effects(changes[:, :2])).all()
    assert np.isnan(squared_effects(np.zeros((0, 3)))).all()
    with pytest.raises(ShapeError, match="way, repeat"):
        squared_effects([1.0, 2.0])
