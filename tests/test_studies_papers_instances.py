"""The study of independent supernets: whole at its smallest scale, and its verdicts on planted scores."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from study_runs import run_twice

from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p3 import instances
from wsx.studies.papers.p3.cell64 import Cell64Settings
from wsx.truth import load_truth

N_RUNS, N_ARCHS = 8, 40


def findings(monkeypatch, scores, alone):
    """The study's findings on planted accuracies: (run, arch) by kind, and (seed, arch) alone."""
    texts = [f"arch {i}" for i in range(alone.shape[1])]
    truth = SimpleNamespace(texts=texts, accuracy=alone.mean(axis=0), per_seed=alone.T, source="x")
    monkeypatch.setattr(Cell64Settings, "load_truth", lambda settings, folder: truth)

    def panel_of(folder, runs, archs):
        assert list(archs) == texts
        kind = next(iter(runs)).rpartition("-")[0]
        assert len(runs) == len(scores[kind])
        return SimpleNamespace(accuracy=scores[kind][:, None, :])

    monkeypatch.setattr(instances, "panel_of", panel_of)
    settings = settings_of(
        STUDIES["instances"], "tiny", {"seeds": ",".join(map(str, range(len(scores["seeds"]))))}
    )
    return STUDIES["instances"].findings(settings, Path("nowhere"))


def planted(noise, rng):
    quality = np.linspace(0.2, 0.8, N_ARCHS)
    return quality + noise * rng.normal(size=(N_RUNS, N_ARCHS))


def verdicts(found):
    return [claim.verdict for claim in found.claims]


def test_noisy_supernets_beside_steady_truth(monkeypatch):
    rng = np.random.default_rng(0)
    scores = {kind: planted(0.15, rng) for kind in instances.KINDS}
    found = findings(monkeypatch, scores, planted(0.01, rng))
    assert verdicts(found)[:2] == ["holds", "holds"]
    table, against = found.tables
    rows = {row[0]: row for row in table.rows}
    assert rows["stand-alone trainings"][1] > 0.9
    assert 0.3 < rows[instances.KINDS["seeds"]][1] < 0.8
    assert abs(rows["random rankings"][1]) < 0.2
    assert len(against.rows) == 4


def test_supernets_as_steady_as_truth(monkeypatch):
    rng = np.random.default_rng(1)
    scores = {kind: planted(0.01, rng) for kind in instances.KINDS}
    assert verdicts(findings(monkeypatch, scores, planted(0.15, rng)))[:2] == [
        "does not hold",
        "holds",
    ]


def test_supernets_that_know_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    scores = {kind: rng.random((N_RUNS, N_ARCHS)) for kind in instances.KINDS}
    assert verdicts(findings(monkeypatch, scores, planted(0.01, rng)))[1] == "open"
    worse = {kind: -planted(0.05, rng) for kind in instances.KINDS}
    assert verdicts(findings(monkeypatch, worse, planted(0.01, rng)))[1] == "does not hold"


@pytest.mark.parametrize(
    ("good", "bad", "right"), [(0.1, 0.01, "holds"), (0.01, 0.1, "does not hold")]
)
def test_the_bottom_is_found_more_often_than_the_top(monkeypatch, good, bad, right):
    rng = np.random.default_rng(3)
    quality = np.linspace(0.2, 0.8, N_ARCHS)
    noise = np.where(quality > 0.5, good, bad)
    scores = {
        kind: quality + noise * rng.normal(size=(N_RUNS, N_ARCHS)) for kind in instances.KINDS
    }
    assert verdicts(findings(monkeypatch, scores, planted(0.001, rng)))[2] == right


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, weights = run_twice("instances", tmp_path / "study", capsys)
    assert len(weights) == 18
    assert [len(table["rows"]) for table in found["tables"]] == [5, 4]
    (plot,) = found["plots"]
    assert len(plot["series"][0]["x"]) == 8


def test_the_packaged_truth_is_what_small_would_train():
    settings = settings_of(STUDIES["instances"], "small", {})
    truth = load_truth("digits-cell64")
    assert truth.only(settings.texts).per_seed.shape == (64, len(settings.truth_seeds))
    assert truth.info["seeds"] == list(settings.truth_seeds)
    trained = settings.alone.as_dict()
    assert {name: truth.info[name] for name in trained} == trained
