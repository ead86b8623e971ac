import math

import numpy as np
import pytest

from wsx.analysis import (
    Resampling,
    average_ranks,
    periodicity,
    rank_distributions,
    rank_trajectories,
    recency,
)
from wsx.errors import OptionError, ShapeError

QUICK = Resampling(n_resamples=199)


def round_robin(
    n_archs: int, n_cycles: int, gain: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies in which the arch just trained stands higher, and less so with every further step."""
    rng = np.random.default_rng(seed)
    trained = np.tile(rng.permutation(n_archs), n_cycles)
    accuracies = rng.normal(0.7, 0.02, size=n_archs) + rng.normal(
        0, 0.01, size=(trained.size, n_archs)
    )
    for step, arch in enumerate(trained):
        for lag in range(4):
            if step + lag < trained.size:
                accuracies[step + lag, arch] += gain / 2**lag
    return accuracies, trained


def test_ranks_are_those_of_each_checkpoint() -> None:
    scores = np.random.default_rng(0).integers(0, 5, size=(4, 9)).astype(float)
    scores[2, 3] = math.nan
    ranks = rank_trajectories(scores)
    for i in (0, 1, 3):
        np.testing.assert_array_equal(ranks[i], average_ranks(scores[i]))
    assert np.isnan(ranks[2]).all()


def test_distributions_are_quantiles_over_rankings() -> None:
    rng = np.random.default_rng(0)
    skill = np.arange(8.0)
    scores = np.vstack([skill + rng.normal(size=(30, 8)), np.full((1, 8), math.nan)])
    found = rank_distributions(scores)
    ranks = rank_trajectories(scores)[:30]
    assert found.n_rankings == 30
    for arch in range(8):
        expected = [min(ranks[:, arch]), np.median(ranks[:, arch]), max(ranks[:, arch])]
        assert found.quantiles[[0, 2, 4], arch].tolist() == expected
    half = (found.high - found.low) / 2
    expected = 2.0452296 * ranks.std(axis=0, ddof=1) / math.sqrt(30)
    assert half == pytest.approx(expected, rel=1e-6, abs=0)
    assert (np.diff(found.mean) < 0).all()
    empty = rank_distributions([[math.nan, 1.0]])
    assert np.isnan(empty.mean).all()
    assert empty.reason == "no ranking is finite throughout"
    assert math.isnan(rank_distributions([[1.0, 2.0]]).low[0])


def test_a_planted_period_stands_out_from_its_neighbours() -> None:
    rng = np.random.default_rng(0)
    # Amplitudes of variance 1 beside noise of variance 1: half of the variance repeats.
    wave = np.tile(rng.normal(size=(16, 20)), (6, 1))
    found = periodicity(wave + rng.normal(size=wave.shape), 16, resampling=QUICK)
    assert found.share == pytest.approx(0.5, rel=0, abs=0.06)
    assert found.n_cycles == 6
    assert sorted(found.neighbours) == [13, 14, 15, 17, 18, 19]
    assert max(found.neighbours.values()) < 0.1
    assert found.p_value == 1 / 200
    assert found.by_chance is not None
    assert found.by_chance.high < found.share


def test_the_share_is_the_adjusted_r_squared_of_phase_means() -> None:
    rng = np.random.default_rng(3)
    accuracies = rng.random((23, 2)) + np.arange(23)[:, None] / 10
    found = periodicity(accuracies, 5, n_neighbours=1, resampling=QUICK)
    kept = accuracies[-20:]
    time = np.arange(20)
    left = np.stack([y - np.polyval(np.polyfit(time, y, 1), time) for y in kept.T], axis=1)
    for period, share in {5: found.share, **found.neighbours}.items():
        means = np.stack([left[time % period == p].mean(axis=0) for p in range(period)])
        within = ((left - means[time % period]) ** 2).sum()
        expected = 1 - within / (left**2).sum() * 18 / (20 - period - 1)
        assert share == pytest.approx(expected, rel=0, abs=1e-9)


def test_rotations_answer_to_chance_also_for_noise_with_memory() -> None:
    rng, p_values = np.random.default_rng(1), []
    for seed in range(100):
        noise = rng.normal(size=(80, 2))
        for step in range(1, 80):
            noise[step] += 0.95 * noise[step - 1]
        found = periodicity(noise, 40, resampling=Resampling(n_resamples=39, seed=seed))
        p_values.append(found.p_value)
    # At most 10 % of 100 trials: drift makes the test err on the safe side. Shuffled steps give 20 %.
    assert np.count_nonzero(np.array(p_values) <= 0.1) <= 10
    assert np.mean(p_values) > 0.4


def test_series_without_a_period_give_reasons() -> None:
    short = periodicity(np.random.default_rng(0).random((10, 3)), 6)
    assert math.isnan(short.share)
    assert short.reason == "a period of 6 needs 12 steps, got 10"
    straight = np.arange(12.0)[:, None] * [1.0, 0.3, 0.0] + 0.1
    still = periodicity(straight, 4)
    assert math.isnan(still.p_value)
    assert "straight line" in str(still.reason)
    plain = periodicity(
        np.random.default_rng(0).random((12, 3)), 4, resampling=Resampling(n_resamples=0)
    )
    assert plain.by_chance is None
    assert math.isnan(plain.p_value)


def test_the_arch_trained_last_ranks_top_where_planted() -> None:
    accuracies, trained = round_robin(16, 4, gain=0.03)
    found = recency(accuracies, trained, lags=range(16))
    assert found[0].low > 0
    assert found[0].mean > found[1].mean > found[3].mean
    assert found[0].values.size == 16
    ranks = rank_trajectories(accuracies)
    usual = ranks.mean(axis=0)
    slow = [usual[a] - ranks[s, a] for s, a in enumerate(trained)]
    assert found[0].mean == pytest.approx(np.mean(slow), rel=0, abs=1e-9)
    later = [usual[a] - ranks[s + 1, a] for s, a in enumerate(trained[:-1])]
    # One arch has a training less at lag 1, and each arch counts once.
    rest = [np.mean([g for g, a in zip(later, trained, strict=False) if a == b]) for b in range(16)]
    assert found[1].mean == pytest.approx(np.mean(rest), rel=0, abs=1e-9)


def test_no_effect_of_recency_where_none_is_planted() -> None:
    hits = 0
    for seed in range(40):
        found = recency(*round_robin(12, 4, gain=0.0, seed=seed), lags=(0,), level=0.9)
        hits += found[0].low <= 0 <= found[0].high
    assert hits / 40 > 0.9 - 4 * 0.05


def test_recency_ignores_archs_that_are_not_scored_and_steps_that_failed() -> None:
    accuracies, trained = round_robin(6, 5, gain=0.05)
    whole = recency(accuracies, trained, lags=(0, 1))
    accuracies = np.vstack([accuracies, np.full((2, 6), math.nan)])
    more = recency(accuracies, np.append(trained, [-1, 2]), lags=(0, 1))
    assert {lag: s.mean for lag, s in whole.items()} == {lag: s.mean for lag, s in more.items()}
    none = recency(accuracies[-2:], [-1, -1], lags=(0, 9))
    assert all(math.isnan(s.mean) for s in none.values())
    assert all(s.reason for s in none.values())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: periodicity(np.zeros((9, 2)), 1), OptionError, "at least 2 steps, got 1"),
        (lambda: periodicity([[1.0, math.nan]], 2), OptionError, "1 of 2 values of accuracies"),
        (lambda: periodicity(np.zeros(9), 2), ShapeError, r"\(step, arch\)"),
        (lambda: recency(np.eye(3), [0, 1]), ShapeError, r"shape \(3,\)"),
        (lambda: recency(np.eye(3), [0.0, 1.0, 2.0]), ShapeError, "float64"),
        (lambda: recency(np.eye(3), [0, 1, 3]), OptionError, r"-1\.\.2, got 0\.\.3"),
        (lambda: recency(np.eye(3), [0, 1, 2], lags=(-1,)), OptionError, "lag"),
        (lambda: rank_distributions(np.eye(3), probabilities=(0, 2)), OptionError, "probabilities"),
    ],
)
def test_wrong_input_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
