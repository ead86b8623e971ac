"""The study of learning rates: what is trained, and verdicts on planted scores."""

import numpy as np
import pytest
from study_runs import noisy, plant_truth, run_twice

from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p2 import learning_rate
from wsx.studies.papers.p2.curves import Curves

STUDY = STUDIES["learning-rate"]
TAU, FINAL = 0, 1


def findings(monkeypatch, noise, seed_noise=0.05, **values):
    """The findings where rates rank with some noise, in order of the rates."""
    plant_truth(monkeypatch)
    rng = np.random.default_rng(0)
    texts = {
        "rates": ",".join(f"{2.0**-i}" for i in range(len(noise))),
        "seeds": "0,1,2",
        "top_k": "30",
    }
    settings = settings_of(STUDY, "tiny", texts | values)

    def curves_of(variant, settings, folder, texts):
        number = int(variant.name.removeprefix("rate-"))
        n = len(settings.seeds)
        each = [noisy(1, noise[number] * rng.uniform(1, 1 + seed_noise), rng) for _ in range(n)]
        accuracy = np.concatenate(each)
        return Curves((2,), accuracy, 1 - accuracy)

    monkeypatch.setattr(learning_rate, "curves_of", curves_of)
    return STUDY.findings(settings, None)


def test_rates_that_decide(monkeypatch):
    found = findings(monkeypatch, [0.1, 0.5, 2.0, 100.0])
    assert [claim.verdict for claim in found.claims] == ["holds", "holds"]
    (table,) = found.tables
    assert [row[0] for row in table.rows] == ["1", "0.5", "0.25", "0.125"]
    assert table.rows[0][5] > table.rows[-1][5]
    assert [len(plot.series) for plot in found.plots] == [4, 4, 4]


def test_rates_that_decide_less_than_seeds(monkeypatch):
    found = findings(monkeypatch, [0.3] * 12, seed_noise=40.0, seeds="0,1,2,3,4,5")
    assert found.claims[TAU].verdict == "does not hold"


def test_one_seed_says_nothing(monkeypatch):
    found = findings(monkeypatch, [0.1, 100.0], seeds="0")
    assert {claim.verdict for claim in found.claims} == {"open"}
    assert "no variance" in found.claims[FINAL].evidence


def test_trainings_differ_in_their_rate_alone():
    settings = settings_of(STUDY, "tiny", {})
    train, *scores = STUDY.steps(settings, None)
    assert len(train.configs) == len(settings.rates) * len(settings.seeds)
    recipes = [config.recipe.as_dict() for config in train.configs.values()]
    assert {recipe.pop("lr") for recipe in recipes} == set(settings.rates)
    assert all(recipe == recipes[0] for recipe in recipes)
    assert {step.checkpoints for step in scores} == {"epochs"}
    assert {step.n_checkpoints for step in scores} == {2}
    assert len(STUDY.settings("small").rates) == len(STUDY.settings("paper").rates) == 5


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, written = run_twice("learning-rate", tmp_path / "study", capsys)
    # Six trainings, two checkpoints and a state each.
    assert len(written) == 18
    assert len(found["tables"][0]["rows"]) == 3
