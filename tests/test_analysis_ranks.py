import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from wsx.analysis import (
    average_ranks,
    count_ties,
    kendall_tau,
    pearson,
    rank_table,
    spearman,
    undefined_reason,
)
from wsx.errors import OptionError, ShapeError

CORRELATIONS = [kendall_tau, spearman, pearson]
Correlation = Callable[[list[float], list[float]], float]

# Small whole numbers: ties are frequent, and increasing maps of them lose no digits.
small = st.integers(-20, 20)
pairs = st.lists(st.tuples(small, small), min_size=2, max_size=40)


def tau_by_counting(a: list[float], b: list[float]) -> float:
    concordant = discordant = tied_a = tied_b = 0
    for i, j in combinations(range(len(a)), 2):
        sign = (a[i] - a[j]) * (b[i] - b[j])
        concordant += sign > 0
        discordant += sign < 0
        tied_a += a[i] == a[j]
        tied_b += b[i] == b[j]
    n_pairs = len(a) * (len(a) - 1) // 2
    scale = (n_pairs - tied_a) * (n_pairs - tied_b)
    return (concordant - discordant) / math.sqrt(scale) if scale else math.nan


def ranks_by_hand(values: list[float]) -> list[float]:
    return [sum(w > v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]


def pearson_by_hand(a: list[float], b: list[float]) -> float:
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    cov = math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    var_a = math.fsum((x - mean_a) ** 2 for x in a)
    var_b = math.fsum((y - mean_b) ** 2 for y in b)
    return cov / math.sqrt(var_a * var_b) if var_a and var_b else math.nan


def assert_is_tau(tau: Correlation) -> None:
    rng = np.random.default_rng(3)
    for n_values in (2, 3, 50):
        for n_archs in (2, 3, 17, 60):
            a = rng.integers(n_values, size=n_archs).tolist()
            b = rng.integers(n_values, size=n_archs).tolist()
            np.testing.assert_allclose(tau(a, b), tau_by_counting(a, b), rtol=0, atol=1e-12)


def test_tau_is_what_counting_all_pairs_gives() -> None:
    assert_is_tau(kendall_tau)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda a, b: -kendall_tau(a, b), id="sign"),
        pytest.param(lambda a, b: scipy.stats.kendalltau(a, b, variant="c")[0], id="tau-c"),
        pytest.param(lambda a, b: kendall_tau(np.argsort(np.argsort(a)), b), id="ties broken"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_counting_test_fails_for_other_taus(broken: Correlation) -> None:
    with pytest.raises(AssertionError):
        assert_is_tau(broken)


@pytest.mark.parametrize("n_archs", [511, 512, 513, 700])
def test_both_ways_to_count_pairs_agree(n_archs: int) -> None:
    rng = np.random.default_rng(n_archs)
    a = rng.integers(40, size=n_archs)
    b = a + rng.integers(40, size=n_archs)
    expected = scipy.stats.kendalltau(a, b).statistic
    assert kendall_tau(a, b) == pytest.approx(expected, rel=0, abs=1e-12)


@settings(max_examples=40)
@given(pairs)
def test_spearman_is_pearson_of_hand_made_ranks(points: list[tuple[float, float]]) -> None:
    a, b = [x for x, _ in points], [y for _, y in points]
    expected = pearson_by_hand(ranks_by_hand(a), ranks_by_hand(b))
    np.testing.assert_allclose(spearman(a, b), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(pearson(a, b), pearson_by_hand(a, b), rtol=0, atol=1e-12)


@settings(max_examples=40)
@given(pairs, st.randoms(use_true_random=False))
@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_correlations_are_symmetric_and_ignore_the_order_of_archs(
    correlation: Correlation, points: list[tuple[float, float]], random: object
) -> None:
    a, b = [x for x, _ in points], [y for _, y in points]
    value = correlation(a, b)
    np.testing.assert_allclose(correlation(b, a), value, rtol=0, atol=1e-12)
    random.shuffle(points)  # type: ignore[attr-defined]
    shuffled = correlation([x for x, _ in points], [y for _, y in points])
    np.testing.assert_allclose(shuffled, value, rtol=0, atol=1e-12)
    np.testing.assert_allclose(correlation([-x for x in a], b), -value, rtol=0, atol=1e-12)
    assert math.isnan(value) or -1 <= value <= 1


@settings(max_examples=40)
@given(pairs)
@pytest.mark.parametrize("correlation", [kendall_tau, spearman])
def test_rank_correlations_ignore_increasing_maps(
    correlation: Correlation, points: list[tuple[float, float]]
) -> None:
    a, b = [x for x, _ in points], [y for _, y in points]
    mapped = [math.exp(x / 4) for x in a]
    np.testing.assert_array_equal(correlation(mapped, b), correlation(a, b))


@settings(max_examples=40)
@given(st.lists(small, max_size=40))
def test_ranks_start_at_the_best_and_share_ties(values: list[float]) -> None:
    ranks = average_ranks(values)
    np.testing.assert_array_equal(ranks, ranks_by_hand(values))
    assert ranks.sum() == len(values) * (len(values) + 1) / 2


def test_rank_table_and_ties_of_a_small_case() -> None:
    table = rank_table([0.9, 0.5, 0.9, 0.1], [0.8, 0.7, 0.6, 0.5])
    assert table.predicted.tolist() == [1.5, 3, 1.5, 4]
    assert table.truth.tolist() == [1, 2, 3, 4]
    ties = count_ties([3, 3, 3, 1, 1, 0])
    assert (ties.n_distinct, ties.n_tied_pairs) == (3, 4)


@pytest.mark.parametrize("rho", [-0.6, 0.0, 0.3, 0.9])
def test_planted_correlations_are_recovered(rho: float) -> None:
    n_archs = 4000
    rng = np.random.default_rng(8)
    a = rng.normal(size=n_archs)
    b = rho * a + math.sqrt(1 - rho**2) * rng.normal(size=n_archs)
    # Normal vectors have tau = 2/pi asin(rho) and rho_s = 6/pi asin(rho/2); errors as at rho = 0.
    n_errors = 4
    assert abs(pearson(a, b) - rho) < n_errors / math.sqrt(n_archs)
    assert abs(spearman(a, b) - 6 / math.pi * math.asin(rho / 2)) < n_errors / math.sqrt(n_archs)
    se_tau = math.sqrt(2 * (2 * n_archs + 5) / (9 * n_archs * (n_archs - 1)))
    assert abs(kendall_tau(a, b) - 2 / math.pi * math.asin(rho)) < n_errors * se_tau


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ([], [], "at least 2 archs, got 0"),
        ([0.5], [0.5], "at least 2 archs, got 1"),
        ([0.1, 0.1, 0.1], [1, 2, 3], "predicted is constant: all 3 archs have 0.1"),
        ([1, 2], [7, 7], "truth is constant: all 2 archs have 7"),
    ],
)
def test_what_has_no_value_is_nan_with_a_reason(
    correlation: Correlation, a: list[float], b: list[float], reason: str
) -> None:
    assert math.isnan(correlation(a, b))
    assert reason in str(undefined_reason(a, b))


