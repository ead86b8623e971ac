import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsx.analysis import (
    average_ranks,
    best_rank_at,
    bottom_overlap,
    kendall_tau,
    mean_truth_at,
    precision_at,
    regret_at,
    surpass_random,
    tau_in_top,
    top_overlap,
)
from wsx.errors import OptionError, ShapeError

few = st.integers(0, 3)
points = st.lists(st.tuples(few, few), min_size=1, max_size=5)


def all_orders(values: list[float]) -> list[tuple[int, ...]]:
    """Every order from best to worst that the values allow."""
    n = range(len(values))
    return [
        order
        for order in permutations(n)
        if all(values[order[i]] >= values[order[i + 1]] for i in n[:-1])
    ]


@settings(max_examples=40)
@given(points, st.data())
def test_ties_are_the_mean_over_all_ways_to_break_them(
    archs: list[tuple[int, int]], data: st.DataObject
) -> None:
    predicted, truth = [float(p) for p, _ in archs], [float(t) for _, t in archs]
    k, n_good = (data.draw(st.integers(1, len(archs))) for _ in range(2))
    ranks = average_ranks(truth)
    picks = [order[:k] for order in all_orders(predicted)]
    goods = [set(order[:n_good]) for order in all_orders(truth)]
    shares = [len(good & set(pick)) / k for pick in picks for good in goods]
    bests = [max(truth[arch] for arch in pick) for pick in picks]
    close = {"rel": 0, "abs": 1e-12}
    assert precision_at(predicted, truth, k, n_good=n_good) == pytest.approx(
        np.mean(shares), **close
    )
    assert regret_at(predicted, truth, k) == pytest.approx(max(truth) - np.mean(bests), **close)
    assert best_rank_at(predicted, truth, k) == pytest.approx(
        np.mean([min(ranks[arch] for arch in pick) for pick in picks]), **close
    )
    assert mean_truth_at(predicted, truth, k) == pytest.approx(
        np.mean([[truth[arch] for arch in pick] for pick in picks]), **close
    )


PREDICTED = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
TRUTH = [0.60, 0.95, 0.90, 0.50, 0.70, 0.40]


def test_a_case_done_by_hand() -> None:
    close = {"rel": 0, "abs": 1e-12}
    assert top_overlap(PREDICTED, TRUTH, 2) == 0.5
    assert bottom_overlap(PREDICTED, TRUTH, 2) == 0.5
    assert precision_at(PREDICTED, TRUTH, 1, n_good=3) == 0
    assert precision_at(PREDICTED, TRUTH, 3, n_good=2) == pytest.approx(2 / 3, **close)
    assert [best_rank_at(PREDICTED, TRUTH, k) for k in (1, 2, 6)] == [4, 1, 1]
    assert regret_at(PREDICTED, TRUTH, 1) == pytest.approx(0.35, **close)
    assert regret_at(PREDICTED, TRUTH, 2) == 0
    assert mean_truth_at(PREDICTED, TRUTH, 2) == pytest.approx(0.775, **close)
    assert tau_in_top(PREDICTED, TRUTH, 0.5) == 1
    assert tau_in_top(PREDICTED, TRUTH, 0.7) == 0
    assert tau_in_top(PREDICTED, TRUTH, 1) == kendall_tau(PREDICTED, TRUTH)


def test_perfect_and_reversed_rankings() -> None:
    truth = np.arange(100) / 100
    for k in (1, 10, 50):
        assert top_overlap(truth, truth, k) == bottom_overlap(truth, truth, k) == 1
        assert regret_at(truth, truth, k) == 0
        assert top_overlap(-truth, truth, k) == 0
        assert best_rank_at(-truth, truth, k) == 101 - k


def test_constant_predictions_do_as_well_as_chance() -> None:
    truth = np.arange(40.0)
    constant = np.zeros(40)
    assert top_overlap(constant, truth, 10) == pytest.approx(0.25, rel=0, abs=1e-12)
    # The best rank of 4 archs drawn from 40 is (40 + 1) / (4 + 1) on average.
    assert best_rank_at(constant, truth, 4) == pytest.approx(8.2, rel=0, abs=1e-12)


def test_large_populations_with_many_ties_stay_exact() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(15_625)
    constant = np.ones(15_625)
    expected = (truth.size + 1) / (50 + 1)
    assert best_rank_at(constant, truth, 50) == pytest.approx(expected, rel=1e-9, abs=0)
    assert best_rank_at(constant, truth, truth.size) == 1


@settings(max_examples=40)
@given(points, st.randoms(use_true_random=False))
def test_the_order_of_archs_does_not_matter(archs: list[tuple[int, int]], random: object) -> None:
    shuffled = list(archs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for measure in (top_overlap, bottom_overlap, regret_at, best_rank_at, mean_truth_at):
        first, second = (
            measure([p for p, _ in order], [t for _, t in order], 1) for order in (archs, shuffled)
        )
        assert first == pytest.approx(second, rel=0, abs=1e-12)


def test_ties_at_the_edge_of_the_true_top_are_all_inside() -> None:
    truth = [0.9, 0.8, 0.8, 0.8, 0.1]
    predicted = [0.4, 0.3, 0.2, 0.1, 0.5]
    inside = kendall_tau(predicted[:4], truth[:4])
    assert tau_in_top(predicted, truth, 0.4) == inside
    assert math.isnan(tau_in_top(predicted, truth, 0.2))
    assert math.isnan(tau_in_top([], [], 0.5))


def test_surpassing_random_search_is_the_chance_that_all_draws_rank_below() -> None:
    rng = np.random.default_rng(5)
    n_draws, n_archs, rank, n_trials = 10, 1000, 100, 20_000
    ranks = rng.integers(1, n_archs + 1, size=(n_trials, n_draws))
    share = (ranks.min(axis=1) > rank).mean()
    value = surpass_random(rank, n_archs, n_draws)
    n_errors = 4
    assert abs(value - share) < n_errors * math.sqrt(value * (1 - value) / n_trials)
    assert surpass_random(n_archs, n_archs, 1) == 0


@pytest.mark.parametrize("measure", [top_overlap, bottom_overlap, regret_at, best_rank_at])
def test_counts_out_of_range_are_refused(measure: object) -> None:
    for k in (0, -1, 7):
        with pytest.raises(OptionError, match=rf"1\.\.6, got {k}"):
            measure(PREDICTED, TRUTH, k)  # type: ignore[operator]
    with pytest.raises(OptionError, match=r"1\.\.0, got 1"):
        measure([], [], 1)  # type: ignore[operator]
    with pytest.raises(ShapeError):
        measure([1, 2], [1], 1)  # type: ignore[operator]
    with pytest.raises(OptionError, match="not finite"):
        measure([1, math.nan], [1, 2], 1)  # type: ignore[operator]


def test_other_options_out_of_range_are_refused() -> None:
    with pytest.raises(OptionError, match="n_good"):
        precision_at(PREDICTED, TRUTH, 1, n_good=9)
    for fraction in (0, 1.1, math.nan):
        with pytest.raises(OptionError, match="top fraction"):
            tau_in_top(PREDICTED, TRUTH, fraction)
    for rank, n_archs, n_draws in [(0, 5, 1), (6, 5, 1), (1, 5, 0), (math.nan, 5, 1)]:
        with pytest.raises(OptionError):
            surpass_random(rank, n_archs, n_draws)
