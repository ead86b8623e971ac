"""The study of what sharing costs one arch: who shares in each training, and its verdicts on planted scores."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import planted_nasbench201 as planted
import pytest
from study_runs import run_twice

from wsx.errors import ArchError
from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p1 import capacity
from wsx.training.supernet import supernet_options

STUDY = STUDIES["capacity"]
N_SEEDS, N_CHECKPOINTS, N_COMBINATIONS = 5, 3, 12


def findings(monkeypatch, means):
    rng = np.random.default_rng(0)

    def panel_of(folder, runs):
        kind = runs[0].rpartition("-")[0]
        assert runs == tuple(f"{kind}-{seed}" for seed in range(N_SEEDS))
        n = N_COMBINATIONS if kind == "copies" else 1
        epochs = np.tile([2, 4, 6], (N_SEEDS, 1))
        # Only the last checkpoint counts: the ones before say the opposite.
        mean = np.array([1 - means[kind], 1 - means[kind], means[kind]])[None, :, None]
        noise = 0.01 * rng.normal(size=(N_SEEDS, N_CHECKPOINTS, n))
        return SimpleNamespace(accuracy=mean + noise, epochs=epochs)

    monkeypatch.setattr(capacity, "panel_of", panel_of)
    settings = settings_of(STUDY, "tiny", {"seeds": ",".join(map(str, range(N_SEEDS)))})
    return STUDY.findings(settings, Path("nowhere"))


@pytest.mark.parametrize(
    ("alone", "copies", "shared", "wanted"),
    [
        (0.9, 0.8, 0.6, ["holds", "holds"]),
        (0.6, 0.8, 0.9, ["does not hold", "does not hold"]),
        (0.8, 0.8, 0.6, ["open", "holds"]),
    ],
)
def test_verdicts_are_those_of_what_was_planted(monkeypatch, alone, copies, shared, wanted):
    found = findings(monkeypatch, {"alone": alone, "copies": copies, "shared": shared})
    assert planted.verdicts(found) == wanted
    rows = found.tables[0].rows
    assert [row[1] for row in rows] == pytest.approx([alone, copies, shared], abs=0.02)
    assert rows[0][3] is None
    assert rows[2][3] == pytest.approx(alone - shared, abs=0.03)
    assert 0.005 < rows[1][5] < 0.02
    assert rows[0][5] is rows[2][5] is None
    assert [list(one.x) for one in found.plots[0].series] == [[2, 4, 6]] * 3


@pytest.mark.parametrize("scale", ["tiny", "small", "paper"])
def test_trainings_differ_in_who_shares_alone(scale):
    settings = STUDY.settings(scale)
    configs = capacity._configs(settings)
    assert list(configs) == list(capacity.KINDS)
    assert len(settings.seeds) >= 3
    alone, copies, shared = configs.values()
    assert alone.recipe == shared.recipe
    assert planted.differing(alone.recipe, copies.recipe) <= {"measure"}
    assert alone.archs.n_archs == 1
    assert not shared.restriction
    assert not shared.sharing
    assert not alone.sharing
    macro = supernet_options(settings.recipe, (1, 1, 8, 8), 10) | {"channels": 2, "cells": 1}
    assert copies.build(macro).space.n_archs == 5**6


def test_every_training_is_scored_at_every_checkpoint(tmp_path):
    settings = STUDY.settings("tiny")
    steps = STUDY.steps(settings, tmp_path)
    assert len(planted.trainings(steps)) == 9
    by_name = {step.name: step for step in steps}
    assert by_name["score-alone"].scoring.choice.texts == (capacity.ARCH,)
    assert by_name["score-shared"].scoring.choice.texts == (capacity.ARCH,)
    assert by_name["score-copies"].scoring.choice.n == settings.n_combinations
    assert {step.n_checkpoints for step in steps[1:]} == {2}


def test_an_arch_that_is_none_is_refused(tmp_path):
    with pytest.raises(ArchError, match="blocks"):
        STUDY.steps(settings_of(STUDY, "tiny", {"arch": "333333"}), tmp_path)


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, _ = run_twice("capacity", tmp_path / "study", capsys)
    assert [len(table["rows"]) for table in found["tables"]] == [3]
    assert len(list(tmp_path.rglob("epoch-*.safetensors"))) == 18
