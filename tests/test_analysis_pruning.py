import math
from itertools import combinations

import numpy as np
import pytest

from wsx.analysis import Resampling, pruning_value
from wsx.errors import OptionError, ShapeError

NONE = Resampling(n_resamples=0)
FRACTIONS = (0.25, 0.5, 1.0)


def population(n_archs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n_archs)
    return truth + rng.normal(size=n_archs), truth


def test_what_is_kept_is_what_sorting_keeps() -> None:
    predicted, truth = population(40)
    rows = pruning_value(
        predicted,
        truth,
        keep_fractions=FRACTIONS,
        top_fraction=0.1,
        sizes={"params": -truth},
        resampling=NONE,
    )
    assert [r.criterion for r in rows] == ["predicted"] * 3 + ["random"] * 3 + ["params"] * 3
    best = set(np.argsort(-truth)[:4])
    for row in rows:
        if row.criterion == "random":
            continue
        order = np.argsort(-predicted if row.criterion == "predicted" else truth)
        kept = order[: row.n_kept]
        assert row.n_kept == round(row.keep_fraction * 40)
        assert row.best_truth == pytest.approx(truth[kept].max(), rel=0, abs=1e-12)
        assert row.loss.value == pytest.approx(truth.max() - truth[kept].max(), rel=0, abs=1e-12)
        assert row.top_kept.value == pytest.approx(len(best & set(kept)) / 4, rel=0, abs=1e-12)


def test_random_pruning_is_the_mean_over_all_choices() -> None:
    predicted, truth = population(9)
    rows = pruning_value(
        predicted, truth, keep_fractions=(1 / 3,), top_fraction=0.25, resampling=NONE
    )
    (row,) = [r for r in rows if r.criterion == "random"]
    best = set(np.argsort(-truth)[:2])
    choices = list(combinations(range(9), 3))
    expected = np.mean([truth[list(c)].max() for c in choices])
    assert row.best_truth == pytest.approx(expected, rel=0, abs=1e-12)
    kept = np.mean([len(best & set(c)) / 2 for c in choices])
    assert row.top_kept.value == pytest.approx(kept, rel=0, abs=1e-12)
    constant = pruning_value(np.ones(9), truth, keep_fractions=(1 / 3,), resampling=NONE)
    assert constant[0].best_truth == row.best_truth


def test_a_good_ranking_prunes_better_than_chance_with_intervals() -> None:
    predicted, truth = population(200)
    rows = pruning_value(
        predicted,
        truth,
        keep_fractions=(0.5,),
        top_fraction=0.1,
        resampling=Resampling(n_resamples=40),
    )
    by = {row.criterion: row for row in rows}
    limits = by["predicted"].top_kept.intervals["archs"]
    assert limits.low > by["random"].top_kept.value == pytest.approx(0.5, rel=0, abs=1e-12)
    assert limits.low <= by["predicted"].top_kept.value <= limits.high
    assert by["predicted"].loss.intervals["archs"].low >= 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pruning_value([], []), OptionError, "no archs"),
        (lambda: pruning_value([1, 2], [1]), ShapeError, "predicted has 2"),
        (lambda: pruning_value([1, math.nan], [1, 2]), OptionError, "1 of 2 values"),
        (lambda: pruning_value([1, 2], [1, 2], keep_fractions=(0,)), OptionError, "got 0"),
        (lambda: pruning_value([1, 2], [1, 2], top_fraction=2), OptionError, "got 2"),
        (lambda: pruning_value([1, 2], [1, 2], sizes={"random": [1, 2]}), OptionError, "'random'"),
        (lambda: pruning_value([1, 2], [1, 2], sizes={"flops": [1]}), ShapeError, "flops has 1"),
    ],
)
def test_wrong_input_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