def test_a_defined_correlation_has_no_reason_against_it() -> None:
    assert undefined_reason([1, 2], [2, 1]) is None


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1.0, 1.7e308])
def test_extreme_values_keep_their_correlation(correlation: Correlation, scale: float) -> None:
    assert correlation([scale, 0, -scale], [3, 2, 1]) == pytest.approx(1, rel=0, abs=1e-12)


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_small_variation_around_a_large_value_is_seen(correlation: Correlation) -> None:
    a = [1e9, 1e9 + 1, 1e9 + 2, 1e9 + 3]
    assert correlation(a, [1, 2, 3, 4]) == pytest.approx(1, rel=0, abs=1e-12)


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        ([1, 2], [1, 2, 3], ShapeError, "predicted has 2 archs and truth has 3"),
        ([[1, 2]], [1, 2], ShapeError, r"got \(1, 2\)"),
        (1.0, 2.0, ShapeError, r"got \(\)"),
        ([1, math.nan, math.inf], [1, 2, 3], OptionError, "2 of 3 values of predicted"),
        ([1, 2], [1, math.nan], OptionError, "1 of 2 values of truth"),
        (["0.1", "0.2"], [1, 2], OptionError, "real numbers"),
        ([1j, 2j], [1, 2], OptionError, "complex"),
    ],
)
def test_wrong_input_is_refused(
    correlation: Correlation, a: object, b: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        correlation(a, b)  # type: ignore[arg-type]
