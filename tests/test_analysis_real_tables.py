from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from wsx.analysis import (
    SummaryOptions,
    kendall_tau,
    pearson,
    seed_against_seed,
    spearman,
    summarise,
    tau_in_top,
    top_overlap,
)
from wsx.analysis.metrics import correlation_metrics

DATA = Path(__file__).parents[2] / "shared" / "data"


def columns(table: str, *names: str) -> list[np.ndarray]:
    path = DATA / table
    if not path.exists():
        pytest.skip(f"needs the ground-truth table {path.name} beside the checkout")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(path, columns=list(names))
    return [rows[name].to_numpy() for name in names]


def test_all_of_nas_bench_201_agrees_with_scipy() -> None:
    ten, hundred, params = columns(
        "nb201/ground_truth.parquet", "cifar10_test", "cifar100_test", "params"
    )
    exact = {"rel": 0, "abs": 1e-12}
    for a, b in [(ten, hundred), (params, ten)]:
        assert kendall_tau(a, b) == pytest.approx(scipy.stats.kendalltau(a, b).statistic, **exact)
        assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic, **exact)
        assert pearson(a, b) == pytest.approx(scipy.stats.pearsonr(a, b).statistic, **exact)
    summary = summarise(
        hundred / 100, ten / 100, params=params, options=SummaryOptions(n_resamples=2)
    )
    assert summary.n_archs == 15_625
    assert summary.metrics["kendall_tau"].value == kendall_tau(hundred, ten)
    assert summary.baselines["params"]["spearman"].value == spearman(params, ten)
    assert summary.metrics["spearman"].value > summary.baselines["params"]["spearman"].value


def test_twelve_epochs_rank_the_top_worse_than_the_whole() -> None:
    short, full = columns("nb201/ground_truth.parquet", "cifar10_test_12ep", "cifar10_test")
    known = np.isfinite(short)
    short, full = short[known], full[known]
    top = np.argsort(-full, kind="stable")[: round(0.1 * full.size)]
    assert set(full[top]) == set(full[full >= full[top].min()])
    inside = full >= full[top].min()
    expected = scipy.stats.kendalltau(short[inside], full[inside]).statistic
    assert tau_in_top(short, full, 0.1) == pytest.approx(expected, rel=0, abs=1e-12)
    assert tau_in_top(short, full, 0.1) < kendall_tau(short, full)
    assert 0.1 < top_overlap(short, full, top.size) < 1


def test_two_seeds_of_darts_truth_agree_as_published() -> None:
    first, second = columns("darts/ground_truth.parquet", "accuracy", "accuracy_seed43")
    both = np.isfinite(second.astype(float))
    runs = np.stack([first[both], second[both].astype(float)])
    ceiling = {m.name: seed_against_seed(m, runs).value for m in correlation_metrics(0.001)[:2]}
    assert runs.shape[1] == 101
    assert ceiling["kendall_tau"] == pytest.approx(0.584, rel=0, abs=5e-4)
    assert ceiling["spearman"] == pytest.approx(0.771, rel=0, abs=5e-4)
