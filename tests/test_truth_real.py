from pathlib import Path

import numpy as np
import pytest

from wsx.truth import load_truth

SHARED = Path(__file__).parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared truth tables are not here")

NB201 = SHARED / "nb201" / "ground_truth.parquet"
NATS = SHARED / "nb201" / "NATS-tss-v1_0-3ffb9-simple"


@pytest.mark.parametrize(
    ("column", "best", "accuracy"),
    [
        ("cifar10_test", 6111, 0.943733),
        ("cifar100_test", 9930, 0.735133),
        ("imagenet16_test", 857, 0.473111),
    ],
)
def test_nasbench201_best_archs_are_the_published_ones(column, best, accuracy):
    table = load_truth(f"{NB201}:{column}")
    assert len(table) == 15_625
    assert int(np.argmax(table.accuracy)) == best
    assert abs(table.accuracy[best] - accuracy) < 1e-9


@pytest.mark.parametrize(
    ("nats", "column"),
    [
        ("cifar10_test", "cifar10_test"),
        ("cifar100_test", "cifar100_test"),
        ("ImageNet16-120_test", "imagenet16_test"),
        ("cifar10_test@12", "cifar10_test_12ep"),
        ("cifar10-valid_valid@12", "cifar10_valid_12ep"),
        ("cifar100_valid@12", "cifar100_valid_12ep"),
        ("ImageNet16-120_valid@12", "imagenet16_valid_12ep"),
    ],
)
def test_original_records_agree_with_the_table_of_others(nats, column):
    records, table = load_truth(f"{NATS}:{nats}"), load_truth(f"{NB201}:{column}")
    rows, is_there = table.align(records.texts)
    assert is_there.all()
    assert rows.tolist() == [0, 11, 284]
    # The table rounds percents to four decimals.
    assert np.all(np.abs(records.accuracy - table.accuracy[rows]) < 0.6e-6)
    if nats.startswith("cifar10_"):
        assert np.array_equal(records.params, table.params[rows])
        assert np.array_equal(records.flops, table.flops[rows])


@pytest.mark.parametrize(
    ("spec", "n_archs", "kendall", "spearman"),
    [
        ("darts/ground_truth.parquet:accuracy,accuracy_seed43", 101, 0.584, 0.771),
        ("macro/ground_truth.parquet:test_acc_1,test_acc_2,test_acc_3", 6561, None, None),
    ],
)
def test_agreement_between_seeds(spec, n_archs, kendall, spearman):
    agreement = load_truth(f"{SHARED}/{spec}").seed_agreement()
    assert agreement.n_archs == n_archs
    if kendall is not None:
        assert abs(agreement.kendall - kendall) < 5e-4
        assert abs(agreement.spearman - spearman) < 5e-4
    assert agreement.spearman > agreement.kendall > 0.5


def test_csv_of_the_small_cell():
    table = load_truth(f"{SHARED}/cell64/ground_truth.csv:accuracy_mean")
    assert len(table) == 64
    assert table.texts[0] == "111"
    assert table.accuracy[0] == 0.70139


def test_macro_mean_column_agrees_with_its_runs():
    path = SHARED / "macro" / "ground_truth.parquet"
    mean = load_truth(f"{path}:test_acc_mean")
    runs = load_truth(f"{path}:test_acc_1,test_acc_2,test_acc_3")
    assert mean.texts == runs.texts
    assert np.all(np.abs(mean.accuracy - runs.accuracy) < 1e-6)
