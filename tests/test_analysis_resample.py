import math

import numpy as np
import pytest

from wsx.analysis import (
    bootstrap,
    draw_archs,
    draw_both,
    draw_images,
    interval,
    kendall_tau,
    pearson,
    resample_correct,
)
from wsx.analysis.resample import image_weights
from wsx.errors import OptionError, ShapeError


def planted_outcomes(
    n_archs: int, n_images: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    skill = rng.uniform(0.3, 0.9, size=n_archs)
    return rng.random((n_archs, n_images)) < skill[:, None], skill


def correlation(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.array([pearson(predicted, truth)])


def test_image_resamples_are_what_counting_image_by_image_gives() -> None:
    outcomes, _ = planted_outcomes(7, 23, np.random.default_rng(0))
    n_correct = resample_correct(outcomes, n_resamples=5, rng=np.random.default_rng(1))
    rng = np.random.default_rng(1)
    for row in n_correct:
        drawn = rng.integers(23, size=23)
        slow = [sum(bool(outcomes[arch, image]) for image in drawn) for arch in range(7)]
        assert row.tolist() == slow


def test_blocks_do_not_change_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, _ = planted_outcomes(11, 40, np.random.default_rng(0))
    whole = resample_correct(outcomes, n_resamples=9, rng=np.random.default_rng(1))
    monkeypatch.setattr("wsx.analysis.resample._MAX_BLOCK", 100)
    np.testing.assert_array_equal(
        resample_correct(outcomes, n_resamples=9, rng=np.random.default_rng(1)), whole
    )
    monkeypatch.setattr("wsx.analysis.resample._MAX_BLOCK", 1)
    np.testing.assert_array_equal(
        resample_correct(outcomes, n_resamples=9, rng=np.random.default_rng(1)), whole
    )


def test_image_weights_have_the_moments_of_drawing_with_replacement() -> None:
    n_images, n_resamples = 50, 4000
    weights = image_weights(n_images, n_resamples=n_resamples, rng=np.random.default_rng(2))
    assert (weights.sum(axis=1) == n_images).all()
    # Each count is binomial(n, 1/n): mean 1, variance 1 - 1/n.
    n_errors = 5
    assert np.abs(weights.mean(axis=0) - 1).max() < n_errors / math.sqrt(n_resamples)
    assert abs(weights.var() - (1 - 1 / n_images)) < 0.02


def test_archs_see_the_same_images_in_one_draw() -> None:
    outcomes = np.repeat(np.random.default_rng(0).random((1, 60)) < 0.5, 4, axis=0)
    for predicted, _ in draw_images(outcomes, [1, 2, 3, 4], n_resamples=20, rng=rng(1)):
        assert np.unique(predicted).size == 1


def test_arch_draws_keep_predictions_and_truth_together() -> None:
    predicted = np.arange(30.0)
    draws = list(draw_archs(predicted, 100 - predicted, n_resamples=10, rng=rng(0)))
    assert len(draws) == 10
    assert len({tuple(p) for p, _ in draws}) == 10
    for p, t in draws:
        assert p.shape == (30,)
        np.testing.assert_array_equal(p + t, 100)


def test_drawing_both_moves_archs_and_images() -> None:
    outcomes, truth = planted_outcomes(20, 30, rng(0))
    by_truth = dict(zip(truth, outcomes.mean(axis=1), strict=True))
    moved, repeated = 0, 0
    for p, t in draw_both(outcomes, truth, n_resamples=10, rng=rng(1)):
        assert set(t) <= set(by_truth)
        repeated += len(set(t)) < 20
        moved += any(by_truth[b] != a for a, b in zip(p, t, strict=True))
    assert (moved, repeated) == (10, 10)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def coverage_over_archs(level: float, *, n_archs: int, n_trials: int) -> float:
    rho, source = 0.6, rng(11)
    hits = 0
    for _ in range(n_trials):
        truth = source.normal(size=n_archs)
        predicted = rho * truth + math.sqrt(1 - rho**2) * source.normal(size=n_archs)
        draws = draw_archs(predicted, truth, n_resamples=80, rng=source)
        limits = interval(
            bootstrap(correlation, draws)[:, 0], level=level, value=pearson(predicted, truth)
        )
        hits += limits.low <= rho <= limits.high
    return hits / n_trials


def test_arch_intervals_cover_at_their_level() -> None:
    # 80 trials: the standard error of a share of 0.8 is 0.045; three of them.
    assert abs(coverage_over_archs(0.8, n_archs=80, n_trials=80) - 0.8) < 0.13


def test_image_intervals_cover_the_noise_free_correlation_when_basic() -> None:
    source = rng(4)
    hits = {"percentile": 0, "basic": 0}
    n_trials, n_archs, n_images = 40, 40, 600
    for _ in range(n_trials):
        skill = source.normal(0.7, 0.05, size=n_archs)
        truth = skill + source.normal(0, 0.03, size=n_archs)
        outcomes = source.random((n_archs, n_images)) < skill[:, None]
        draws = draw_images(outcomes, truth, n_resamples=60, rng=source)
        samples = bootstrap(correlation, draws)[:, 0]
        value = pearson(outcomes.mean(axis=1), truth)
        for kind in hits:
            limits = interval(samples, level=0.9, value=value, kind=kind)  # type: ignore[arg-type]
            hits[kind] += limits.low <= pearson(skill, truth) <= limits.high
    # The percentile interval sits too low, because a resample holds the noise of the images twice.
    assert hits["basic"] / n_trials > 0.75
    assert hits["percentile"] < 0.75 * hits["basic"]


def test_intervals_are_quantiles_of_the_samples() -> None:
    samples = np.arange(101.0)
    limits = interval(samples, level=0.9, value=40)
    assert (limits.low, limits.high) == pytest.approx((5, 95), rel=0, abs=1e-9)
    mirrored = interval(samples, level=0.9, value=40, kind="basic")
    assert (mirrored.low, mirrored.high) == pytest.approx((-15, 75), rel=0, abs=1e-9)
    cut = interval(samples, level=0.9, value=40, kind="basic", bounds=(0, 50))
    assert (cut.low, cut.high) == (0, 50)


def test_resamples_without_a_value_are_left_out_and_counted() -> None:
    limits = interval([1, math.nan, 2, math.nan, 3], level=0.5, value=2)
    assert (limits.low, limits.high, limits.n_undefined) == (1.5, 2.5, 2)
    assert limits.n_resamples == 5
    for nothing in ([], [math.nan, math.nan]):
        empty = interval(nothing, level=0.5, value=2)
        assert math.isnan(empty.low)
        assert math.isnan(empty.high)


def test_the_seed_decides_the_draws() -> None:
    outcomes, truth = planted_outcomes(20, 50, rng(0))

    def samples(seed: int) -> list[float]:
        draws = draw_both(outcomes, truth, n_resamples=5, rng=rng(seed))
        return bootstrap(lambda p, t: np.array([kendall_tau(p, t)]), draws)[:, 0].tolist()

    assert samples(1) == samples(1)
    assert samples(1) != samples(2)


@pytest.mark.parametrize(
    ("outcomes", "error", "message"),
    [
        (np.ones((3, 5)), OptionError, "float64"),
        (np.ones((3, 5), dtype=np.uint8), OptionError, "unpackbits"),
        (np.ones((2, 5), dtype=bool), ShapeError, r"\(3, image\), got \(2, 5\)"),
        (np.ones((3, 0), dtype=bool), ShapeError, r"got \(3, 0\)"),
        (np.ones(3, dtype=bool), ShapeError, r"got \(3,\)"),
    ],
)
def test_wrong_outcomes_are_refused(
    outcomes: np.ndarray, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        list(draw_images(outcomes, [1, 2, 3], n_resamples=1, rng=rng(0)))


def test_other_wrong_input_is_refused() -> None:
    with pytest.raises(ShapeError, match="0 archs"):
        list(draw_archs([], [], n_resamples=1, rng=rng(0)))
    with pytest.raises(ShapeError, match=r"\(2, 2\)"):
        interval(np.ones((2, 2)), level=0.9, value=1)
    for level in (0, 1, math.nan):
        with pytest.raises(OptionError, match="level"):
            interval([1.0], level=level, value=1)
    with pytest.raises(OptionError, match="'bca'"):
        interval([1.0], level=0.9, value=1, kind="bca")  # type: ignore[arg-type]
