"""The study of epochs: its plan, its verdicts on planted scores, and whole at its smallest scale."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from planted_cell64 import (
    QUALITY,
    TEXTS,
    assert_alike_but_for,
    noisy,
    plant_truth,
    small,
    verdicts,
)
from scipy import stats
from study_runs import run_twice

from wsx.errors import OptionError, TruthError
from wsx.studies.papers import STUDIES
from wsx.studies.papers.p3 import epochs
from wsx.studies.papers.steps import ScoreCheckpoints, TrainAlone, TrainSupernets

N_RUNS = 5
SETTINGS = small("epochs", **{"recipe.epochs": "200", "every": "10", "n_last": "10"})
SCORED = np.array(SETTINGS.scored_epochs)


def findings(monkeypatch, half, end, alone=0.01, **truth):
    """Findings where scores have some noise up to half training, and some at the end."""
    rng = np.random.default_rng(0)
    noise = np.where(SETTINGS.recipe.epochs // 2 >= SCORED, half, end)
    accuracy = noisy(noise, N_RUNS, SCORED.size, rng=rng)
    plant_truth(monkeypatch, noisy(alone, 5, rng=rng), **truth)
    panel = SimpleNamespace(
        accuracy=accuracy,
        epochs=np.tile(SCORED, (N_RUNS, 1)),
        seeds=np.arange(N_RUNS),
    )

    def panel_of(folder, runs, archs):
        assert runs == tuple(f"seed-{seed}" for seed in range(N_RUNS))
        assert archs == TEXTS
        return panel

    monkeypatch.setattr(epochs, "panel_of", panel_of)
    return STUDIES["epochs"].findings(SETTINGS, Path("nowhere")), accuracy


@pytest.mark.parametrize(
    ("half", "end", "alone", "right"),
    [
        (0.2, 0.2, 0.01, ("holds", "open", "holds")),
        (0.3, 0.01, 0.2, ("does not hold", "holds", "does not hold")),
        (0.01, 0.3, 0.01, ("holds", "does not hold", "holds")),
    ],
)
def test_verdicts_on_planted_noise(monkeypatch, half, end, alone, right):
    assert tuple(verdicts(findings(monkeypatch, half, end, alone)[0])) == right


def test_without_seeds_of_truth_the_ceiling_stays_open(monkeypatch):
    found, _ = findings(monkeypatch, 0.2, 0.2, has_seeds=False)
    assert verdicts(found) == ["holds", "open", "open"]
    assert "kept apart" in found.claims[2].evidence
    assert len(found.tables[0].rows) == 2


def test_numbers_are_those_of_the_slow_way(monkeypatch):
    found, accuracy = findings(monkeypatch, 0.3, 0.1, alone=0.0)
    last = accuracy[:, -10:]
    tau = np.array([[stats.kendalltau(row, QUALITY).statistic for row in run] for run in last])
    agreement, against = found.tables
    assert against.rows[1][1] == pytest.approx(tau.mean(), abs=1e-12)
    assert against.rows[1][3] == pytest.approx(tau.std(axis=1).mean(), abs=1e-12)
    pairs = [
        stats.kendalltau(run[i], run[j]).statistic
        for run in last
        for i in range(10)
        for j in range(i)
    ]
    assert agreement.rows[1][1] == pytest.approx(np.mean(pairs), abs=1e-12)
    assert agreement.rows[1][3:5] == pytest.approx([max(pairs), min(pairs)], abs=1e-12)
    assert agreement.rows[1][5:] == [0.5310, 0.8752, 0.0918]
    lines, seeds = found.plots
    assert [len(one.x) for one in lines.series] == [SCORED.size] * N_RUNS
    assert lines.series[2].y[-1] == pytest.approx(tau[2, -1], abs=1e-12)
    assert seeds.series[0].low[-1] < seeds.series[0].y[-1] < seeds.series[0].high[-1]


def test_what_is_trained_and_scored(tmp_path):
    train, score, alone = STUDIES["epochs"].steps(SETTINGS, Path("nowhere"))
    assert isinstance(train, TrainSupernets)
    assert isinstance(score, ScoreCheckpoints)
    assert isinstance(alone, TrainAlone)
    assert list(train.configs) == [f"seed-{seed}" for seed in range(N_RUNS)]
    assert_alike_but_for(list(train.configs.values()), "seed")
    assert train.configs["seed-0"].recipe.checkpoint_epochs == 1
    rare = [*range(10, 100, 10), *range(110, 200, 10)]
    assert SETTINGS.scored_epochs == sorted({*rare, *range(91, 101), *range(191, 201)})
    assert score.checkpoints.split(",")[8:11] == ["epoch-0090", "epoch-0091", "epoch-0092"]
    assert score.n_checkpoints == len(score.checkpoints.split(",")) == SCORED.size
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["arch,accuracy", *(f"{text},0.5" for text in TEXTS)]))
    assert len(STUDIES["epochs"].steps(small("epochs", truth=str(table)), tmp_path)) == 2


@pytest.mark.parametrize(
    ("texts", "message"), [(None, "does not exist"), (TEXTS[:-1], "lacks 1 of 64 archs")]
)
def test_truth_of_no_use_is_found_out_before_anything_is_trained(tmp_path, texts, message):
    table = tmp_path / "t.csv"
    if texts is not None:
        table.write_text("\n".join(["arch,accuracy", *(f"{text},0.5" for text in texts)]))
    with pytest.raises(TruthError, match=message):
        STUDIES["epochs"].steps(small("epochs", truth=str(table)), tmp_path)


@pytest.mark.parametrize(
    "values", [{"n_last": "1"}, {"n_last": "301"}, {"every": "0"}, {"recipe.epochs": "59"}]
)
def test_windows_that_cannot_be_are_refused(values):
    with pytest.raises(OptionError, match="n_last at least 2 and at most half"):
        small("epochs", **values)


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, _ = run_twice("epochs", tmp_path / "study", capsys)
    assert [len(table["rows"]) for table in found["tables"]] == [3, 2]
    assert found["plots"][0]["series"][0]["x"] == [1, 2, 3, 4]
