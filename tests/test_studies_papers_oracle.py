"""The study of oracle pruning: which archs are kept, and its verdicts on planted scores."""

from pathlib import Path

import numpy as np
import planted_nasbench201 as planted
import pytest
from study_runs import run_twice

from wsx.errors import OptionError
from wsx.spaces.lists import read_archs
from wsx.studies.papers import STUDIES, Machine, settings_of
from wsx.studies.papers.p1 import oracle, parts

STUDY = STUDIES["oracle"]


def findings(monkeypatch, noise, lift):
    """Findings where supernets see archs with one noise, so much of it by kind, and are so much more accurate."""
    truth = planted.plant_truth(monkeypatch)

    def accuracy_of(variant, settings, folder, texts):
        true = truth.only(texts).accuracy
        kind = variant.name
        return lift[kind] + planted.noisy(true, noise[kind], np.random.default_rng(0))

    monkeypatch.setattr(parts, "accuracy_of", accuracy_of)
    values = {"n_archs": "240", "seeds": "0,1,2,3,4,5,6,7"}
    return STUDY.findings(settings_of(STUDY, "tiny", values), Path("nowhere"))


def test_supernets_that_gain_by_pruning(monkeypatch):
    noise = {"whole": 1.0, "best": 0.02, "random": 0.1}
    found = findings(monkeypatch, noise, {"whole": 0.0, "best": 0.1, "random": 0.0})
    assert planted.verdicts(found) == ["holds"] * 5
    rows = {row[0]: row for row in found.tables[0].rows}
    assert list(rows) == list(oracle.KEYS.values())
    columns = list(found.tables[0].columns)
    best, mean = columns.index("best truth"), columns.index("mean truth")
    assert (
        rows["all archs, searched in all"][mean] < rows["the best archs, searched in these"][mean]
    )
    assert (
        rows["the best archs, searched in these"][best] == rows["all archs, searched in all"][best]
    )


def test_supernets_that_lose_by_pruning(monkeypatch):
    noise = {"whole": 0.01, "best": 3.0, "random": 3.0}
    found = findings(monkeypatch, noise, {"whole": 0.5, "best": 0.0, "random": 0.0})
    assert planted.verdicts(found) == ["does not hold"] * 5


def test_pruning_the_search_alone_is_not_called_a_gain_of_training(monkeypatch):
    alike = dict.fromkeys(("whole", "best", "random"), 5.0)
    found = findings(monkeypatch, alike, dict.fromkeys(alike, 0.0))
    assert planted.verdicts(found)[0] == "holds"
    assert planted.verdicts(found)[1:] == ["open"] * 4


def test_kept_archs_are_the_best_and_as_many_at_random(tmp_path, monkeypatch):
    truth = planted.plant_truth(monkeypatch, n_archs=200)
    lists, *others = STUDY.steps(STUDY.settings("tiny"), tmp_path)
    lists.run(tmp_path, Machine(), lambda *_: None)
    kept = {
        name: [planted.SPACE.format(a) for a in read_archs(path, planted.SPACE)]
        for name in ("whole", "best", "random")
        for path in [tmp_path / "lists" / f"{name}.txt"]
    }
    assert kept["whole"] == list(truth.texts)
    assert sorted(kept["best"]) == sorted(truth.texts[-66:])
    assert len(set(kept["random"])) == 66
    assert len(set(kept["random"]) & set(kept["best"])) < 40
    runs = planted.trainings(others)
    assert list(runs) == [f"{name}-{seed}" for name in kept for seed in (0, 1)]
    for config in runs.values():
        assert planted.differing(config.recipe, runs["whole-0"].recipe) <= {"measure"}


@pytest.mark.parametrize("ratio", ["0", "1.5", "nan"])
def test_ratios_out_of_range_are_refused(ratio, tmp_path):
    with pytest.raises(OptionError, match="ratio is"):
        STUDY.steps(settings_of(STUDY, "tiny", {"ratio": ratio}), tmp_path)


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, _ = run_twice("oracle", tmp_path / "study", capsys)
    assert [len(table["rows"]) for table in found["tables"]] == [5]
    assert len(list(tmp_path.rglob("epoch-*.safetensors"))) == 6
