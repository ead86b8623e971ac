import itertools

import numpy as np
import pytest

from wsx.errors import ArchError, OptionError, ShapeError, UnknownNameError
from wsx.spaces import SPACES
from wsx.spaces.folds import (
    consecutive_folds,
    oracle_part,
    random_folds,
    random_part,
    similarity,
    structured_folds,
    truth_folds,
    write_archs,
    write_groups,
)
from wsx.spaces.lists import read_archs

CELL64 = SPACES["cell64"]
ALL = list(CELL64.enumerate())


def slow_similarity(groups):
    shares = []
    for group in groups:
        for one in group:
            pairs = [
                sum(a == b for a, b in zip(one, other, strict=True)) / len(one) for other in group
            ]
            shares.append(sum(pairs) / len(group))
    return sum(shares) / len(shares)


@pytest.mark.parametrize(
    ("n", "published"),
    [(1, 0.25), (2, 0.333), (4, 0.5), (8, 0.583), (16, 0.75), (32, 0.833), (64, 1)],
)
def test_similarity_of_the_published_groups(n, published):
    groups = consecutive_folds(ALL[::-1], n)
    assert round(similarity(groups), 3) == published
    assert similarity(groups) == pytest.approx(slow_similarity(groups), abs=1e-12)


def test_similarity_of_unequal_groups():
    groups = [[(0, 1), (0, 2), (3, 1)], [(5, 5)]]
    assert similarity(groups) == pytest.approx(slow_similarity(groups), abs=1e-12)
    for bad in ([], [[], [(0, 1)]]):
        with pytest.raises(OptionError, match="at least one group"):
            similarity(bad)


def test_random_folds_are_the_published_groups():
    folds = random_folds(ALL, 16, seed=42)
    # The group of arXiv 2001.01431's case study, archs by the numbers of their operations from 1.
    names = {tuple(sorted("".join(str(option + 1) for option in a) for a in f)) for f in folds}
    assert ("143", "144", "344", "424") in names
    assert random_folds(ALL, 16, seed=43) != folds
    # Not similar: hardly above that of all archs together.
    assert similarity(random_folds(ALL, 8, seed=42)) < 0.4


def test_random_folds_come_from_shuffled_numbers():
    numbers = [place % 5 for place in range(64)]
    np.random.RandomState(7).shuffle(numbers)
    slow = [
        [arch for arch, number in zip(ALL, numbers, strict=True) if number == part]
        for part in range(5)
    ]
    assert random_folds(ALL, 5, seed=7) == slow


@pytest.mark.parametrize("n", [1, 3, 5, 64])
def test_folds_part_the_list(n):
    for folds in (
        random_folds(ALL, n, seed=1),
        consecutive_folds(ALL, n),
        truth_folds(ALL, range(64), n),
    ):
        assert sorted(itertools.chain(*folds)) == ALL
        assert {len(fold) for fold in folds} <= {64 // n, -(-64 // n)}
        assert len(folds) == n


@pytest.mark.parametrize("n", [0, -1, 65])
def test_impossible_numbers_of_folds(n):
    with pytest.raises(OptionError, match=f"cannot split 64 archs into {n} parts"):
        random_folds(ALL, n, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range(seed):
    with pytest.raises(OptionError, match="seed is"):
        random_folds(ALL, 2, seed=seed)


def test_structured_folds_have_one_option_each():
    folds = structured_folds(ALL[:40], CELL64, "0->1")
    assert list(folds) == ["max_pool_3x3", "sep_conv_3x3", "sep_conv_5x5"]
    assert folds["sep_conv_5x5"] == [arch for arch in ALL[:40] if arch[0] == 2]
    assert sum(map(len, folds.values())) == 40
    with pytest.raises(UnknownNameError, match=r"named '0->9'. Did you mean 0->"):
        structured_folds(ALL, CELL64, "0->9")
    with pytest.raises(OptionError, match="no archs to split"):
        structured_folds([], CELL64, "0->1")


def test_folds_by_truth_are_best_first():
    truth = np.array([0.3, 0.9, 0.5, 0.9, 0.1])
    archs = ALL[:5]
    assert truth_folds(archs, truth, 2) == [[archs[1], archs[3]], [archs[2], archs[0], archs[4]]]
    assert oracle_part(archs, truth, 0.4) == [archs[1], archs[3]]
    assert oracle_part(archs, truth, 0.01) == [archs[1]]
    assert oracle_part(archs, truth, 1.0) == [archs[i] for i in (1, 3, 2, 0, 4)]


def test_the_oracles_control_is_as_large_and_random():
    parts = [random_part(ALL, 0.33, seed=seed) for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]
    assert len(parts[0]) == len(set(parts[0])) == len(oracle_part(ALL, range(64), 0.33)) == 21


@pytest.mark.parametrize(
    ("truth", "error", "message"),
    [
        ([0.1] * 63, ShapeError, r"shape \(63,\); there are 64"),
        ([[0.1]] * 64, ShapeError, r"shape \(64, 1\)"),
        ([0.1] * 63 + [np.nan], OptionError, r"truth of arch \(3, 3, 3\) is nan"),
    ],
)
def test_bad_truth_is_refused(truth, error, message):
    with pytest.raises(error, match=message):
        truth_folds(ALL, truth, 4)


@pytest.mark.parametrize("ratio", [0, -0.1, 1.1, float("nan")])
def test_ratios_out_of_range(ratio):
    with pytest.raises(OptionError, match="ratio is"):
        oracle_part(ALL, range(64), ratio)


def test_folds_go_through_files(tmp_path):
    measure = write_archs(tmp_path / "new" / "fold.txt", CELL64, ALL[5:9])
    assert CELL64.population(measure) == ALL[5:9]
    darts = SPACES["darts"]
    archs = darts.sample(3, rng=np.random.default_rng(0), measure="encodings")
    write_archs(tmp_path / "darts.txt", darts, archs)
    assert read_archs(tmp_path / "darts.txt", darts) == archs
    for write in (write_archs, write_groups):
        with pytest.raises(ArchError, match="there"):
            write(tmp_path / "none.txt", CELL64, [])
    with pytest.raises(ArchError, match="cannot write"):
        write_archs(tmp_path, CELL64, ALL)
