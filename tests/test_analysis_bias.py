import math

import numpy as np
import pytest

from wsx.analysis import (
    Resampling,
    branch_scores,
    explained_share,
    option_bias,
    option_means,
    quantile_bins,
    rank_residuals,
)
from wsx.errors import OptionError, ShapeError

QUICK = Resampling(n_resamples=80)


def population(n_archs: int, favour: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Archs of three decisions; the supernet over-values option 2 of decision 1."""
    rng = np.random.default_rng(seed)
    archs = rng.integers(0, 3, size=(n_archs, 3))
    truth = rng.normal(size=n_archs) + 0.5 * archs[:, 0]
    predicted = truth + 0.5 * rng.normal(size=n_archs) + favour * (archs[:, 1] == 2)
    return archs, predicted, truth


def test_residuals_are_differences_of_beaten_shares() -> None:
    _, predicted, truth = population(20, 0.0)
    predicted = np.round(predicted)
    for i, residual in enumerate(rank_residuals(predicted, truth)):
        beaten = [
            sum((v[i] > w) + (v[i] == w) / 2 for j, w in enumerate(v) if j != i) / 19
            for v in (predicted, truth)
        ]
        assert residual == pytest.approx(beaten[0] - beaten[1], rel=0, abs=1e-12)


def test_the_over_valued_option_is_found_and_flagged() -> None:
    archs, predicted, truth = population(300, favour=0.8)
    found = {
        (b.decision, b.option): b for b in option_bias(archs, predicted, truth, resampling=QUICK)
    }
    assert len(found) == 9
    residuals = rank_residuals(predicted, truth)
    has = archs[:, 1] == 2
    planted = found[1, 2]
    assert planted.n_archs == has.sum()
    expected = residuals[has].mean() - residuals[~has].mean()
    assert planted.bias.value == pytest.approx(expected, rel=0, abs=1e-12)
    assert planted.bias.intervals["archs"].low > 0
    assert planted.is_flagged
    assert {key for key, b in found.items() if b.is_flagged and b.bias.value > 0} == {(1, 2)}
    assert found[1, 0].bias.value < 0
    assert not any(found[2, option].is_flagged for option in range(3))


def test_flags_are_rare_where_nothing_is_planted() -> None:
    n_trials, n_any = 50, 0
    for seed in range(n_trials):
        archs, predicted, truth = population(80, favour=0.0, seed=seed)
        # Truth prefers options too; only the supernet's own preference is bias.
        resampling = Resampling(n_resamples=60, level=0.9, seed=seed)
        n_any += any(
            b.is_flagged for b in option_bias(archs, predicted, truth, resampling=resampling)
        )
    # One family of nine options errs in 10 % of 50 trials, standard error 2.1; nine alone would in 60 %.
    assert n_any < 5 + 4 * 2.1


def test_rare_and_universal_options_have_reasons() -> None:
    archs, predicted, truth = population(40, 0.0)
    archs[:, 2] = 0
    archs[:4, 2] = 1
    found = option_bias(archs, predicted, truth, min_archs=5, resampling=QUICK)
    rare = [b for b in found if b.decision == 2]
    assert [b.bias.reason for b in rare] == ["36 of 40 archs have it", "4 of 40 archs have it"]
    assert all(math.isnan(b.bias.value) and not b.is_flagged for b in rare)
    constant = option_bias(archs, np.ones(40), truth, resampling=QUICK)
    assert all(math.isnan(b.bias.value) for b in constant)
    assert "predicted is constant" in str(constant[0].bias.reason)
    plain = option_bias(archs, predicted, truth, resampling=Resampling(n_resamples=0))
    assert not any(b.is_flagged or b.bias.intervals for b in plain)


def test_means_by_option_are_plain_means() -> None:
    archs, predicted, _ = population(60, 0.0)
    for found in option_means(archs, predicted):
        values = predicted[archs[:, found.decision] == found.option]
        assert found.accuracy.mean == pytest.approx(values.mean(), rel=0, abs=1e-12)
        assert found.accuracy.low < values.mean() < found.accuracy.high


def test_size_explains_what_was_planted() -> None:
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.normal(14, 1, size=400))
    values = np.log(sizes) + rng.normal(size=400)
    share = explained_share(values, sizes, resampling=QUICK)
    limits = share.intervals["archs"]
    assert limits.low < 0.5 < limits.high
    x = np.column_stack([np.log(sizes), np.ones(400)])
    left = values - x @ np.linalg.lstsq(x, values, rcond=None)[0]
    assert share.value == pytest.approx(1 - left.var() / values.var(), rel=0, abs=1e-9)
    assert explained_share(rng.normal(size=400), sizes).value < 0.04
    still = explained_share(values, np.full(400, 7.0))
    assert math.isnan(still.value)
    assert "size is constant" in str(still.reason)


def test_bins_make_a_size_a_decision() -> None:
    sizes = np.random.default_rng(0).permutation(np.arange(100))
    bins = quantile_bins(sizes, 4)
    assert np.bincount(bins).tolist() == [25] * 4
    assert (np.diff(bins[np.argsort(sizes)]) >= 0).all()
    assert quantile_bins([5, 5, 5], 3).tolist() == [0, 0, 0]


def test_branch_scores_are_those_of_their_formulae() -> None:
    rng = np.random.default_rng(0)
    archs = rng.integers(0, 3, size=(45, 2))
    archs[:7, 1] = 9
    params = rng.integers(1, 60, size=45) * 1000.0
    accuracies = rng.integers(0, 40, size=45) / 40
    m, c = np.polyfit(np.log(params), accuracies, 1)
    found = {
        score: branch_scores(archs, accuracies, params, score=score, min_arch=8)
        for score in ("accuracy", "nondominated", "lstsq")
    }
    assert (1, 9) not in found["accuracy"]
    for decision, option in found["accuracy"]:
        inside = [i for i in range(45) if archs[i, decision] == option]
        others = [i for i in range(45) if i not in inside]
        assert len(inside) >= 8
        wins = [
            params[e] < params[f] and accuracies[e] > accuracies[f] for e in inside for f in others
        ]
        slow = {
            "accuracy": accuracies[inside].mean(),
            "nondominated": np.mean(wins),
            "lstsq": np.mean([accuracies[i] - m * np.log(params[i]) - c for i in inside]),
        }
        fast = {score: found[score][decision, option] for score in found}
        assert fast == pytest.approx(slow, rel=0, abs=1e-9)


def test_branch_scores_survive_one_size_and_skip_what_all_have() -> None:
    archs, accuracies = np.array([[0, 0], [0, 1]] * 10), np.tile([0.4, 0.6], 10)
    found = branch_scores(archs, accuracies, np.full(20, 5.0), score="lstsq")
    assert found == pytest.approx({(1, 0): -0.1, (1, 1): 0.1}, rel=0, abs=1e-12)
    assert branch_scores(archs, accuracies, np.full(20, 5.0), min_arch=11) == {}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: option_bias([[0]], [1, 2], [1, 2]), ShapeError, "1 archs and the scores 2"),
        (lambda: option_bias(np.eye(2), [1, math.nan], [1, 2]), OptionError, "1 of 2 values"),
        (lambda: option_bias([[0.5], [1]], [1, 2], [1, 2]), OptionError, "whole numbers"),
        (lambda: rank_residuals([1], [1]), ShapeError, "at least 2 archs"),
        (lambda: explained_share([1, 2], [0, 3]), OptionError, "above 0"),
        (lambda: quantile_bins([1, 2], 3), OptionError, r"1\.\.2, got 3"),
        (lambda: branch_scores([[0], [1]], [1, 2], [1, 0]), OptionError, "above 0"),
        (lambda: branch_scores([[0], [1]], [1, 2], [1, 2], score="best"), OptionError, "'best'"),
    ],
)
def test_wrong_input_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
