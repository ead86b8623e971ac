"""The study of warm restarts: what differs between its trainings, and its verdicts on planted scores."""

from pathlib import Path

import numpy as np
import planted_nasbench201 as planted
import pytest
from study_runs import run_twice

from wsx.errors import OptionError
from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p1 import restarts

STUDY = STUDIES["restarts"]


def findings(monkeypatch, noise, seed):
    """Findings where noise is given by way and checkpoint."""
    truth = planted.plant_truth(monkeypatch)
    rng = np.random.default_rng(seed)

    def accuracy_of(variant, settings, folder, texts):
        true = truth.only(texts).accuracy
        parts = [planted.noisy(true, one, rng) for one in noise[variant.name]]
        return np.concatenate(parts, axis=1)

    monkeypatch.setattr(restarts, "accuracy_of", accuracy_of)
    values = {"n_archs": "120", "seeds": "0,1,2,3,4,5,6,7"}
    return STUDY.findings(settings_of(STUDY, "tiny", values), Path("nowhere"))


@pytest.mark.parametrize(
    ("noise", "wanted"),
    [
        ({"once": (0.3, 0.2), "restarts": (0.1, 0.05)}, ["holds", "holds"]),
        ({"once": (0.1, 0.05), "restarts": (0.3, 0.2)}, ["does not hold", "does not hold"]),
        ({"once": (0.3, 0.05), "restarts": (0.1, 0.2)}, ["does not hold", "holds"]),
        ({"once": (0.2, 0.2), "restarts": (0.2, 0.2)}, ["open", "open"]),
    ],
)
def test_verdicts_are_those_of_what_was_planted(monkeypatch, noise, wanted):
    found = findings(monkeypatch, noise, 0)
    assert planted.verdicts(found) == wanted
    gain = found.tables[0].rows[-1]
    assert gain[0] == "gain by restarts"
    column = list(found.tables[0].columns).index("Spearman")
    a, b = (row[column] for row in found.tables[0].rows[:2])
    assert gain[column] == pytest.approx(b - a, abs=1e-12)
    assert [list(one.x) for one in found.plots[0].series] == [[2, 4], [2, 4]]


@pytest.mark.parametrize("scale", ["tiny", "small", "paper"])
def test_trainings_differ_in_restarts_alone(scale):
    settings = STUDY.settings(scale)
    once, restarted = restarts._variants(settings)
    assert planted.differing(once.config.recipe, restarted.config.recipe) == {"restart_epochs"}
    assert once.config.recipe.restart_epochs == 0
    every = restarted.config.recipe.restart_epochs
    assert once.config.recipe.checkpoint_epochs == every == settings.restart_epochs
    assert once.n_checkpoints == restarted.n_checkpoints == settings.recipe.epochs // every > 1
    assert once.checkpoints == restarted.checkpoints == "epochs"


def test_each_schedule_is_trained_with_each_seed(tmp_path):
    steps = STUDY.steps(STUDY.settings("tiny"), tmp_path)
    runs = planted.trainings(steps)
    assert list(runs) == ["once-0", "once-1", "restarts-0", "restarts-1"]
    assert [config.seed for config in runs.values()] == [0, 1, 0, 1]


@pytest.mark.parametrize("every", [0, 3, 4, 8])
def test_cycles_that_do_not_fill_the_epochs_are_refused(every, tmp_path):
    with pytest.raises(OptionError, match=f"restart_epochs is {every}"):
        STUDY.steps(settings_of(STUDY, "tiny", {"restart_epochs": str(every)}), tmp_path)


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, _ = run_twice("restarts", tmp_path / "study", capsys)
    assert [len(table["rows"]) for table in found["tables"]] == [3]
    assert len(list(tmp_path.rglob("epoch-*.safetensors"))) == 8
