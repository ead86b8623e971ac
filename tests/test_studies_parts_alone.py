"""What one training alone reaches, beside the supernet in tables of bias, pruning and picks: slow doubles."""

import numpy as np
import pytest
from test_studies_analyze import N_ARCHS, write_scores, write_seeds_csv, write_truth_csv
from test_studies_parts import DECISIONS, NONE, planted_archs, rows_of, slow_bias

from wsx.analysis import SummaryOptions
from wsx.studies.analyze import compare, comparison_parts
from wsx.studies.parts.alone import ALONE
from wsx.studies.parts.bias import bias_part
from wsx.studies.parts.picks import picks_part
from wsx.studies.parts.pruning import pruning_part

N = 40
RNG = np.random.default_rng(7)
TRUTH = np.linspace(0.3, 0.9, N)
RUNS = TRUTH + RNG.normal(0, 0.15, (3, N))
# The second training lacks two archs.
RUNS[1, [0, 5]] = np.nan
PREDICTED = RNG.permutation(TRUTH)


def slow_rankings():
    """Each training, the mean of the others, and the archs of both."""
    for row in range(3):
        known = [i for i in range(N) if np.isfinite(RUNS[row, i])]
        others = [
            np.mean([RUNS[o, i] for o in range(3) if o != row and np.isfinite(RUNS[o, i])])
            for i in known
        ]
        yield RUNS[row, known], np.array(others), known


def alone_rows(part):
    return [row for row in rows_of(part.tables[0]) if ALONE in row.values()]


def test_pruning_by_one_training_is_that_of_slow_counting():
    part = pruning_part(PREDICTED, TRUTH, {}, top_fraction=0.25, resampling=NONE, truth_runs=RUNS)
    (row,) = [row for row in alone_rows(part) if row["archs cut, %"] == 50]
    slow = np.mean(
        [o.max() - o[np.argsort(-s)[: len(s) // 2]].max() for s, o, _ in slow_rankings()]
    )
    assert row["loss of the best, %"] == pytest.approx(100 * slow, abs=1e-9)
    kept = []
    for scores, others, known in slow_rankings():
        half = set(np.argsort(-scores)[: len(known) // 2])
        top = set(np.argsort(-others)[: max(1, round(len(known) / 4))])
        kept.append(len(half & top) / len(top))
    assert row["of the true top 25 % kept, %"] == pytest.approx(100 * np.mean(kept), abs=1e-9)
    assert ALONE in [one.name for one in part.plots[0].series]


@pytest.mark.parametrize("k", [1, 3])
def test_picks_of_one_training_are_those_of_slow_counting(k):
    part = picks_part(PREDICTED, TRUTH, {}, resampling=NONE, truth_runs=RUNS)
    (row,) = [row for row in alone_rows(part) if row["K"] == k]
    means = [others[np.argsort(-scores)[:k]].mean() for scores, others, _ in slow_rankings()]
    assert row["mean truth, %"] == pytest.approx(100 * np.mean(means), abs=1e-9)
    bests = [others[np.argsort(-scores)[:k]].max() for scores, others, _ in slow_rankings()]
    assert row["best, %"] == pytest.approx(100 * np.mean(bests), abs=1e-9)


def test_bias_of_one_training_is_that_of_slow_counting():
    archs = planted_archs(N, np.random.default_rng(0))
    part = bias_part(DECISIONS, archs, PREDICTED, TRUTH, {}, resampling=NONE, truth_runs=RUNS)
    rows = {(row["decision"], row["option"]): row for row in rows_of(part.tables[0])}
    for place, decision in enumerate(DECISIONS):
        for option, name in enumerate(decision.options):
            found = []
            for scores, others, known in slow_rankings():
                has = archs[known, place] == option
                if has.any() and not has.all():
                    found.append(slow_bias(scores, others, has))
            if (decision.name, name) in rows:
                mean = rows[decision.name, name][f"by {ALONE}"]
                assert mean == pytest.approx(np.mean(found), abs=1e-12)
    assert len(rows) >= 4


def test_without_several_trainings_nothing_stands_there():
    archs = planted_archs(N, np.random.default_rng(0))
    for part in (
        pruning_part(PREDICTED, TRUTH, {}, top_fraction=0.25, resampling=NONE),
        picks_part(PREDICTED, TRUTH, {}, resampling=NONE),
        bias_part(DECISIONS, archs, PREDICTED, TRUTH, {}, resampling=NONE),
    ):
        assert alone_rows(part) == []
        assert f"by {ALONE}" not in part.tables[0].columns


def test_the_trainings_of_a_table_reach_the_parts(tmp_path):
    truth = np.random.default_rng(0).uniform(0.5, 0.9, N_ARCHS)
    options = SummaryOptions(n_resamples=0)
    scores = write_scores(tmp_path / "s.h5")
    once = compare(scores, truth=write_truth_csv(tmp_path / "t.csv", truth), options=options)
    assert [alone_rows(part) for part in comparison_parts(once)] == [[], [], []]
    runs = truth[:, None] + np.random.default_rng(1).normal(0, 0.05, (N_ARCHS, 3))
    runs[0, 1] = np.nan
    thrice = compare(scores, truth=write_seeds_csv(tmp_path / "r.csv", runs), options=options)
    bias, pruning, picks = comparison_parts(thrice)
    assert f"by {ALONE}" in bias.tables[0].columns
    assert alone_rows(pruning)
    assert alone_rows(picks)
