"""The study of folds: which archs each supernet is trained on, and its verdicts on planted scores."""

from pathlib import Path

import numpy as np
import planted_nasbench201 as planted
import pytest
from study_runs import run_twice

from wsx.errors import OptionError
from wsx.spaces.lists import read_archs
from wsx.studies.papers import STUDIES, Machine, settings_of
from wsx.studies.papers.p1 import folds, parts

STUDY = STUDIES["folds"]
VALUES = {"n_archs": "150", "seeds": "0,1,2,3,4,5,6,7", "trained": "0,2,4"}


def findings(monkeypatch, own, others, whole):
    """Findings where supernets see archs with so much noise: those that they trained on, others, any of all."""
    truth = planted.plant_truth(monkeypatch, n_archs=300)
    settings = settings_of(STUDY, "tiny", VALUES)
    trained_on = {
        part.name: {planted.SPACE.format(arch) for arch in part.archs}
        for part in folds._parts(settings)
    }
    rng = np.random.default_rng(0)

    def accuracy_of(variant, settings, folder, texts):
        is_own = np.array([text in trained_on[variant.name] for text in texts])
        kind = variant.name.rpartition("-")[0]
        noise = whole if variant.name == "whole" else np.where(is_own, own, others[kind])
        true = truth.only(texts).accuracy
        drawn = rng.normal(size=(4, 1, true.size))
        # Mirrored, so that noise alone correlates with nothing on average.
        return true + noise * np.concatenate([drawn, -drawn])

    monkeypatch.setattr(parts, "accuracy_of", accuracy_of)
    return STUDY.findings(settings, Path("nowhere"))


def test_supernets_that_know_their_fold_best(monkeypatch):
    others = {"random": 0.3, "structured": 2.0, "sorted": 2.0}
    found = findings(monkeypatch, 0.02, others, 0.2)
    assert planted.verdicts(found) == ["holds"] * 6
    rows = found.tables[0].rows
    assert [row[0] for row in rows[:2]] == ["all archs", "random fold 0"]
    assert [row[1] for row in rows] == [300, *[row[1] for row in rows[1:]]]
    assert len(found.plots[0].series[0].x) == len(rows) == 10


def test_supernets_that_know_all_but_their_fold(monkeypatch):
    others = dict.fromkeys(folds.KINDS, 0.02)
    assert planted.verdicts(findings(monkeypatch, 50.0, others, 0.02))[3:] == ["does not hold"] * 3


def test_supernets_that_rank_all_best_after_a_part(monkeypatch):
    others = dict.fromkeys(folds.KINDS, 0.02)
    found = planted.verdicts(findings(monkeypatch, 0.02, others, 0.5))
    assert found[:2] == ["holds", "does not hold"]


def test_supernets_that_know_nothing_beyond_a_random_fold(monkeypatch):
    others = {"random": 50.0, "structured": 0.02, "sorted": 0.02}
    found = planted.verdicts(findings(monkeypatch, 0.1, others, 0.1))
    assert found[:3] == ["open", "holds", "does not hold"]


def test_lists_are_folds_of_all_archs(tmp_path, monkeypatch):
    truth = planted.plant_truth(monkeypatch, n_archs=200)
    settings = settings_of(STUDY, "tiny", {"trained": "0,1,2,3,4", "n_archs": "20"})
    lists, *others = STUDY.steps(settings, tmp_path)
    runs = planted.trainings(others)
    assert len(runs) == (1 + 3 * 5) * 2
    lists.run(tmp_path, Machine(), lambda *_: None)
    space = planted.SPACE

    def texts(name):
        archs = read_archs(tmp_path / "lists" / f"{name}.txt", space)
        config = runs[f"{name}-0"].pinned()
        assert config.archs.population(config.recipe.measure) == archs
        return [space.format(arch) for arch in archs]

    assert texts("whole") == list(truth.texts)
    for kind in folds.KINDS:
        joined = [text for i in range(5) for text in texts(f"{kind}-{i}")]
        assert sorted(joined) == sorted(truth.texts)
    for i, option in enumerate(space.decisions[0].options):
        assert all(text.startswith(f"|{option}~0|+") for text in texts(f"structured-{i}"))
    means = [truth.only(texts(f"sorted-{i}")).accuracy.mean() for i in range(5)]
    assert means == sorted(means, reverse=True)
    recipes = {name: config.recipe for name, config in runs.items()}
    assert all(
        planted.differing(recipes["whole-0"], recipe) <= {"measure"} for recipe in recipes.values()
    )


def test_the_plan_needs_no_file(tmp_path):
    steps = STUDY.steps(STUDY.settings("tiny"), tmp_path)
    work = [step.work() for step in steps]
    assert not list(tmp_path.iterdir())
    assert work[0].seconds == 0
    assert [one.n_trainings for one in work] == [0, 8, 0, 0, 0, 0]
    assert all(one.seconds > 0 for one in work[1:])


@pytest.mark.parametrize(
    "values", [{"trained": "5"}, {"trained": "-1"}, {"n_folds": "3", "trained": "4"}]
)
def test_folds_that_are_not_there_are_refused(values, tmp_path):
    with pytest.raises(OptionError, match=r"random folds go from 0 to \d"):
        STUDY.steps(settings_of(STUDY, "tiny", values), tmp_path)


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, _ = run_twice("folds", tmp_path / "study", capsys)
    assert [len(table["rows"]) for table in found["tables"]] == [4]
    assert len(list(tmp_path.rglob("epoch-*.safetensors"))) == 8
