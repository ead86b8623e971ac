"""The study of several archs a step: equal updates of archs, and its verdicts on planted scores."""

from pathlib import Path

import numpy as np
import planted_nasbench201 as planted
import pytest
from study_runs import run_twice

from wsx.errors import OptionError, StudyError
from wsx.spaces import SPACES
from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p1 import multipath
from wsx.training.sampling import ArchSampler

STUDY = STUDIES["multipath"]


def findings(monkeypatch, noise, seed):
    truth = planted.plant_truth(monkeypatch)
    rng = np.random.default_rng(seed)

    def accuracy_of(variant, settings, folder, texts):
        assert variant.runs(settings.seeds).keys() == {
            f"{variant.name}-{s}" for s in settings.seeds
        }
        return planted.noisy(truth.only(texts).accuracy, noise[variant.name], rng)

    monkeypatch.setattr(multipath, "accuracy_of", accuracy_of)
    values = {"n_archs": "120", "seeds": "0,1,2,3,4,5,6,7"}
    return STUDY.findings(settings_of(STUDY, "tiny", values), Path("nowhere"))


def test_several_fair_archs_that_rank_better(monkeypatch):
    found = findings(monkeypatch, {"single": 0.3, "paths": 0.15, "fair": 0.05}, 0)
    assert planted.verdicts(found) == ["holds", "holds", "holds"]
    rows = {row[0]: row for row in found.tables[0].rows}
    assert list(rows) == [
        "one arch a step",
        "5 archs a step",
        "5 archs a step, every operation once",
    ]
    column = list(found.tables[0].columns).index("Spearman")
    assert 0.2 < rows["one arch a step"][column] < 0.7 < rows["5 archs a step"][column] < 0.9
    assert list(found.plots[0].series[0].x) == list(rows)


def test_one_arch_that_ranks_better(monkeypatch):
    found = findings(monkeypatch, {"single": 0.05, "paths": 0.15, "fair": 0.3}, 1)
    assert planted.verdicts(found) == ["does not hold"] * 3


def test_ways_that_are_alike(monkeypatch):
    found = findings(monkeypatch, {"single": 0.2, "paths": 0.2, "fair": 0.2}, 2)
    assert planted.verdicts(found) == ["open"] * 3


@pytest.mark.parametrize("scale", ["tiny", "small", "paper"])
def test_all_ways_update_archs_equally_often(scale):
    settings = STUDY.settings(scale)
    single, paths, fair = (one.config for one in multipath._variants(settings))
    ways = {"epochs", "checkpoint_epochs", "gradients", "clip"}
    assert planted.differing(single.recipe, paths.recipe) - ways == {"n_paths"}
    assert planted.differing(single.recipe, fair.recipe) - ways == {"sampler"}
    assert paths.recipe.clip == fair.recipe.clip == (0.0 if scale == "paper" else 5.0)
    assert single.recipe.gradients == "mean"
    assert paths.recipe.gradients == fair.recipe.gradients == "sum"
    updates = set()
    for config in (single, paths, fair):
        sampler = ArchSampler(SPACES["nasbench201"], config.recipe, seed=0)
        updates.add(config.recipe.epochs * len(sampler[0]))
        assert config.recipe.checkpoint_epochs == config.recipe.epochs
        assert config.data == settings.data
    assert updates == {settings.recipe.epochs}


def test_each_way_is_trained_with_each_seed(tmp_path):
    steps = STUDY.steps(STUDY.settings("tiny"), tmp_path)
    assert list(planted.trainings(steps)) == [
        f"{name}-{seed}" for name in ("single", "paths", "fair") for seed in (0, 1)
    ]
    assert [step.name for step in steps] == ["train", "score-single", "score-paths", "score-fair"]
    choices = {step.scoring.choice for step in steps[1:]}
    assert len(choices) == 1
    assert len(choices.pop().texts) == 24


@pytest.mark.parametrize("values", [{"recipe.epochs": "7"}, {"n_paths": "0"}, {"n_paths": "3"}])
def test_epochs_that_cannot_be_shared_out_are_refused(values, tmp_path):
    with pytest.raises(OptionError, match=r"no multiple of \d archs a step|n_paths is 0"):
        STUDY.steps(settings_of(STUDY, "tiny", values), tmp_path)


def test_without_truth_it_says_what_to_give(tmp_path):
    with pytest.raises(StudyError, match="--set truth=PATH"):
        STUDY.steps(STUDY.settings("small"), tmp_path)


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, _ = run_twice("multipath", tmp_path / "study", capsys)
    assert [len(table["rows"]) for table in found["tables"]] == [3]
    assert len(list(tmp_path.rglob("epoch-*.safetensors"))) == 6
