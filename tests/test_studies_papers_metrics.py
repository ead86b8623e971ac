"""The study of metrics: what is trained, and verdicts where one or the other foretells the end of a search."""

import numpy as np
import pytest
from study_runs import TRUTH, noisy, plant_truth, run_twice, verdicts

from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p2 import metrics

STUDY = STUDIES["metrics"]
BETTER, SOME = metrics.CLAIMS
GRID = {
    "rates": "0.1,0.2,0.3,0.4,0.5",
    "epochs": "1,2",
    "channels": "4",
    "seeds": "0,1",
    "top_k": "20",
}


def number_of(variant):
    """Which of the ten combinations of rate and epochs it is."""
    return int(variant.name.split("-")[1]) + 5 * (variant.config.recipe.epochs - 1)


def findings(monkeypatch, level, **values):
    """The findings where trainings differ in noise, and their accuracy follows from that."""
    plant_truth(monkeypatch)
    monkeypatch.setattr(metrics, "N_RESAMPLES", 200)
    rng = np.random.default_rng(0)

    def accuracy_of(variant, settings, folder, texts):
        number = number_of(variant)
        return noisy(len(settings.seeds), 0.2 * 1.6**number, rng, level=level(number))

    monkeypatch.setattr(metrics, "accuracy_of", accuracy_of)
    return STUDY.findings(settings_of(STUDY, "tiny", GRID | values), None)


def test_sparse_tau_foretells_and_accuracy_does_not(monkeypatch):
    found = findings(monkeypatch, lambda number: 0.4 + 0.2 * (number % 2))
    assert verdicts(found) == {BETTER: "holds", SOME: "open"}
    rows = {row[0]: row for row in found.tables[0].rows}
    assert rows["sparse tau"][1] > 0.8 > 0.6 > abs(rows["supernet accuracy"][1])
    assert rows["supernet accuracy"][-1] == 0.52
    assert rows["Kendall tau"][-1] is None
    assert len(found.tables[1].rows) == 20
    assert [plot.key for plot in found.plots] == ["accuracy", "kendall-tau", "sparse-tau"]
    assert [[len(one.x) for one in plot.series] for plot in found.plots] == [[10, 10]] * 3


def test_accuracy_foretells_as_well(monkeypatch):
    claims = verdicts(findings(monkeypatch, lambda number: 0.8 - 0.05 * number))
    assert claims == {BETTER: "open", SOME: "holds"}


def test_accuracy_foretells_better(monkeypatch):
    # The better the top, the more accurate the supernet, and the worse it ranks all others.
    rng = np.random.default_rng(0)
    plant_truth(monkeypatch)
    monkeypatch.setattr(metrics, "N_RESAMPLES", 200)

    def accuracy_of(variant, settings, folder, texts):
        quality = number_of(variant) / 10
        scores = 0.3 + 0.4 * quality + 0.02 * (1 - 2 * quality) * TRUTH
        first = int(60 + 40 * quality)
        scores[first : first + settings.top_k] += 0.1
        # A seed is off by more than the distance of its neighbours: correlations of 1 would have no width.
        off = 0.03 * rng.normal(size=(len(settings.seeds), 1, 1))
        return scores + off

    monkeypatch.setattr(metrics, "accuracy_of", accuracy_of)
    found = STUDY.findings(settings_of(STUDY, "tiny", GRID), None)
    assert verdicts(found) == {BETTER: "does not hold", SOME: "holds"}


def test_seeds_that_are_copies_make_no_interval_narrower(monkeypatch):
    def evidence(seeds):
        plant_truth(monkeypatch)
        monkeypatch.setattr(metrics, "N_RESAMPLES", 200)

        def accuracy_of(variant, settings, folder, texts):
            number = number_of(variant)
            rng = np.random.default_rng(number)
            one = noisy(1, 0.2 * 1.6**number, rng, level=0.4 + 0.2 * rng.random())
            return np.repeat(one, len(settings.seeds), axis=0)

        monkeypatch.setattr(metrics, "accuracy_of", accuracy_of)
        found = STUDY.findings(settings_of(STUDY, "tiny", GRID | {"seeds": seeds}), None)
        return found.claims[1].evidence.split(" over ")[0], [row[2] for row in found.tables[0].rows]

    assert evidence("0,1,2") == evidence("0")


def test_accuracy_that_speaks_against(monkeypatch):
    claims = verdicts(findings(monkeypatch, lambda number: 0.3 + 0.05 * number))
    assert claims == {BETTER: "holds", SOME: "does not hold"}


def test_trainings_that_did_not_train_do_not_count(monkeypatch):
    found = findings(monkeypatch, lambda number: 0.4 if number else 0.1, min_accuracy="0.15")
    assert "18 trainings" in found.lead
    assert "2 more did not train" in found.lead
    assert [len(one.x) for one in found.plots[0].series] == [8, 10]
    none = findings(monkeypatch, lambda number: 0.5, min_accuracy="0.99")
    assert set(verdicts(none).values()) == {"open"}


def test_all_combinations_are_trained():
    settings = settings_of(STUDY, "tiny", GRID | {"channels": "4,8"})
    train, *scores = STUDY.steps(settings, None)
    found = {
        (c.recipe.lr, c.recipe.epochs, c.recipe.supernet["channels"], c.seed)
        for c in train.configs.values()
    }
    assert len(found) == len(train.configs) == 5 * 2 * 2 * 2
    assert all(c.recipe.checkpoint_epochs == c.recipe.epochs for c in train.configs.values())
    assert len(scores) == 20
    small = STUDY.settings("small")
    n_trainings = np.prod(
        [len(x) for x in (small.rates, small.epochs, small.channels, small.seeds)]
    )
    assert n_trainings == 36


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, written = run_twice("metrics", tmp_path / "study", capsys)
    assert len(written) == 16
    assert len(found["tables"][1]["rows"]) == 8
