import math

import numpy as np
import pytest
import scipy.stats

from wsx.analysis import (
    Resampling,
    interference_effects,
    relate_pairs,
    shared_decisions,
    without_recency,
)
from wsx.errors import OptionError, ShapeError

QUICK = Resampling(n_resamples=199)


def all_archs(n_options: int = 3, n_decisions: int = 3) -> np.ndarray:
    return np.array(list(np.ndindex(*[n_options] * n_decisions)))


def steps_with(effect: np.ndarray, n_rounds: int, noise: float, seed: int = 0) -> tuple:
    rng = np.random.default_rng(seed)
    trained = np.concatenate([rng.permutation(len(effect)) for _ in range(n_rounds)])
    before = rng.normal(0.7, 0.02, size=(trained.size, len(effect)))
    after = before + effect[trained] + noise * rng.normal(size=before.shape)
    return before, after, trained


def test_planted_effects_are_recovered_within_their_errors() -> None:
    effect = np.random.default_rng(1).normal(0, 0.01, size=(8, 8)) + 0.03 * np.eye(8)
    found = interference_effects(*steps_with(effect, n_rounds=12, noise=0.01))
    z = (found.effect - effect) / found.standard_error
    # 64 values of about normal: mean square 1 with error sqrt(2 / 64), more for t with 88 free steps.
    assert abs((z**2).mean() - 1) < 4 * math.sqrt(2 / 64)
    assert found.standard_error == pytest.approx(0.01 / math.sqrt(12), rel=0.3, abs=0)
    assert found.itself.mean == pytest.approx(np.diag(found.effect).mean(), rel=0, abs=1e-12)
    off = found.effect[~np.eye(8, dtype=bool)].reshape(8, 7).mean(axis=1)
    assert found.others.values == pytest.approx(off, rel=0, abs=1e-12)
    assert found.itself.low > found.others.high


def test_effects_are_means_step_by_step() -> None:
    before, after, _ = steps_with(np.zeros((4, 4)), n_rounds=3, noise=0.1)
    trained = np.array([0, 2, 0, 2, 0, 0, -1, 2, 2, 0, -1, 0])
    found = interference_effects(before, after, trained)
    assert found.n_steps.tolist() == [6, 0, 4, 0]
    changes = {arch: (after - before)[trained == arch] for arch in (0, 2)}
    for arch, change in changes.items():
        assert found.effect[arch] == pytest.approx(change.mean(axis=0), rel=0, abs=1e-12)
    squares = sum(((c - c.mean(axis=0)) ** 2).sum(axis=0) for c in changes.values()) / (10 - 2)
    assert found.standard_error[2] == pytest.approx(np.sqrt(squares / 4), rel=1e-9, abs=0)
    assert np.isnan(found.effect[[1, 3]]).all()
    assert found.itself.values.size == 2


def test_one_training_each_gives_no_errors() -> None:
    found = interference_effects(*steps_with(np.eye(3), n_rounds=1, noise=0.0))
    assert np.isnan(found.standard_error).all()
    assert found.effect == pytest.approx(np.eye(3), rel=0, abs=1e-12)
    nothing = interference_effects(np.zeros((2, 3)), np.zeros((2, 3)), [-1, -1])
    assert np.isnan(nothing.effect).all()
    assert "no run has a value" in str(nothing.itself.reason)


def test_shared_decisions_are_counted_pair_by_pair() -> None:
    archs = all_archs()
    shared = shared_decisions(archs)
    for i, first in enumerate(archs):
        for j, second in enumerate(archs):
            assert shared[i, j] == sum(a == b for a, b in zip(first, second, strict=True))


def test_a_planted_relation_is_found_with_its_slope() -> None:
    shared = shared_decisions(all_archs())
    rng = np.random.default_rng(0)
    values = -0.01 + 0.004 * shared + rng.normal(0, 0.005, size=shared.shape)
    found = relate_pairs(values, shared, resampling=QUICK)
    off = ~np.eye(27, dtype=bool)
    expected = scipy.stats.spearmanr(values[off], shared[off]).statistic
    assert found.rho.value == pytest.approx(expected, rel=0, abs=1e-12)
    line = scipy.stats.linregress(shared[off], values[off])
    assert found.slope == pytest.approx(line.slope, rel=1e-9, abs=0)
    assert abs(found.slope - 0.004) < 4 * line.stderr
    assert found.p_value == 1 / 200
    assert found.n_pairs == 27 * 26
    limits, of_slope = found.rho.intervals["archs"], found.slope_interval
    assert of_slope is not None
    assert 0 < limits.low < found.rho.value < limits.high
    assert of_slope.low < found.slope < of_slope.high


def test_resamples_leave_out_pairs_of_an_arch_with_itself() -> None:
    shared = shared_decisions(all_archs(2)).astype(float)
    values = shared + np.random.default_rng(0).normal(size=shared.shape)
    resampling = Resampling(n_resamples=6, level=0.5)
    slow = []
    for row in resampling.weights(8, resampling.rngs(2)[0]):
        drawn = [i for i in range(8) for _ in range(int(row[i]))]
        pairs = [(i, j) for i in drawn for j in drawn if i != j]
        x, y = [shared[p] for p in pairs], [values[p] for p in pairs]
        slow.append(scipy.stats.linregress(x, y).slope)
    limits = relate_pairs(values, shared, resampling=resampling).slope_interval
    assert limits is not None
    expected = np.quantile(slow, [0.25, 0.75]).tolist()
    assert [limits.low, limits.high] == pytest.approx(expected, rel=0, abs=1e-9)


