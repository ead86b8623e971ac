import math
from itertools import combinations

import numpy as np
import pytest

from wsx.analysis import best_rank_at, kendall_tau, seed_against_others, seed_against_seed
from wsx.analysis.baselines import each_against_others
from wsx.analysis.metrics import correlation_metrics, pick_metrics
from wsx.errors import OptionError, ShapeError

TAU, _, R = correlation_metrics(0.001)[:3]
BEST_RANK = {metric.name: metric for metric in pick_metrics(3, 0.1)}["best_rank@3"]
NAN = math.nan


def ragged(seed=0, n_runs=4, n_archs=25):
    rng = np.random.default_rng(seed)
    runs = np.round(rng.random((n_runs, n_archs)), 1)
    runs[1, ::3] = runs[2, 1::2] = runs[0, 7] = NAN
    runs[1:, 4] = NAN
    return runs


def slow_against_others(measure, runs):
    """Return the mean over runs, each against the mean of the rest, arch by arch."""
    values = []
    for i in range(len(runs)):
        predicted, truth = [], []
        for arch in range(len(runs[0])):
            rest = [
                runs[j][arch] for j in range(len(runs)) if j != i and not math.isnan(runs[j][arch])
            ]
            if rest and not math.isnan(runs[i][arch]):
                predicted.append(runs[i][arch])
                truth.append(sum(rest) / len(rest))
        values.append(measure(predicted, truth))
    return sum(values) / len(values)


def test_missing_trainings_are_left_out_pair_by_pair():
    runs = ragged()
    for metric, measure in (
        (TAU, kendall_tau),
        (BEST_RANK, lambda p, t: best_rank_at(p, t, 3)),
    ):
        found = seed_against_others(metric, runs)
        expected = slow_against_others(measure, runs.tolist())
        assert found.value == pytest.approx(expected, rel=0, abs=1e-12)
        # Arch 4 was trained once.
        assert (found.n_compared, found.n_archs) == (4, 24)
    taus = []
    for one, other in combinations(runs, 2):
        both = [k for k in range(25) if not math.isnan(one[k]) and not math.isnan(other[k])]
        taus.append(kendall_tau(one[both], other[both]))
    found = seed_against_seed(TAU, runs)
    assert found.value == pytest.approx(np.mean(taus), rel=0, abs=1e-12)
    assert (found.n_compared, found.n_archs) == (6, 24)


def test_planted_noise_gives_the_correlations_that_follow_from_it():
    n_archs, n_runs, noise = 20_000, 5, 1.3
    rng = np.random.default_rng(3)
    skill = rng.normal(size=n_archs)
    runs = skill + rng.normal(0, noise, size=(n_runs, n_archs))
    one, rest = 1 + noise**2, 1 + noise**2 / (n_runs - 1)
    # A correlation of n archs has a standard error of at most 1 / sqrt(n); four of them.
    tolerance = 4 / math.sqrt(n_archs)
    pair, others = seed_against_seed(R, runs).value, seed_against_others(R, runs).value
    perfect = np.corrcoef(skill, runs.mean(axis=0))[0, 1]
    assert pair == pytest.approx(1 / one, rel=0, abs=tolerance)
    assert others == pytest.approx(1 / math.sqrt(one * rest), rel=0, abs=tolerance)
    assert perfect == pytest.approx(1 / math.sqrt(1 + noise**2 / n_runs), rel=0, abs=tolerance)
    assert pair + tolerance < others < perfect - tolerance


def test_a_run_that_shares_no_arch_takes_no_part():
    runs = np.array([[1.0, 2, 3, NAN], [1, 3, 2, NAN], [NAN, NAN, NAN, 5]])
    found = seed_against_others(TAU, runs)
    assert found.value == pytest.approx(1 / 3, rel=0, abs=1e-12)
    assert (found.n_compared, found.n_archs) == (2, 3)
    assert [known.tolist() for *_, known in each_against_others(runs)] == [[True] * 3 + [False]] * 2


def test_what_cannot_be_measured_has_a_reason():
    constant = seed_against_seed(TAU, np.ones((2, 3)))
    assert math.isnan(constant.value)
    assert "constant" in constant.reason
    for measure in (seed_against_seed, seed_against_others):
        never_twice = measure(TAU, [[1.0, NAN], [NAN, 2.0]])
        assert (never_twice.reason, never_twice.n_archs) == ("no arch was trained twice", 0)
    # A constant run has no value and does not take the others with it.
    some = seed_against_seed(TAU, [[1, 1, 1], [1, 2, 3], [1, 3, 2]])
    assert some.value == pytest.approx(1 / 3, rel=0, abs=1e-12)
    assert (some.n_compared, some.reason) == (1, None)


@pytest.mark.parametrize(
    ("runs", "error", "message"),
    [
        ([[1.0, 2.0]], ShapeError, r"2 or more runs, got \(1, 2\)"),
        ([1.0, 2.0], ShapeError, r"got \(2,\)"),
        ([[1.0, math.inf], [1.0, 2.0]], OptionError, "1 trainings of the truth are infinite"),
        ([["a"], ["b"]], OptionError, "real numbers"),
    ],
)
def test_wrong_trainings_are_refused(runs, error, message):
    for measure in (seed_against_seed, seed_against_others):
        with pytest.raises(error, match=message):
            measure(TAU, runs)
