"""Published figures, recomputed from the tables that lie beside the checkout where they are at all."""

import csv
from pathlib import Path

import numpy as np
import pytest

from wsx.analysis import (
    Resampling,
    explained_share,
    gt_tau,
    option_means,
    pruning_value,
    s_tau,
    seed_against_seed,
    spearman,
    truth_stability,
)
from wsx.analysis.metrics import correlation_metrics

DATA = Path(__file__).parents[2] / "shared" / "data"
NONE = Resampling(n_resamples=0)


def table(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs the ground-truth table {name} beside the checkout")
    return path


def columns(name: str, *names: str) -> list[np.ndarray]:
    path = table(name)
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(path, columns=list(names))
    return [rows[column].to_numpy() for column in names]


@pytest.fixture(scope="module")
def cell64() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with table("cell64/ground_truth.csv").open() as file:
        rows = list(csv.DictReader(file))
    archs = np.array([[int(digit) for digit in row["arch"]] for row in rows])
    numbers = [[float(row[key]) for row in rows] for key in ("accuracy_mean", "accuracy_std")]
    return archs, np.array(numbers[0]), np.array(numbers[1])


def test_marginals_of_the_64_arch_cell(cell64) -> None:
    archs, mean, std = cell64
    found = [
        (m.decision, m.option, round(100 * m.accuracy.mean, 2)) for m in option_means(archs, mean)
    ]
    published = [
        [80.91, 83.24, 83.83, 83.90],
        [81.17, 83.30, 83.80, 83.62],
        [81.05, 83.25, 83.90, 83.68],
    ]
    assert found == [(d, o + 1, published[d][o]) for d in range(3) for o in range(4)]
    assert 100 * mean.mean() == pytest.approx(82.97, rel=0, abs=5e-3)
    assert 100 * mean.std(ddof=1) == pytest.approx(2.25, rel=0, abs=3e-2)
    assert 100 * std.mean() == pytest.approx(0.42, rel=0, abs=5e-3)


def test_ceilings_of_the_64_arch_cell_follow_from_its_deviations(cell64) -> None:
    _, mean, std = cell64
    rng = np.random.default_rng(0)
    pairs, against, tops = [], [], []
    for _ in range(20):
        # The table has mean and deviation of ten seeds, not the seeds: drawn as normal.
        seeds = mean + std * rng.normal(size=(10, 64))
        pairs.append(s_tau(seeds, resampling=NONE).s_tau.value)
        truth = truth_stability(seeds, seeds.mean(axis=0), ks=(1, 3))
        against.append(truth["gt_tau"].mean)
        tops.append([truth["best_rank@1"].mean, truth["best_rank@3"].mean])
    # One draw of ten seeds moves S-Tau by 0.008 and GT-Tau by 0.006.
    assert np.mean(pairs) == pytest.approx(0.7120, rel=0, abs=3 * 0.008)
    assert np.mean(against) == pytest.approx(0.7985, rel=0, abs=3 * 0.006)
    # Published are the means of ten seeds, 4.8 and 1.6; here twenty such means with their deviation.
    gap = np.abs(np.mean(tops, axis=0) - [4.8, 1.6])
    assert (gap < 2 * np.std(tops, axis=0, ddof=1)).all()
    assert (np.std(tops, axis=0, ddof=1) < [2, 1]).all()


def test_two_seeds_of_the_recurrent_cells_agree_as_published() -> None:
    first, second = columns("ptb/ground_truth.parquet", "valid_ppl", "valid_ppl_seed43")
    both = np.isfinite(second.astype(float))
    runs = -np.stack([first[both], second[both].astype(float)])
    assert runs.shape == (2, 93)
    ceiling = {m.name: seed_against_seed(m, runs).value for m in correlation_metrics(0.001)[:2]}
    assert ceiling["kendall_tau"] == pytest.approx(0.715, rel=0, abs=5e-4)
    assert ceiling["spearman"] == pytest.approx(0.880, rel=0, abs=5e-4)
    assert s_tau(runs, resampling=NONE).s_tau.value == pytest.approx(
        ceiling["kendall_tau"], rel=0, abs=1e-12
    )


def test_two_seeds_of_darts_agree_as_published() -> None:
    first, second = columns("darts/ground_truth.parquet", "accuracy", "accuracy_seed43")
    both = np.isfinite(second.astype(float))
    runs = np.stack([first[both], second[both].astype(float)])
    tau = s_tau(runs, resampling=NONE).s_tau.value
    assert tau == pytest.approx(0.584, rel=0, abs=5e-4)
    assert gt_tau(runs[:1], runs[1])[0] == pytest.approx(tau, rel=0, abs=1e-12)
    assert spearman(*runs) == pytest.approx(0.771, rel=0, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "of_params", "of_flops"),
    [("darts", 0.52, 0.58), ("proxylessnas", 0.50, 0.56)],
)
def test_sizes_alone_rank_as_published(name: str, of_params: float, of_flops: float) -> None:
    path = f"{name}/ground_truth.parquet"
    accuracy, params, flops = columns(path, "accuracy", "params", "flops")
    assert spearman(params, accuracy) == pytest.approx(of_params, rel=0, abs=5e-3)
    assert spearman(flops, accuracy) == pytest.approx(of_flops, rel=0, abs=5e-3)
    share = explained_share(accuracy, flops, resampling=Resampling(n_resamples=200))
    assert share.intervals["archs"].low > 0


def test_twelve_epochs_prune_nas_bench_201_well() -> None:
    short, full, params = columns(
        "nb201/ground_truth.parquet", "cifar10_valid_12ep", "cifar10_test", "params"
    )
    known = np.isfinite(short)
    rows = pruning_value(
        short[known],
        full[known],
        keep_fractions=(0.001, 0.5),
        sizes={"params": params[known]},
        resampling=NONE,
    )
    by = {(row.criterion, row.keep_fraction): row for row in rows}
    assert by["predicted", 0.5].top_kept.value == 1
    assert by["predicted", 0.5].loss.value == 0
    assert by["random", 0.5].top_kept.value == pytest.approx(0.5, rel=0, abs=1e-3)
    # Room for 16 archs, all of which could be among the best 156.
    assert by["predicted", 0.001].top_kept.value < 16 / 156
    assert by["params", 0.5].top_kept.value > by["random", 0.5].top_kept.value
