"""The study of shared prefixes: its plan, its verdicts on planted scores, and whole at its smallest scale."""

from pathlib import Path

import numpy as np
import pytest
from planted_cell64 import (
    TEXTS,
    assert_alike_but_for,
    noisy,
    plant_truth,
    small,
    verdicts,
)
from study_runs import run_twice

from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p3 import windows

N_SEEDS, N_STEPS = 3, 8
SETTINGS = small("prefix")
NAMES = ["prefix-0", "prefix-1", "prefix-2"]
SWINGING = np.tile([0.01, 0.5], N_STEPS // 2)


def findings(monkeypatch, noise):
    """Findings on noise by number of shared cells: of a training as a whole, and from step to step."""
    rng = np.random.default_rng(0)
    planted = {
        name: noisy(whole, N_SEEDS, 1, rng=rng) + noisy(step, N_SEEDS, N_STEPS, rng=rng)
        for name, (whole, step) in zip(NAMES, noise, strict=True)
    }
    plant_truth(monkeypatch)

    def accuracy_of(variant, settings, folder, texts):
        assert texts == TEXTS
        return planted[variant.name]

    monkeypatch.setattr(windows, "accuracy_of", accuracy_of)
    return STUDIES["prefix"].findings(SETTINGS, Path("nowhere"))


@pytest.mark.parametrize(
    ("noise", "right"),
    [
        ([(0.01, 0.005), (0.02, 0.05), (0.02, SWINGING)], ("holds", "holds")),
        ([(0.02, SWINGING), (0.02, 0.05), (0.01, 0.005)], ("does not hold", "does not hold")),
        ([(0.3, 0.1), (0.3, 0.1), (0.3, 0.1)], ("open", "open")),
    ],
)
def test_verdicts_on_planted_noise(monkeypatch, noise, right):
    found = findings(monkeypatch, noise)
    assert tuple(verdicts(found)) == right
    mean, deviation = found.plots
    assert mean.series[0].x == deviation.series[0].x == ["0", "1", "2"]


def test_better_than_one_and_worse_than_another_is_not_best(monkeypatch):
    noise = [(0.1, 0.1), (0.01, 0.1), (0.8, 0.1)]
    assert verdicts(findings(monkeypatch, noise))[1] == "does not hold"


def test_published_figures_stand_beside_the_same_share_of_cells(monkeypatch):
    (table,) = findings(monkeypatch, [(0.1, 0.1)] * 3).tables
    assert [row[:2] for row in table.rows] == [
        ["the stem", 0],
        ["the stem and 1 of 2 cells", 1],
        ["the stem and all cells", 2],
    ]
    assert [row[-2:] for row in table.rows] == [
        [0.6960, 0.0129],
        [0.4159, 0.1925],
        [0.5174, 0.1592],
    ]


def test_what_is_trained_and_scored():
    train, *scores, _ = STUDIES["prefix"].steps(SETTINGS, Path("nowhere"))
    assert list(train.configs) == [f"{name}-{seed}" for name in NAMES for seed in range(N_SEEDS)]
    assert_alike_but_for(list(train.configs.values()), "seed", "sharing")
    assert [train.configs[f"{name}-1"].sharing for name in NAMES] == [
        {"groups": "consecutive:64", "shared": f"prefix:{k}"} for k in range(3)
    ]
    assert {(one.checkpoints, one.n_checkpoints) for one in scores} == {("last:64:9", N_STEPS)}
    paper = settings_of(STUDIES["prefix"], "paper", {})
    assert (len(paper.variants), paper.recipe.epochs) == (5, 2000)
    assert train.configs["prefix-0-0"].recipe.checkpoint_epochs == SETTINGS.recipe.epochs == 1_200
    assert SETTINGS.alone == small("groups").alone


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, _ = run_twice("prefix", tmp_path / "study", capsys)
    (table,) = found["tables"]
    assert [row[0] for row in table["rows"]] == ["the stem", "the stem and all cells"]
    assert [row[-2] for row in table["rows"]] == [0.6960, 0.5174]