def test_archs_that_move_by_themselves_are_no_relation() -> None:
    rng, p_values = np.random.default_rng(4), []
    for seed in range(50):
        # What belongs to an arch is in all its pairs, so these depend on one another; a test that permutes
        # pairs, or rows alone, would see a relation in most trials.
        common, felt = rng.normal(size=27), rng.normal(size=27)
        shared = common + common[:, None]
        values = felt + felt[:, None]
        resampling = Resampling(n_resamples=39, seed=seed)
        p_values.append(relate_pairs(values, shared, resampling=resampling).p_value)
    # 10 % of 50 trials, standard error 2.1.
    assert np.count_nonzero(np.array(p_values) <= 0.1) < 5 + 3 * 2.1


def test_unknown_rows_are_left_out() -> None:
    shared = shared_decisions(all_archs())
    values = shared + np.random.default_rng(0).normal(size=shared.shape)
    values[5] = math.nan
    found = relate_pairs(values, shared, resampling=QUICK)
    assert found.n_pairs == 26 * 26
    assert found.rho.intervals["archs"].low < found.rho.value < found.rho.intervals["archs"].high
    unknown = relate_pairs(np.full((4, 4), math.nan), np.eye(4))
    assert (unknown.n_pairs, math.isnan(unknown.p_value)) == (0, True)
    same = relate_pairs(np.arange(16.0).reshape(4, 4), np.eye(4))
    assert math.isnan(same.slope)
    assert "shared is constant: all 12 pairs have 0" in str(same.rho.reason)


def rounds_with(sharing: float, gain: float, *, n_rounds: int = 6) -> tuple:
    """Changes by the last two of some rounds in one order: an arch gains when trained, and loses it again."""
    archs = all_archs()
    rng, n = np.random.default_rng(5), len(archs)
    order = np.tile(np.arange(n), n_rounds)
    shared = shared_decisions(archs)
    recent, drift, accuracy = np.zeros(n), np.zeros(n), []
    for arch in order:
        recent *= 0.7
        recent[arch] = gain
        drift = drift + sharing * shared[arch]
        accuracy.append(recent + drift + 0.01 * rng.normal(size=n))
    return np.diff(accuracy, axis=0)[-2 * n :], order, shared


def related(change: np.ndarray, order: np.ndarray, shared: np.ndarray, *, takes_out: bool):
    trained, earlier = order[-len(change) :], order[: -len(change)]
    tables = []
    for values in (change, shared[trained].astype(float)):
        left = without_recency(values, trained, earlier=earlier) if takes_out else values
        tables.append(interference_effects(np.zeros_like(left), left, trained).effect)
    return relate_pairs(*tables, resampling=QUICK)


def test_recency_without_sharing_is_no_relation() -> None:
    change, order, shared = rounds_with(0.0, 0.3)
    # Neighbours in the order share more, and what was trained just before is on its way down.
    naive = related(change, order, shared, takes_out=False)
    assert naive.rho.intervals["archs"].high < 0
    found = related(change, order, shared, takes_out=True)
    between = found.rho.intervals["archs"]
    assert between.low < 0 < between.high
    assert found.p_value > 0.05


@pytest.mark.parametrize("sharing", [0.004, -0.004])
def test_sharing_beside_recency_keeps_its_slope(sharing: float) -> None:
    found = related(*rounds_with(sharing, 0.3), takes_out=True)
    between = found.rho.intervals["archs"]
    assert between.low * between.high > 0
    assert found.rho.value * sharing > 0
    # Change of a step has noise .014; two rounds, 702 pairs within lags: a standard error near .0006.
    assert abs(found.slope - sharing) < 4 * 0.0006


def test_recency_is_a_mean_for_each_lag() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(size=(9, 4))
    earlier, trained = [3, 1], np.array([0, 2, -1, 0, 0, 1, 2, -1, 0])
    lags = {}
    for step in range(9):
        past = [*earlier, *trained[: step + 1].tolist()][::-1]
        for arch in range(4):
            lags[step, arch] = past.index(arch) if arch in past else "never"
    expected = values.copy()
    for lag in set(lags.values()):
        cells = [cell for cell, one in lags.items() if one == lag]
        mean = sum(values[cell] for cell in cells) / len(cells)
        for cell in cells:
            expected[cell] -= mean
    assert lags[0, 2] == "never"
    found = without_recency(values, trained, earlier=earlier)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: interference_effects(np.eye(3), np.eye(2), [0]), ShapeError, r"\(2, 2\)"),
        (lambda: interference_effects(np.eye(2), np.eye(2), [0]), ShapeError, r"shape \(2,\)"),
        (lambda: interference_effects(np.eye(2), np.eye(2), [0, 2]), OptionError, r"0\.\.2"),
        (
            lambda: interference_effects(np.eye(2), np.full((2, 2), math.nan), [0, 1]),
            OptionError,
            "4 of 4 values of after",
        ),
        (lambda: relate_pairs(np.ones((2, 3)), np.ones((2, 3))), ShapeError, r"\(arch, arch\)"),
        (lambda: relate_pairs(np.eye(2), np.full((2, 2), math.inf)), OptionError, "shared"),
        (lambda: without_recency(np.eye(3), [0, 1]), ShapeError, r"shape \(3,\)"),
        (lambda: without_recency(np.eye(2), [0, 1], earlier=[2]), OptionError, r"0\.\.2"),
        (lambda: without_recency([[math.nan]], [0]), OptionError, "1 of 1 values"),
        (lambda: shared_decisions([[0.5, 1.0]]), OptionError, "whole numbers"),
        (lambda: shared_decisions([1, 2]), ShapeError, r"\(arch, decision\)"),
    ],
)
def test_wrong_input_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
