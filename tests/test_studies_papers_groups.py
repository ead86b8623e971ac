"""The study of groups: its plan, its verdicts on planted scores, and whole at its smallest scale."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_cell64 import (
    QUALITY,
    SPACE,
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
from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p3 import windows
from wsx.studies.papers.p3.groups import inside_tau
from wsx.supernets.groupings import grouping_of

N_SEEDS, N_STEPS = 3, 8
SETTINGS = small("groups")
NAMES = [f"{kind}-{m}" for kind, m in SETTINGS.kinds]


def findings(monkeypatch, noise):
    """Findings on noise by variant: of a training as a whole, and from step to step."""
    rng = np.random.default_rng(0)
    planted = {
        name: noisy(whole, N_SEEDS, 1, rng=rng) + noisy(step, N_SEEDS, N_STEPS, rng=rng)
        for name, (whole, step) in noise.items()
    }
    plant_truth(monkeypatch)

    def accuracy_of(variant, settings, folder, texts):
        assert texts == TEXTS
        return planted[variant.name]

    monkeypatch.setattr(windows, "accuracy_of", accuracy_of)
    return STUDIES["groups"].findings(SETTINGS, Path("nowhere")), planted


def noise_of(everything, random, similar, nothing):
    by_kind = {"all": everything, "random": random, "similar": similar, "none": nothing}
    return {name: by_kind[name.partition("-")[0]] for name in NAMES}


@pytest.mark.parametrize(
    ("noise", "right"),
    [
        (
            noise_of((0.2, 0.2), (0.8, 0.1), (0.05, 0.05), (0.02, 0.005)),
            ("holds", "holds", "holds"),
        ),
        (
            noise_of((0.8, 0.005), (0.05, 0.05), (0.8, 0.1), (0.2, 0.4)),
            ("does not hold", "does not hold", "does not hold"),
        ),
    ],
)
def test_verdicts_on_planted_noise(monkeypatch, noise, right):
    found, _ = findings(monkeypatch, noise)
    assert tuple(verdicts(found)) == right
    assert "over 3 seeds" in found.claims[0].evidence


def test_who_shares_changes_nothing(monkeypatch):
    found, _ = findings(monkeypatch, dict.fromkeys(NAMES, (0.3, 0.2)))
    assert verdicts(found) == ["open", "open", "open"]


def test_numbers_are_those_of_the_slow_way(monkeypatch):
    noise = noise_of((0.2, 0.2), (0.8, 0.1), (0.05, 0.05), (0.02, 0.005))
    found, planted = findings(monkeypatch, noise)
    table, inside = found.tables
    assert [(row[0], row[1]) for row in table.rows] == [
        ("everything shared", 1),
        ("random", 4),
        ("random", 16),
        ("similar", 4),
        ("similar", 16),
        ("nothing shared", 64),
    ]
    rows = dict(zip(NAMES, table.rows, strict=True))
    tau = np.array(
        [[stats.kendalltau(row, QUALITY).statistic for row in run] for run in planted["random-16"]]
    )
    assert rows["random-16"][3] == pytest.approx(tau.mean(), abs=1e-12)
    assert rows["random-16"][5] == pytest.approx(tau.std(axis=1).mean(), abs=1e-12)
    assert rows["random-16"][-2:] == [0.1658, 0.1255]
    # The published similarity of consecutive slices.
    assert [rows[name][2] for name in ("all-1", "similar-4", "similar-16", "none-64")] == (
        pytest.approx([0.25, 0.5, 0.75, 1.0], abs=1e-12)
    )
    assert inside.rows[1][-2:] == [0.2570, 0.5610]
    # The same archs under the supernet that shares everything, group by group.
    groups = [
        [TEXTS.index(SPACE.format(arch)) for arch in fold] for fold in SETTINGS.folds("random", 16)
    ]
    slow = np.mean(
        [
            stats.kendalltau(row[group], QUALITY[group]).statistic
            for run in planted["all-1"]
            for row in run
            for group in groups
        ]
    )
    assert inside.rows[1][4] == pytest.approx(slow, abs=1e-12)
    mean, deviation = found.plots
    assert [one.x for one in mean.series] == [["1", "4", "16", "64"]] * 2
    assert deviation.series[0].y[2] == pytest.approx(tau.std(axis=1).mean(), abs=1e-12)


def test_groups_of_one_have_no_tau_inside():
    accuracy = np.array([[[0.1, 0.2, 0.3]]])
    true = np.array([0.1, 0.2, 0.3])
    assert inside_tau(accuracy, true, [[0], [1], [2]]).tolist() == pytest.approx(
        [np.nan], nan_ok=True, abs=0
    )
    assert inside_tau(accuracy, true, [[0, 1], [2]]).tolist() == [1.0]


def test_what_is_trained_and_scored():
    train, *scores, _ = STUDIES["groups"].steps(SETTINGS, Path("nowhere"))
    assert list(train.configs) == [f"{name}-{seed}" for name in NAMES for seed in range(N_SEEDS)]
    # Each group is trained as long as the one in which everything is shared.
    recipes = {name: train.configs[f"{name}-0"].recipe for name in NAMES}
    epochs = recipes["all-1"].epochs
    for name, recipe in recipes.items():
        n_groups = int(name.partition("-")[2])
        longer = replace(
            recipes["all-1"], epochs=epochs * n_groups, checkpoint_epochs=epochs * n_groups
        )
        assert recipe == longer
    assert_alike_but_for(list(train.configs.values()), "seed", "sharing", "recipe")
    sharing = {name: train.configs[f"{name}-0"].sharing for name in NAMES}
    assert sharing == {
        "all-1": {},
        "random-4": {"groups": "random:4:42"},
        "random-16": {"groups": "random:16:42"},
        "similar-4": {"groups": "consecutive:4"},
        "similar-16": {"groups": "consecutive:16"},
        "none-64": {"groups": "consecutive:64"},
    }
    assert train.configs["all-1-0"].recipe.checkpoint_last_steps == 64
    assert {(one.checkpoints, one.n_checkpoints) for one in scores} == {("last:64:9", N_STEPS)}
    assert [one.name for one in scores] == [f"score-{name}" for name in NAMES]
    paper = settings_of(STUDIES["groups"], "paper", {})
    assert len(paper.kinds) == 12
    assert (paper.n_steps, paper.every) == (64, 1)


@pytest.mark.parametrize("kind", ["random", "similar"])
def test_tables_and_trainings_mean_the_same_groups(kind):
    config = SETTINGS.variant_of(kind, 16).config
    grouping = grouping_of(SPACE, config.sharing["groups"])
    folds = SETTINGS.folds(kind, 16)
    assert [{grouping.of(arch) for arch in fold} for fold in folds] == [{i} for i in range(16)]


@pytest.mark.parametrize("groups", ["2,4", "1,64", "0,1,4", "1,4,65"])
def test_numbers_of_groups_that_cannot_be_compared_are_refused(groups):
    with pytest.raises(OptionError, match="must have 1 in it, and numbers between"):
        small("groups", groups=groups)


@pytest.mark.parametrize("values", [{"n_steps": "1"}, {"every": "0"}, {"every": "64"}])
def test_windows_of_one_step_are_refused(values):
    with pytest.raises(OptionError, match="at least 2 steps must be scored"):
        small("groups", **values)


def test_slopes_are_those_of_a_fit():
    x, values = np.array([0.0, 2.0, 4.0, 6.0]), np.random.default_rng(0).random((4, 5))
    fitted = np.polyfit(x, values, 1)[0]
    assert windows.slopes(x, values, "slope").values == pytest.approx(fitted, abs=1e-12)


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, _ = run_twice("groups", tmp_path / "study", capsys)
    table, inside = found["tables"]
    assert [row[1] for row in table["rows"]] == [1, 2, 2, 8]
    assert len(inside["rows"]) == 2
    assert {row[-1] for row in table["rows"]} == {None}
    assert len(list((tmp_path / "study").glob("runs/*/run.json"))) == 8
