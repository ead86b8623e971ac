"""The study of fine-tuning: its plan, its verdicts on planted scores, and whole at its smallest scale."""

import math
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

from wsx.errors import OptionError
from wsx.studies.papers import STUDIES, settings_of, steps
from wsx.studies.papers.p3 import finetune
from wsx.studies.papers.rates import ScoreRate
from wsx.studies.papers.steps import FineTune

N_RUNS = 5
SETTINGS = small("finetune", **{"recipe.epochs": "200"})
N_BATCHES = np.array(SETTINGS.n_batches)


def findings(monkeypatch, early, late):
    """Findings where noise after each number of batches is given, from half and from full training."""
    rng = np.random.default_rng(0)
    planted = {
        f"epoch-{epoch:04d}": noisy(noise, N_RUNS, N_BATCHES.size, rng=rng)
        for epoch, noise in ((100, early), (200, late))
    }
    plant_truth(monkeypatch)

    def panel_of(folder, runs, archs, *, checkpoint, is_finetuned):
        assert is_finetuned
        assert (runs, archs) == (tuple(f"seed-{seed}" for seed in range(N_RUNS)), TEXTS)
        return SimpleNamespace(accuracy=planted[checkpoint], n_batches=N_BATCHES)

    monkeypatch.setattr(finetune, "panel_of", panel_of)
    return STUDIES["finetune"].findings(SETTINGS, Path("nowhere")), planted


HEALING, HURTING = 0.4 / (1 + N_BATCHES), 0.01 + 0.02 * N_BATCHES


@pytest.mark.parametrize(
    ("early", "late", "right"),
    [
        (HEALING, HURTING, ("holds", "does not hold", "does not hold")),
        (HURTING, HEALING, ("does not hold", "holds", "holds")),
        (HEALING, HEALING, ("holds", "holds", "open")),
        (np.full(N_BATCHES.size, 0.3), HEALING, ("open", "holds", "holds")),
    ],
)
def test_verdicts_on_planted_noise(monkeypatch, early, late, right):
    assert tuple(verdicts(findings(monkeypatch, early, late)[0])) == right


def test_numbers_are_those_of_the_slow_way(monkeypatch):
    found, planted = findings(monkeypatch, HEALING, HURTING)
    tau = {
        name: np.array([[stats.kendalltau(row, QUALITY).statistic for row in run] for run in table])
        for name, table in planted.items()
    }
    rows = {(row[0], row[1]): row for row in found.tables[0].rows}
    assert len(rows) == 2 * N_BATCHES.size
    early = tau["epoch-0100"]
    at_few = rows["epoch 100", 8]
    assert at_few[2] == pytest.approx(early[:, 4].mean(), abs=1e-12)
    assert at_few[4] == pytest.approx((early[:, 4] - early[:, 0]).mean(), abs=1e-12)
    assert (at_few[7], rows["epoch 200", 8][7]) == tuple(finetune.PUBLISHED.values())
    assert rows["epoch 100", 0][4:6] == [None, None]
    last = planted["epoch-0200"][:, -1]
    pairs = [stats.kendalltau(last[i], last[j]).statistic for i in range(N_RUNS) for j in range(i)]
    assert rows["epoch 200", 64][6] == pytest.approx(np.mean(pairs), abs=1e-12)
    (plot,) = found.plots
    assert plot.series[1].x == N_BATCHES.tolist()
    assert plot.series[1].y == pytest.approx(tau["epoch-0200"].mean(axis=0), abs=1e-12)


def test_what_is_trained_and_from_where():
    train, tune, _ = STUDIES["finetune"].steps(SETTINGS, Path("nowhere"))
    assert list(train.configs) == [f"seed-{seed}" for seed in range(N_RUNS)]
    assert_alike_but_for(list(train.configs.values()), "seed")
    assert train.configs["seed-0"].recipe.checkpoint_epochs == 100
    assert isinstance(tune, FineTune)
    assert tune.runs == tuple(train.configs)
    assert list(tune.starts) == ["epoch-0100", "epoch-0200"]
    half, full = tune.starts.values()
    # Half the cosine from 0.05 to 0.001, and its end.
    assert half.lr == pytest.approx(0.0255, abs=1e-12)
    assert full.lr == pytest.approx(0.001, abs=1e-12)
    assert {one.momentum for one in tune.starts.values()} == {"fresh"}
    assert {one.seed for one in tune.starts.values()} == {0}


def test_the_plan_counts_all_archs_runs_and_snapshots(monkeypatch):
    monkeypatch.setattr(steps, "train_rate", lambda config: 1.0)
    monkeypatch.setattr(steps, "score_rate", lambda config: ScoreRate(0.0, 1.0))
    work = STUDIES["finetune"].steps(SETTINGS, Path("nowhere"))[1].work()
    n_subnets = 64 * N_RUNS * 2
    assert work.n_trainings == n_subnets
    assert work.n_train_images == n_subnets * 64 * SETTINGS.recipe.batch_size
    assert work.n_scores == n_subnets * N_BATCHES.size
    assert work.n_scored_images == work.n_scores * (1_400 + 256)


def test_published_snapshots_have_the_rate_of_the_public_code():
    settings = settings_of(STUDIES["finetune"], "paper", {})
    assert [one.epoch for one in settings.snapshots] == [100, 200]
    assert math.isclose(settings.snapshots[0].lr, 0.013, rel_tol=1e-12)


@pytest.mark.parametrize(
    "values",
    [{"n_batches": "1,8"}, {"n_batches": "0,4"}, {"n_few": "0"}, {"recipe.epochs": "1"}],
)
def test_numbers_of_batches_that_cannot_be_compared_are_refused(values):
    with pytest.raises(OptionError, match="must have 0 and n_few in it"):
        small("finetune", **values)


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, _ = run_twice("finetune", tmp_path / "study", capsys)
    assert [row[:2] for row in found["tables"][0]["rows"]] == [
        [f"epoch {epoch}", n] for epoch in (1, 2) for n in (0, 1, 4)
    ]
    assert found["claims"][0]["evidence"].endswith("(95 % over 2 seeds)")
