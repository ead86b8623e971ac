import math

import numpy as np
import pytest

from wsx.analysis import (
    Resampling,
    final_performance,
    kendall_tau,
    metric_correlations,
    rank_percentiles,
    spearman,
    subset_tau,
    surpass_random,
)
from wsx.errors import OptionError, ShapeError

QUICK = Resampling(n_resamples=40)


def population(n_archs: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.random(n_archs)
    return truth + 0.3 * rng.random(n_archs), truth


def test_the_top_is_described_by_its_truth() -> None:
    predicted, truth = population(50)
    found = final_performance(predicted, truth, 5, resampling=QUICK)
    top = np.argsort(-predicted)[:5]
    rank = np.count_nonzero(truth >= truth[top].max())
    expected = {
        "mean_truth": truth[top].mean(),
        "std_truth": truth[top].std(),
        "best_truth": truth[top].max(),
        "best_rank": rank,
        "surpass_random": surpass_random(rank, 50, 5),
    }
    values = {name: estimate.value for name, estimate in found.items()}
    assert values == pytest.approx(expected, rel=0, abs=1e-12)
    for estimate in found.values():
        limits = estimate.intervals["archs"]
        assert limits.low <= estimate.value <= limits.high


def test_percentiles_are_ranks_of_the_top() -> None:
    predicted, truth = population(60)
    found = rank_percentiles(predicted, truth, ks=(3, 4, 80), resampling=QUICK)
    rank = {arch: np.count_nonzero(truth >= truth[arch]) for arch in range(60)}
    for k in (3, 4):
        ranks = [rank[arch] for arch in np.argsort(-predicted)[:k]]
        expected = {"best": min(ranks), "median": np.median(ranks), "worst": max(ranks)}
        values = {name: 60 * estimate.value for name, estimate in found[k].items()}
        assert values == pytest.approx(expected, rel=0, abs=1e-9)
    assert math.isnan(found[80]["best"].value)
    assert found[80]["best"].reason == "k = 80 exceeds the 60 archs"


def test_constant_predictions_end_where_chance_ends() -> None:
    truth = np.arange(1.0, 10.0)
    found = rank_percentiles(np.ones(9), truth, ks=(3,), resampling=QUICK)[3]
    # The best of 3 out of 9 has mean rank (9 + 1) / (3 + 1), the worst 3 times that.
    values = [9 * found[name].value for name in ("best", "median", "worst")]
    assert values == pytest.approx([2.5, 5, 7.5], rel=0, abs=1e-9)
    top = final_performance(np.ones(9), truth, 3, resampling=QUICK)
    assert top["mean_truth"].value == pytest.approx(5, rel=0, abs=1e-12)
    assert top["std_truth"].value == pytest.approx(truth.std(), rel=0, abs=1e-12)


def test_small_subsets_scatter_more() -> None:
    predicted, truth = population(300)
    found = subset_tau(predicted, truth, sizes=(10, 100, 400), n_subsets=40)
    whole = kendall_tau(predicted, truth)
    for size in (10, 100):
        assert found[size].values.size == 40
        assert abs(found[size].mean - whole) < 4 * found[size].std / math.sqrt(40)
    assert found[10].std > 2 * found[100].std
    assert math.isnan(found[400].mean)
    assert found[400].reason == "no run has a value: 0 of 0 have one"
    again = subset_tau(predicted, truth, sizes=(10,), n_subsets=40)
    np.testing.assert_array_equal(again[10].values, found[10].values)


def test_the_measure_that_foretells_is_told_from_the_one_that_does_not() -> None:
    rng = np.random.default_rng(3)
    quality = rng.normal(size=80)
    accuracies = rng.uniform(0.2, 0.9, size=80)
    accuracies[:9] = 0.1
    final = quality + 0.3 * rng.normal(size=80)
    tau = quality + 0.3 * rng.normal(size=80)
    tau[[20, 30]] = math.nan
    found = metric_correlations(
        {"sparse_tau": tau, "accuracy": accuracies}, final, accuracies, resampling=QUICK
    )
    assert (found.n_trainings, found.n_untrained) == (71, 9)
    assert found.n_undefined == {"sparse_tau": 2, "accuracy": 0}
    used = (accuracies > 0.15) & np.isfinite(tau)
    good = found.correlations["sparse_tau"]["spearman"]
    assert good.value == spearman(tau[used], final[used])
    assert list(good.intervals) == ["trainings"]
    assert good.intervals["trainings"].low > 0.5
    bad = found.correlations["accuracy"]["spearman"]
    assert abs(bad.value) < 4 / math.sqrt(71)


def clustered(rng: np.random.Generator, n_groups: int, n_seeds: int) -> tuple:
    """A measure and ends that have nothing to do with each other, alike within groups."""
    columns = [
        rng.normal(size=(n_groups, 1)) + 0.2 * rng.normal(size=(n_groups, n_seeds)) for _ in "ab"
    ]
    return columns[0].ravel(), columns[1].ravel(), np.repeat(np.arange(n_groups), n_seeds)


def test_groups_are_drawn_as_wholes() -> None:
    rng, n_trials, missed = np.random.default_rng(8), 100, {"groups": 0, "trainings": 0}
    for seed in range(n_trials):
        measure, final, groups = clustered(rng, 20, 4)
        for name, given in (("groups", groups), ("trainings", None)):
            found = metric_correlations(
                {"m": measure},
                final,
                np.ones(80),
                groups=given,
                resampling=Resampling(n_resamples=200, seed=seed),
            ).correlations["m"]["spearman"]
            assert list(found.intervals) == [name]
            missed[name] += not found.intervals[name].low < 0 < found.intervals[name].high
    # Bootstrap intervals of 20 cases miss somewhat more than 5 %; standard error 2.5 of 100.
    assert missed["groups"] <= 7 + 3 * 2.5
    assert missed["trainings"] > 25


def test_copies_of_a_training_add_nothing() -> None:
    rng = np.random.default_rng(9)
    measure, final = rng.normal(size=(2, 15))
    once, thrice = (
        metric_correlations(
            {"m": np.repeat(measure, n)},
            np.repeat(final, n),
            np.ones(15 * n),
            groups=np.repeat(np.arange(15), n),
            resampling=QUICK,
        ).correlations["m"]["spearman"]
        for n in (1, 3)
    )
    assert thrice.value == pytest.approx(once.value, rel=0, abs=1e-12)
    one, other = once.intervals["groups"], thrice.intervals["groups"]
    assert (other.low, other.high) == pytest.approx((one.low, one.high), rel=0, abs=1e-12)


def test_trainings_that_all_failed_give_reasons() -> None:
    found = metric_correlations(
        {"tau": [math.nan] * 3}, [1, 2, 3], [0.1, 0.1, 0.9], resampling=QUICK
    )
    assert (found.n_trainings, found.n_untrained, found.n_undefined["tau"]) == (1, 2, 1)
    estimate = found.correlations["tau"]["kendall_tau"]
    assert math.isnan(estimate.value)
    assert estimate.reason == "a correlation needs at least 2 trainings, got 0"
    flat = metric_correlations({"tau": [1, 1, 1]}, [1, 2, 3], [0.9] * 3, resampling=QUICK)
    assert "tau is constant" in str(flat.correlations["tau"]["pearson"].reason)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: final_performance([1, 2], [1, 2], 3), OptionError, r"1\.\.2, got 3"),
        (lambda: final_performance([1, math.nan], [1, 2], 1), OptionError, "1 of 2 values"),
        (lambda: rank_percentiles([1], [1, 2]), ShapeError, "predicted has 1"),
        (lambda: rank_percentiles([1, 2], [1, 2], ks=(0,)), OptionError, r"1\.\.2, got 0"),
        (lambda: subset_tau([1, 2], [1, 2], sizes=(0,)), OptionError, "1 or more"),
        (
            lambda: metric_correlations({"a": [1]}, [1, 2], [1, 1]),
            ShapeError,
            r"a has shape \(1,\)",
        ),
        (
            lambda: metric_correlations({"a": [1, 2]}, [1, 2], [1, 1], groups=[0]),
            ShapeError,
            r"groups has shape \(1,\)",
        ),
        (
            lambda: metric_correlations({}, [1, math.nan], [1, 1]),
            OptionError,
            "1 of 2 values of final",
        ),
    ],
)
def test_wrong_input_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
