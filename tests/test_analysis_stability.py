import math
from itertools import combinations

import numpy as np
import pytest
import scipy.stats

from wsx.analysis import (
    Resampling,
    best_rank_at,
    gt_tau,
    gt_tau_window,
    kendall_tau,
    random_s_tau,
    s_tau,
    spread,
    tau_matrix,
    truth_stability,
)
from wsx.errors import OptionError, ShapeError

QUICK = Resampling(n_resamples=60)


def planted(n_runs: int, n_archs: int, noise: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n_archs)
    return truth + noise * rng.normal(size=(n_runs, n_archs)), truth


def test_the_matrix_is_tau_of_every_pair() -> None:
    scores = np.random.default_rng(0).integers(0, 6, size=(5, 23)).astype(float)
    tau = tau_matrix(scores)
    for i, j in combinations(range(5), 2):
        expected = scipy.stats.kendalltau(scores[i], scores[j]).statistic
        assert tau[i, j] == tau[j, i] == pytest.approx(expected, rel=0, abs=1e-12)
    assert np.diag(tau).tolist() == [1] * 5
    np.testing.assert_array_equal(tau_matrix(scores * 1e300 / 8), tau)


def test_s_tau_is_the_mean_over_pairs() -> None:
    scores, _ = planted(6, 20, 0.7)
    found = s_tau(scores, resampling=QUICK)
    pairs = [kendall_tau(a, b) for a, b in combinations(scores, 2)]
    assert found.s_tau.value == pytest.approx(np.mean(pairs), rel=0, abs=1e-12)
    assert (found.highest, found.lowest) == pytest.approx(
        (max(pairs), min(pairs)), rel=0, abs=1e-12
    )
    limits = found.s_tau.intervals["rankings"]
    assert limits.low < found.s_tau.value < limits.high
    assert s_tau(scores, resampling=QUICK).s_tau == found.s_tau


def test_resamples_leave_out_pairs_of_a_ranking_with_itself() -> None:
    scores, _ = planted(4, 30, 1.0)
    resampling = Resampling(n_resamples=7, level=0.5, seed=3)
    tau = tau_matrix(scores)
    slow = []
    for row in resampling.weights(4, resampling.rngs(1)[0]):
        drawn = [i for i in range(4) for _ in range(int(row[i]))]
        pairs = [tau[i, j] for i, j in combinations(drawn, 2) if i != j]
        slow.append(np.mean(pairs) if pairs else math.nan)
    limits = s_tau(scores, resampling=resampling).s_tau.intervals["rankings"]
    expected = np.nanquantile(slow, [0.25, 0.75])
    assert [limits.low, limits.high] == pytest.approx(expected.tolist(), rel=0, abs=1e-12)


def test_the_interval_covers_and_is_not_shifted() -> None:
    n_runs, n_trials, hits, middles = 8, 60, 0, []
    expected = s_tau(planted(200, 40, 1.0)[0], resampling=Resampling(n_resamples=0)).s_tau.value
    truth = planted(1, 40, 1.0)[1]
    rng = np.random.default_rng(5)
    for seed in range(n_trials):
        scores = truth + rng.normal(size=(n_runs, 40))
        found = s_tau(scores, resampling=Resampling(n_resamples=100, level=0.9, seed=seed)).s_tau
        limits = found.intervals["rankings"]
        hits += limits.low <= expected <= limits.high
        middles.append((limits.low + limits.high) / 2 - found.value)
    # A share of 0.9 in 60 trials has standard error 0.04; with pairs of equals none would cover.
    assert hits / n_trials > 0.9 - 4 * 0.04
    assert abs(np.mean(middles)) < 0.2 * (1 - expected) / n_runs


def test_two_runs_are_one_pair_and_have_no_interval() -> None:
    found = s_tau(planted(2, 20, 0.5)[0], resampling=QUICK).s_tau
    assert found.value > 0.3
    assert found.intervals == {}
    assert s_tau(planted(3, 20, 0.5)[0], resampling=QUICK).s_tau.intervals


