import math

import numpy as np
import pytest

from wsx.analysis import Resampling, VarianceSplit, split_variance
from wsx.errors import OptionError, ShapeError

NAMES = ["arch", "run", "checkpoint", "arch_by_run", "remainder"]
SIZES = np.array([0.03, 0.02, 0.01, 0.015, 0.008])
NONE = Resampling(n_resamples=0)


def planted(n_runs: int, n_checkpoints: int, n_archs: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shapes = [(1, 1, n_archs), (n_runs, 1, 1), (n_runs, n_checkpoints, 1)]
    shapes += [(n_runs, 1, n_archs), (n_runs, n_checkpoints, n_archs)]
    table = np.full((n_runs, n_checkpoints, n_archs), 0.7)
    for size, shape in zip(SIZES, shapes, strict=True):
        table = table + size * rng.normal(size=shape)
    return table


def variances(found: VarianceSplit) -> list[float]:
    return [found.components[name].variance for name in NAMES]


def analysis_of_variance(y: np.ndarray) -> list[float]:
    """Mean squares by explicit sums of deviations, solved for the components."""
    r, c, a = y.shape
    mean, arch, run = y.mean(), y.mean(axis=(0, 1)), y.mean(axis=(1, 2))
    cell, pair = y.mean(axis=2), y.mean(axis=1)
    ms_arch = r * c * ((arch - mean) ** 2).sum() / (a - 1)
    ms_run = c * a * ((run - mean) ** 2).sum() / (r - 1)
    ms_checkpoint = a * ((cell - run[:, None]) ** 2).sum() / (r * (c - 1))
    ms_pair = c * ((pair - arch - run[:, None] + mean) ** 2).sum() / ((a - 1) * (r - 1))
    rest = y - pair[:, None] - cell[:, :, None] + run[:, None, None]
    ms_rest = (rest**2).sum() / (r * (c - 1) * (a - 1))
    return [
        (ms_arch - ms_pair) / (r * c),
        (ms_run - ms_pair - ms_checkpoint + ms_rest) / (c * a),
        (ms_checkpoint - ms_rest) / a,
        (ms_pair - ms_rest) / c,
        ms_rest,
    ]


def test_components_are_those_of_the_analysis_of_variance() -> None:
    table = planted(4, 3, 7, seed=0)
    expected = analysis_of_variance(table)
    assert variances(split_variance(table, resampling=NONE)) == pytest.approx(
        expected, rel=1e-9, abs=0
    )
    # Far from 0 the products are large and their differences small.
    shifted = variances(split_variance(table + 1e6, resampling=NONE))
    assert shifted == pytest.approx(expected, rel=1e-4, abs=0)


def test_two_way_tables_agree_with_textbook_mean_squares() -> None:
    y = planted(5, 1, 6, seed=1)[:, 0]
    mean, arch, run = y.mean(), y.mean(axis=0), y.mean(axis=1)
    ms_arch, ms_run = 5 * arch.var(ddof=1), 6 * run.var(ddof=1)
    ms_rest = ((y - arch - run[:, None] + mean) ** 2).sum() / (4 * 5)
    expected = [(ms_arch - ms_rest) / 5, (ms_run - ms_rest) / 6, ms_rest]
    one_checkpoint = split_variance(y[:, None], resampling=NONE).components
    found = [one_checkpoint[name].variance for name in ("arch", "run", "remainder")]
    assert found == pytest.approx(expected, rel=1e-9, abs=0)
    one_run = split_variance(y[None], resampling=NONE).components
    found = [one_run[name].variance for name in ("arch", "checkpoint", "remainder")]
    assert found == pytest.approx(expected, rel=1e-9, abs=0)
    for split, missing in ((one_checkpoint, "checkpoint"), (one_run, "run")):
        assert math.isnan(split[missing].variance)
        assert "needs 2" in str(split[missing].reason)
        assert math.isnan(split["arch_by_run"].variance)
    assert one_run["arch"].label == "arch, and arch x run"


def test_planted_components_are_recovered_within_their_errors() -> None:
    found = np.array(
        [variances(split_variance(planted(6, 3, 30, s), resampling=NONE)) for s in range(60)]
    )
    error = found.std(axis=0, ddof=1) / math.sqrt(60)
    assert (np.abs(found.mean(axis=0) - SIZES**2) < 4 * error).all()
    assert (error < 0.15 * SIZES**2).all()


def test_intervals_cover_planted_components() -> None:
    hits, n_trials = np.zeros(5), 40
    for seed in range(n_trials):
        resampling = Resampling(n_resamples=100, level=0.9, seed=seed)
        split = split_variance(planted(10, 2, 30, seed + 100), resampling=resampling)
        for i, name in enumerate(NAMES):
            limits = split.components[name].interval
            assert limits is not None
            hits[i] += limits.low <= SIZES[i] ** 2 <= limits.high
    # A share of 0.9 in 40 trials has standard error 0.05. Ten runs are few for the run component.
    assert (hits / n_trials > [0.7, 0.6, 0.7, 0.7, 0.7]).all()


def test_resamples_count_pairs_of_different_runs_and_archs_only() -> None:
    table = planted(3, 2, 4, seed=2)
    resampling = Resampling(n_resamples=5, level=0.6, seed=1)
    rngs = resampling.rngs(2)
    run_weights, arch_weights = resampling.weights(3, rngs[0]), resampling.weights(4, rngs[1])
    slow = [arch_component(table, w, v) for w, v in zip(run_weights, arch_weights, strict=True)]
    limits = split_variance(table, resampling=resampling).components["arch"].interval
    assert limits is not None
    expected = np.nanquantile(slow, [0.2, 0.8])
    assert [limits.low, limits.high] == pytest.approx(expected.tolist(), rel=1e-9, abs=0)


def arch_component(table: np.ndarray, runs: np.ndarray, archs: np.ndarray) -> float:
    """Mean product over two runs and one arch, minus that over two runs and two archs."""
    y = (table - table.mean()).mean(axis=1)
    sums = {True: [0.0, 0.0], False: [0.0, 0.0]}
    for r, first in enumerate(y):
        for q, second in enumerate(y):
            for a in range(4):
                for b in range(4):
                    if r == q:
                        continue
                    weight = runs[r] * runs[q] * (archs[a] if a == b else archs[a] * archs[b])
                    sums[a == b][0] += weight * first[a] * second[b]
                    sums[a == b][1] += weight
    if not sums[True][1] or not sums[False][1]:
        return math.nan
    return sums[True][0] / sums[True][1] - sums[False][0] / sums[False][1]


def test_binomial_noise_is_taken_from_the_remainder() -> None:
    rng = np.random.default_rng(0)
    skill = np.clip(planted(5, 3, 40, seed=4), 0, 1)
    table = rng.binomial(200, skill) / 200
    noisy = split_variance(table, resampling=NONE).components
    clean = split_variance(table, n_images=200, resampling=NONE).components
    binomial = (table * (1 - table)).mean() / 199
    assert clean["images"].variance == pytest.approx(binomial, rel=1e-12, abs=0)
    lost = noisy["remainder"].variance - clean["remainder"].variance
    assert lost == pytest.approx(binomial, rel=1e-9, abs=0)
    assert noisy["remainder"].variance > 8 * SIZES[4] ** 2
    # 5 x 2 x 39 free cells of variance 0.001: an error of the remainder of 0.00007.
    assert abs(clean["remainder"].variance - SIZES[4] ** 2) < 4 * 7.2e-5
    assert math.isnan(noisy["images"].variance)
    assert "number of images" in str(noisy["images"].reason)


def test_images_seen_by_all_make_less_noise_than_binomial() -> None:
    rng = np.random.default_rng(0)
    n_images = 400
    skill = planted(4, 2, 25, seed=5)
    # Easy and hard images: most of the variance of an outcome is common to all cells.
    ease = rng.normal(0, 0.25, size=n_images)
    outcomes = rng.random((*skill.shape, n_images)) < np.clip(skill[..., None] + ease, 0, 1)
    table = outcomes.mean(axis=-1)
    true = split_variance(
        np.clip(skill[..., None] + ease, 0, 1).mean(axis=-1), resampling=NONE
    ).components
    measured = split_variance(table, outcomes=outcomes, resampling=NONE).components
    binomial = split_variance(table, n_images=n_images, resampling=NONE).components
    # 4 x 1 x 24 free cells of variance 0.00035: an error of 0.00005.
    assert abs(measured["remainder"].variance - true["remainder"].variance) < 4 * 5e-5
    assert measured["images"].variance < 0.85 * binomial["images"].variance
    parts = [measured[name].variance for name in NAMES]
    raw = [split_variance(table, resampling=NONE).components[name].variance for name in NAMES]
    assert sum(raw) - sum(parts) == pytest.approx(measured["images"].variance, rel=1e-9, abs=0)


def test_shares_add_up_and_constant_tables_have_none() -> None:
    split = split_variance(planted(3, 3, 9, seed=7), resampling=Resampling(n_resamples=30))
    assert sum(split.components[name].share for name in NAMES) == pytest.approx(1, rel=0, abs=1e-12)
    limits = split.components["arch"].share_interval
    assert limits is not None
    assert 0 <= limits.low < limits.high <= 1
    still = split_variance(np.full((2, 2, 3), 0.7)).components["arch"]
    assert still.variance == 0
    assert math.isnan(still.share)
    assert still.reason == "no component is above 0"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: split_variance(np.zeros((2, 3))), ShapeError, r"\(run, checkpoint, arch\)"),
        (lambda: split_variance(np.zeros((1, 1, 9))), ShapeError, r"\(1, 1, 9\)"),
        (lambda: split_variance(np.zeros((3, 3, 1))), ShapeError, "2 archs"),
        (lambda: split_variance(np.full((2, 2, 2), math.nan)), OptionError, "8 of 8 values"),
        (lambda: split_variance(np.full((2, 2, 2), 70.0), n_images=9), OptionError, "in 70..70"),
        (lambda: split_variance(np.full((2, 2, 2), 0.7), n_images=1), OptionError, "got 1 images"),
        (
            lambda: split_variance(np.zeros((2, 2, 2)), outcomes=np.ones((2, 2, 2, 5))),
            ShapeError,
            "float64",
        ),
        (
            lambda: split_variance(np.zeros((2, 2, 2)), outcomes=np.ones((2, 2, 2, 5), dtype=bool)),
            OptionError,
            "do not give the accuracies",
        ),
    ],
)
def test_wrong_input_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
