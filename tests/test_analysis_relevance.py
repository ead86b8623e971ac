import math
from itertools import permutations

import numpy as np
import pytest
import scipy.stats

from wsx.analysis import SummaryOptions, ndcg, summarise, weighted_tau
from wsx.errors import OptionError, ShapeError


def slow_gain(order: list[int], truth: list[float]) -> float:
    low = np.quantile(truth, 0.2)
    total = 0.0
    for place, arch in enumerate(order, start=1):
        relevance = 20 * min(1.0, max(0.0, (truth[arch] - low) / (max(truth) - low)))
        total += (2**relevance - 1) / math.log2(place + 1)
    return total


def test_gain_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    predicted, truth = rng.normal(size=12), rng.normal(size=12).tolist()
    order = sorted(range(12), key=lambda arch: -predicted[arch])
    best = sorted(range(12), key=lambda arch: -truth[arch])
    expected = slow_gain(order, truth) / slow_gain(best, truth)
    assert ndcg(predicted, truth) == pytest.approx(expected, rel=1e-12, abs=0)
    assert ndcg(truth, truth) == pytest.approx(1, rel=0, abs=1e-12)
    assert ndcg(-np.array(truth), truth) < 0.4


def test_ties_are_the_mean_over_all_orders() -> None:
    truth = [0.3, 0.9, 0.5, 0.8, 0.1]
    best = slow_gain(sorted(range(5), key=lambda arch: -truth[arch]), truth)
    every = [slow_gain(list(order), truth) / best for order in permutations(range(5))]
    assert ndcg(np.ones(5), truth) == pytest.approx(np.mean(every), rel=1e-12, abs=0)
    some = [slow_gain([4, *order, 1], truth) / best for order in permutations([0, 2, 3])]
    assert ndcg([5, 1, 5, 5, 9], truth) == pytest.approx(np.mean(some), rel=1e-12, abs=0)


def test_weighted_tau_weighs_pairs_by_their_ranks() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=9), rng.normal(size=9)

    def by_rank_of(key: np.ndarray) -> float:
        rank = np.argsort(np.argsort(-key))
        agreed, total = 0.0, 0.0
        for i in range(9):
            for j in range(i):
                weight = 1 / (rank[i] + 1) + 1 / (rank[j] + 1)
                agreed += weight * np.sign(first[i] - first[j]) * np.sign(second[i] - second[j])
                total += weight
        return agreed / total

    expected = (by_rank_of(first) + by_rank_of(second)) / 2
    assert weighted_tau(first, second) == pytest.approx(expected, rel=0, abs=1e-12)
    assert expected == pytest.approx(
        scipy.stats.weightedtau(first, second).statistic, rel=0, abs=1e-12
    )
    order = rng.permutation(9)
    tied = np.round(first)
    assert weighted_tau(tied[order], second[order]) == pytest.approx(
        weighted_tau(tied, second), rel=0, abs=1e-12
    )


@pytest.mark.parametrize("max_direct", [0, 512], ids=["halving", "pairs"])
@pytest.mark.parametrize("n_archs", [2, 3, 64, 65])
@pytest.mark.parametrize("n_values", [3, 40, 10**6])
def test_weighted_tau_with_ties_is_that_of_scipy(
    n_values: int, n_archs: int, max_direct: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsx.analysis.relevance.MAX_DIRECT", max_direct)
    rng = np.random.default_rng(2)
    for _ in range(10):
        first, second = rng.integers(0, n_values, size=(2, n_archs)) / 8
        if np.ptp(first) and np.ptp(second):
            expected = scipy.stats.weightedtau(first, second).statistic
            assert weighted_tau(first, second) == pytest.approx(expected, rel=0, abs=1e-12)


def test_an_error_at_the_top_costs_more_than_one_at_the_bottom() -> None:
    truth = np.arange(20.0)
    top, bottom = truth.copy(), truth.copy()
    top[[19, 18]], bottom[[0, 1]] = top[[18, 19]], bottom[[1, 0]]
    assert weighted_tau(top, truth) < weighted_tau(bottom, truth)
    assert ndcg(top, truth) < ndcg(bottom, truth)


def test_no_value_has_a_reason_in_the_summary() -> None:
    options = SummaryOptions(n_resamples=10)
    rng = np.random.default_rng(0)
    whole = summarise(rng.random(30), rng.random(30), options=options).metrics
    assert whole["ndcg"].intervals["archs"].low <= whole["ndcg"].value
    assert whole["weighted_tau"].intervals["archs"].low >= -1
    flat = summarise([0.1, 0.2, 0.3], [0.5, 0.5, 0.5], options=options).metrics
    assert flat["ndcg"].reason == "no arch is better than the 20 % quantile of truth"
    assert "truth is constant" in str(flat["weighted_tau"].reason)
    assert math.isnan(ndcg([], []))
    assert math.isnan(weighted_tau([1, 1], [1, 2]))


def test_wrong_input_is_refused() -> None:
    for measure in (ndcg, weighted_tau):
        with pytest.raises(OptionError, match="1 of 2 values"):
            measure([1, math.nan], [1, 2])
        with pytest.raises(ShapeError, match="predicted has 1"):
            measure([1], [1, 2])