def test_runs_that_did_not_train_are_left_out_and_counted() -> None:
    scores, truth = planted(5, 12, 0.5)
    good = s_tau(scores[:3], resampling=QUICK)
    scores[3] = 0.1
    scores[4, 2] = math.nan
    found = s_tau(scores, resampling=QUICK)
    assert found.n_undefined == 2
    assert found.s_tau.value == good.s_tau.value
    against = truth_stability(scores, truth, ks=(1,))
    assert against["gt_tau"].n_undefined == 2
    assert against["best_rank@1"].n_undefined == 1
    assert np.isnan(gt_tau(scores, truth)).tolist() == [False] * 3 + [True] * 2
    nothing = s_tau(scores[2:], resampling=QUICK)
    assert math.isnan(nothing.s_tau.value)
    assert "2 of 3 rankings are constant" in str(nothing.s_tau.reason)
    assert nothing.s_tau.intervals == {}
    none = truth_stability(scores[3:], truth, ks=(1,))["gt_tau"]
    assert math.isnan(none.mean)
    assert none.reason == "no run has a value: 0 of 2 have one"


def test_random_rankings_agree_as_chance_has_it() -> None:
    n_rankings, n_archs = 40, 64
    found = random_s_tau(n_rankings, n_archs, resampling=QUICK)
    n_pairs = n_rankings * (n_rankings - 1) / 2
    variance = 2 * (2 * n_archs + 5) / (9 * n_archs * (n_archs - 1))
    assert abs(found.s_tau.value) < 4 * math.sqrt(variance / n_pairs)
    pairs = found.tau[np.triu_indices(n_rankings, 1)]
    assert pairs.var() == pytest.approx(variance, rel=0.2, abs=0)


def test_agreement_with_truth_is_that_of_each_run() -> None:
    scores, truth = planted(7, 30, 0.6)
    found = truth_stability(scores, truth, ks=(1, 3))
    taus = [kendall_tau(row, truth) for row in scores]
    tops = [best_rank_at(row, truth, 3) for row in scores]
    assert found["gt_tau"].values.tolist() == taus
    assert found["best_rank@3"].values.tolist() == tops
    low, high = scipy.stats.ttest_1samp(taus, 0).confidence_interval(0.95)
    assert (found["gt_tau"].low, found["gt_tau"].high) == pytest.approx(
        (low, high), rel=0, abs=1e-12
    )
    assert found["gt_tau"].std == pytest.approx(np.std(taus, ddof=1), rel=0, abs=1e-12)


def test_the_window_covers_the_last_checkpoints_of_each_run() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=15)
    scores = truth + rng.normal(size=(3, 6, 15))
    found = gt_tau_window(scores, truth, 4)
    slow = np.array([[kendall_tau(row, truth) for row in run[-4:]] for run in scores])
    np.testing.assert_array_equal(found.gt_tau, slow)
    assert found.mean.values == pytest.approx(slow.mean(axis=1), rel=0, abs=1e-12)
    assert found.std.values == pytest.approx(slow.std(axis=1), rel=0, abs=1e-12)
    single = gt_tau_window(scores[:1], truth, 4).mean
    assert single.mean == pytest.approx(slow[0].mean(), rel=0, abs=1e-12)
    assert math.isnan(single.low)
    assert "one run" in str(single.reason)


def test_limits_of_a_mean_cover_at_their_level_for_three_runs() -> None:
    rng = np.random.default_rng(2)
    spreads = [spread(rng.normal(3, 1, size=3), "x", level=0.9) for _ in range(400)]
    # The standard error of a share of 0.9 in 400 trials is 0.015; four of them.
    assert abs(np.mean([s.low <= 3 <= s.high for s in spreads]) - 0.9) < 0.06


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ShapeError, match="2 or more rankings, got 1"):
        s_tau([[1.0, 2.0]])
    with pytest.raises(ShapeError, match=r"\(ranking, arch\), got \(3,\)"):
        s_tau([1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match=r"got \(0, 5\)"):
        s_tau(np.zeros((0, 5)))
    with pytest.raises(ShapeError, match="scores has 2 archs and the other input has 3"):
        gt_tau([[1.0, 2.0]], [1, 2, 3])
    with pytest.raises(OptionError, match="dtype"):
        s_tau([["a", "b"], ["c", "d"]])
    with pytest.raises(OptionError, match=r"1\.\.2, got 3"):
        gt_tau_window(np.zeros((1, 2, 3)), [1, 2, 3], 3)
    with pytest.raises(OptionError, match=r"1\.\.3, got 4"):
        truth_stability(np.eye(3), [1, 2, 3], ks=(4,))
    with pytest.raises(OptionError, match="level"):
        spread([1, 2], "x", level=1.0)
    with pytest.raises(OptionError, match="n_resamples"):
        Resampling(n_resamples=-1)
