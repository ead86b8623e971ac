import json
import math

import numpy as np
import pytest

from wsx.analysis import (
    Summary,
    SummaryOptions,
    best_rank_at,
    kendall_tau,
    precision_at,
    regret_at,
    sparse_kendall_tau,
    spearman,
    summarise,
    surpass_random,
    tau_in_top,
    top_overlap,
)
from wsx.errors import OptionError, ShapeError

N_ARCHS, N_IMAGES = 60, 200
QUICK = SummaryOptions(n_resamples=20)
# One arch of 60 has no ranking.
UNDEFINED = {"tau_in_top@0.01"}


def planted(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    skill = rng.uniform(0.3, 0.9, size=N_ARCHS)
    outcomes = rng.random((N_ARCHS, N_IMAGES)) < skill[:, None]
    return {
        "predicted": outcomes.mean(axis=1),
        "truth": np.clip(skill + rng.normal(0, 0.05, size=N_ARCHS), 0, 1),
        "outcomes": outcomes,
        "params": skill * 1e6 + rng.normal(0, 3e5, size=N_ARCHS),
        "flops": rng.random(N_ARCHS) * 1e9,
    }


@pytest.fixture(scope="module")
def summary() -> Summary:
    return summarise(**planted(), options=QUICK)


def test_progress_counts_every_resample_of_every_source() -> None:
    data, told = planted(), []
    summarise(**data, options=QUICK, on_resample=lambda done, total: told.append((done, total)))
    # Archs, images and both for the measures, archs for params and for flops.
    total = 5 * QUICK.n_resamples
    assert told == [(done, total) for done in range(1, total + 1)]
    told.clear()
    del data["outcomes"], data["params"]
    summarise(**data, options=QUICK, on_resample=lambda done, total: told.append((done, total)))
    assert told[-1] == (2 * QUICK.n_resamples, 2 * QUICK.n_resamples)


def test_every_metric_is_the_public_function_of_that_name(summary: Summary) -> None:
    data = planted()
    p, t = data["predicted"], data["truth"]
    expected = {
        "kendall_tau": kendall_tau(p, t),
        "spearman": spearman(p, t),
        "sparse_tau": sparse_kendall_tau(p, t),
        "sparse_tau_paper": sparse_kendall_tau(p, t, variant="paper"),
        "top_overlap@0.1": top_overlap(p, t, 6),
        "tau_in_top@0.25": tau_in_top(p, t, 0.25),
        "precision@5": precision_at(p, t, 5, n_good=6),
        "regret@10": regret_at(p, t, 10),
        "best_rank@10": best_rank_at(p, t, 10),
        "surpass_random@10": surpass_random(best_rank_at(p, t, 10), N_ARCHS, 10),
    }
    assert {name: summary.metrics[name].value for name in expected} == expected
    assert summary.baselines["params"]["spearman"].value == spearman(data["params"], t)
    assert summary.baselines["flops"]["kendall_tau"].value == kendall_tau(data["flops"], t)
    assert (summary.n_archs, summary.n_images) == (N_ARCHS, N_IMAGES)
    assert summary.truth_ties.n_tied_pairs == 0
    assert summary.predicted_ties.n_distinct == np.unique(p).size


def test_each_source_of_chance_has_its_interval(summary: Summary) -> None:
    tau = summary.metrics["kendall_tau"]
    assert list(tau.intervals) == ["archs", "images", "both"]
    kinds = {source: limits.kind for source, limits in tau.intervals.items()}
    assert kinds == {"archs": "percentile", "images": "basic", "both": "basic"}
    assert tau.intervals["archs"].low < tau.value < tau.intervals["archs"].high
    widths = {source: limits.high - limits.low for source, limits in tau.intervals.items()}
    assert 0 < widths["images"] < widths["both"]
    assert {i.kind for i in summary.metrics["regret@10"].intervals.values()} == {"percentile"}
    assert list(summary.baselines["params"]["spearman"].intervals) == ["archs"]
    for estimate in summary.metrics.values():
        for limits in estimate.intervals.values():
            assert limits.low <= limits.high
            assert limits.n_resamples == 20


def test_asking_for_images_does_not_change_the_rest(summary: Summary) -> None:
    data = planted()
    del data["outcomes"]
    without = summarise(**data, options=QUICK)
    assert without.n_images is None
    for name, estimate in without.metrics.items():
        np.testing.assert_array_equal(estimate.value, summary.metrics[name].value)
        of_archs = summary.metrics[name].intervals.get("archs")
        assert estimate.intervals.get("archs") == of_archs
        assert set(estimate.intervals) <= {"archs"}


def test_the_seed_decides_the_intervals_only(summary: Summary) -> None:
    again = summarise(**planted(), options=QUICK)
    assert again == summary
    other = summarise(**planted(), options=SummaryOptions(n_resamples=20, seed=1))
    assert other.metrics["spearman"].value == summary.metrics["spearman"].value
    assert other.metrics["spearman"].intervals != summary.metrics["spearman"].intervals


def test_json_holds_every_number_and_no_nan(summary: Summary) -> None:
    plain = json.loads(json.dumps(summary.as_dict(), allow_nan=False))
    assert plain["metrics"]["kendall_tau"]["value"] == summary.metrics["kendall_tau"].value
    archs = plain["metrics"]["kendall_tau"]["intervals"]["archs"]
    assert archs["low"] == summary.metrics["kendall_tau"].intervals["archs"].low
    assert plain["options"]["top_ks"] == [1, 5, 10, 50]
    broken = summarise([1, 1, 1], [1, 2, 3], options=QUICK).as_dict()
    tau = json.loads(json.dumps(broken, allow_nan=False))["metrics"]["kendall_tau"]
    assert tau["value"] is None
    assert "predicted is constant" in tau["reason"]


@pytest.mark.parametrize(
    ("predicted", "truth"),
    [
        ([], []),
        ([0.5], [0.5]),
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ([0.1, 0.2], [0.3, 0.3]),
        ([0.1, 0.1], [0.2, 0.3]),
        ([0.1, 0.2], [93.0, 94.0]),
        ([-1e300, 1e300, 0], [1e300, -1e300, 0]),
    ],
)
def test_degenerate_rankings_give_reasons(predicted: list[float], truth: list[float]) -> None:
    with_baseline = summarise(predicted, truth, params=truth, options=QUICK)
    estimates = [*with_baseline.metrics.values(), *with_baseline.baselines["params"].values()]
    for estimate in estimates:
        assert math.isnan(estimate.value) == (estimate.reason is not None)
    json.dumps(with_baseline.as_dict(), allow_nan=False)


def test_reasons_name_what_is_missing() -> None:
    metrics = summarise([0.1, 0.2, 0.3], [93.0, 94.0, 95.0], params=[7, 7, 7], options=QUICK)
    assert "accuracies in [0, 1]" in str(metrics.metrics["sparse_tau"].reason)
    assert metrics.metrics["regret@5"].reason == "k = 5 exceeds the 3 archs"
    assert "got 1" in str(metrics.metrics["tau_in_top@0.1"].reason)
    assert "params is constant" in str(metrics.baselines["params"]["pearson"].reason)
    assert "bin of truth" in str(
        summarise([0.1, 0.2], [0.90001, 0.90002], options=QUICK).metrics["sparse_tau"].reason
    )


def test_a_planted_link_shows_and_an_absent_one_does_not(summary: Summary) -> None:
    assert summary.metrics["spearman"].intervals["both"].low > 0.5
    n_errors = 4
    assert abs(summary.baselines["flops"]["spearman"].value) < n_errors / math.sqrt(N_ARCHS)


def test_every_measure_has_its_value_for_one_training_alone() -> None:
    data = planted()
    noise = np.random.default_rng(1).normal(0, 0.05, size=(3, N_ARCHS))
    runs = np.clip(data["truth"] + noise, 0, 1)
    known = summarise(data["predicted"], data["truth"], truth_runs=runs, options=QUICK)
    assert list(known.seed_against_others) == list(known.metrics)
    assert list(known.seed_against_seed) == ["kendall_tau", "spearman", "pearson"]
    # A summary of one training against the mean of the others is the same thing the long way round.
    others = [(runs[1] + runs[2]) / 2, (runs[0] + runs[2]) / 2, (runs[0] + runs[1]) / 2]
    plain = SummaryOptions(n_resamples=0)
    alone = [summarise(run, rest, options=plain) for run, rest in zip(runs, others, strict=True)]
    for name, measure in known.seed_against_others.items():
        expected = np.mean([one.metrics[name].value for one in alone])
        if name in UNDEFINED:
            assert measure.reason == alone[0].metrics[name].reason
            continue
        assert measure.value == pytest.approx(expected, rel=0, abs=1e-12), name
        assert (measure.n_compared, measure.n_archs) == (3, N_ARCHS)
    without = summarise(data["predicted"], data["truth"], options=QUICK)
    assert without.metrics == known.metrics
    assert without.seed_against_others == without.seed_against_seed == {}


def test_a_measure_without_value_for_one_training_says_why() -> None:
    runs = [[0.1, 0.2, 0.3], [0.1, 0.3, 0.2]]
    known = summarise([1, 2, 3], [0.1, 0.25, 0.25], truth_runs=runs, options=QUICK)
    assert known.seed_against_others["regret@5"].reason == "k = 5 exceeds the 3 archs"
    plain = json.loads(json.dumps(known.as_dict(), allow_nan=False))["seed_against_others"]
    assert plain["regret@5"]["value"] is None
    assert plain["kendall_tau"]["value"] == pytest.approx(1 / 3, rel=0, abs=1e-12)
    assert plain["kendall_tau"]["label"] == "one training against the mean of the others"


def test_no_resamples_no_intervals() -> None:
    plain = summarise(**planted(), options=SummaryOptions(n_resamples=0))
    assert all(not estimate.intervals for estimate in plain.metrics.values())


def test_outcomes_of_other_predictions_are_refused() -> None:
    data = planted()
    data["predicted"] = data["predicted"][::-1]
    with pytest.raises(OptionError, match="do not give their predicted accuracy"):
        summarise(**data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 1.0}, "level"),
        ({"n_resamples": -1}, "n_resamples"),
        ({"top_fractions": (0.1, 0.0)}, "got 0.0"),
        ({"good_fraction": math.nan}, "got nan"),
        ({"sparse_width": 2.0}, "got 2.0"),
        ({"top_ks": (0,)}, "top_ks"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        SummaryOptions(**options)


def test_wrong_arrays_are_refused() -> None:
    with pytest.raises(ShapeError, match="flops has 2 archs and truth has 3"):
        summarise([1, 2, 3], [1, 2, 3], flops=[1, 2])
    with pytest.raises(OptionError, match="1 of 3 values of predicted"):
        summarise([1, math.nan, 3], [1, 2, 3])
    with pytest.raises(OptionError, match="1 of 3 values of params"):
        summarise([1, 2, 3], [1, 2, 3], params=[1, math.inf, 3])
    with pytest.raises(ShapeError, match="truth_runs has 12 archs and truth has 3"):
        summarise([1, 2, 3], [1, 3, 2], truth_runs=np.ones((3, 12)))
    with pytest.raises(ShapeError, match=r"\(run, arch\)"):
        summarise([1, 2], [1, 2], truth_runs=[1, 2])
