import itertools
from dataclasses import replace

import numpy as np
import pytest

from wsx.errors import ShapeError, TruthError
from wsx.truth import TruthTable

PER_SEED = np.array([[0.5, 0.7, np.nan], [0.8, 0.8, 0.8], [0.1, np.nan, np.nan], [0.9, 0.6, 0.3]])
OUTSIDE = np.outer([1, 0, 0, 0], [0.6, -0.6, 0])


def make(**changes):
    fields = {
        "space": "toy",
        "dataset": "digits",
        "split": "test",
        "source": "made up",
        "texts": ("a", "b", "c", "d"),
        "accuracy": np.array([0.6, 0.8, 0.1, 0.6]),
        "per_seed": PER_SEED,
        "params": np.array([10, 20, 30, 40]),
        "flops": np.array([1, 2, 3, 4]),
    }
    return TruthTable(**(fields | changes))


def test_align_finds_rows_and_marks_missing_archs():
    rows, is_there = make().align(["d", "x", "a", "d"])
    assert rows.tolist() == [3, -1, 0, 3]
    assert is_there.tolist() == [True, False, True, True]
    rows, is_there = make().align([])
    assert (rows.shape, rows.dtype, is_there.dtype) == ((0,), np.int64, np.bool_)


def test_only_keeps_some_archs_in_an_order():
    table = make().only(["d", "b"])
    assert table.texts == ("d", "b")
    assert table.accuracy.tolist() == [0.6, 0.8]
    assert table.per_seed.tolist() == [[0.9, 0.6, 0.3], [0.8, 0.8, 0.8]]
    assert (table.params.tolist(), table.flops.tolist()) == ([40, 20], [4, 2])
    assert make(per_seed=None, params=None).only(["a"]).params is None
    with pytest.raises(TruthError, match="lacks 2 of 3 archs, first 'x'"):
        make().only(["a", "x", "y"])
    with pytest.raises(TruthError, match="holds no arch"):
        make().only([])


def test_digest_sees_every_field_but_info():
    table = make()
    seeds = PER_SEED.copy()
    seeds[1] = [0.7, 0.9, 0.8]
    changed = [
        make(space="x"),
        make(dataset="x"),
        make(split="x"),
        make(source="x"),
        make(texts=("a", "b", "d", "c")),
        make(accuracy=np.array([0.6, 0.8, 0.100001, 0.6])),
        make(per_seed=seeds),
        make(per_seed=None),
        make(params=None),
        make(flops=None),
        make(params=None, flops=table.params),
        make(params=np.array([10, 20, 30, 41])),
    ]
    assert len({table.digest, *(other.digest for other in changed)}) == len(changed) + 1
    assert table.digest == make(info={"x": 1}).digest


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"texts": ()}, TruthError, "holds no arch"),
        ({"texts": ("a", "b", "b", "d")}, TruthError, "names arch 'b' twice"),
        ({"accuracy": np.array([0.6, 0.8, np.nan, 0.6])}, TruthError, "'c' the accuracy nan"),
        ({"accuracy": np.array([0.6, 80.0, 0.1, 0.6])}, TruthError, "'b' the accuracy 80.0"),
        ({"accuracy": np.array([0.6, -0.1, 0.1, 0.6])}, TruthError, "'b' the accuracy -0.1"),
        ({"accuracy": np.array([0.6, 0.8, 0.1, 0.7])}, TruthError, "'d'.*mean of their trainings"),
        ({"accuracy": np.ones(3)}, ShapeError, "accuracy must have shape"),
        ({"params": np.ones(5, np.int64)}, ShapeError, "params must have shape"),
        ({"per_seed": np.ones(4)}, ShapeError, "per_seed must have shape"),
        ({"per_seed": np.ones((4, 0))}, ShapeError, "per_seed must have shape"),
        ({"per_seed": PER_SEED * np.nan}, TruthError, "'a'"),
        ({"per_seed": PER_SEED + OUTSIDE}, TruthError, "'a' the accuracy 1.1"),
    ],
)
def test_tables_that_lie_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        make(**change)


def slow_tau_b(one, other):
    agree = n_one = n_other = 0
    for i, j in itertools.combinations(range(len(one)), 2):
        a, b = np.sign(one[i] - one[j]), np.sign(other[i] - other[j])
        agree, n_one, n_other = agree + a * b, n_one + a * a, n_other + b * b
    return agree / np.sqrt(n_one * n_other)


def slow_spearman(one, other):
    def ranks(values):
        return [np.mean([np.sum(values < v), np.sum(values <= v) - 1]) for v in values]

    return np.corrcoef(ranks(one), ranks(other))[0, 1]


def test_seed_agreement_equals_counting_pairs():
    per_seed = np.round(np.random.default_rng(0).random((30, 3)), 1)
    per_seed[::4, 1] = np.nan
    per_seed[1::2, 2] = np.nan
    table = make(
        texts=tuple(map(str, range(30))),
        accuracy=np.nanmean(per_seed, axis=1),
        per_seed=per_seed,
        params=None,
        flops=None,
    )
    taus, rhos = [], []
    for i, j in itertools.combinations(range(3), 2):
        both = ~np.isnan(per_seed[:, i] + per_seed[:, j])
        taus.append(slow_tau_b(per_seed[both, i], per_seed[both, j]))
        rhos.append(slow_spearman(per_seed[both, i], per_seed[both, j]))
    agreement = table.seed_agreement()
    assert abs(agreement.kendall - np.mean(taus)) < 1e-12
    assert abs(agreement.spearman - np.mean(rhos)) < 1e-12
    assert agreement.n_pairs == 3
    assert agreement.n_archs == np.sum(np.sum(~np.isnan(per_seed), axis=1) >= 2)


def test_seed_agreement_where_there_is_none():
    table = make()
    assert replace(table, per_seed=None).seed_agreement() is None
    assert replace(table, per_seed=table.accuracy[:, None]).seed_agreement() is None
    constant = replace(table, accuracy=np.full(4, 0.5), per_seed=np.full((4, 2), 0.5))
    agreement = constant.seed_agreement()
    assert np.isnan(agreement.kendall)
    assert np.isnan(agreement.spearman)
    assert (agreement.n_pairs, agreement.n_archs) == (1, 4)
