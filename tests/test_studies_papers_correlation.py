"""The study of correlations: what is scored when, and its verdicts on planted scores."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import planted_nasbench201 as planted
import pytest
from study_runs import run_twice

from wsx.errors import StudyError
from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p1 import correlation, operations
from wsx.studies.papers.p1.operations import operation_bias
from wsx.studies.papers.p1.tops import Ranking

STUDY = STUDIES["correlation"]
SPACE = planted.SPACE
N_SEEDS, N_ARCHS, N_EARLY = 6, 300, 120
FALLING, RISING, LATE = (1.0, 0.3, 0.12, 0.1), (0.1, 0.12, 0.3, 1.0), (1.0, 0.95, 0.9, 0.05)


def findings(monkeypatch, noise, last, sizes):
    """Findings where early checkpoints have noise each, and the last one the scores that a function gives."""
    table = planted.plant_truth(monkeypatch, n_archs=400)
    rng = np.random.default_rng(0)

    def panels(settings, folder, texts):
        truth = table.only(texts).accuracy
        early = truth[:N_EARLY] + np.array(noise)[None, :, None] * rng.normal(
            size=(N_SEEDS, len(noise), N_EARLY)
        )
        archs = np.array([SPACE.parse(text) for text in texts])
        flops = truth + sizes * rng.normal(size=truth.size)
        return (
            SimpleNamespace(accuracy=early, epochs=np.tile([1, 2, 3, 4], (N_SEEDS, 1))),
            SimpleNamespace(
                accuracy=last(truth, rng)[:, None],
                decisions=archs,
                flops=flops,
                params=rng.permutation(truth.size),
            ),
        )

    monkeypatch.setattr(correlation, "panels", panels)
    monkeypatch.setattr(correlation, "N_RESAMPLES", 20)
    monkeypatch.setattr(operations, "N_RESAMPLES", 20)
    values = {"n_archs": str(N_ARCHS), "n_archs_early": str(N_EARLY)}
    values["seeds"] = ",".join(map(str, range(N_SEEDS)))
    return STUDY.findings(settings_of(STUDY, "tiny", values), Path("nowhere"))


def good_at_the_bottom(truth, rng):
    return truth + np.where(truth > 0.6, 0.15, 0.01) * rng.normal(size=(N_SEEDS, truth.size))


def good_at_the_top(truth, rng):
    return truth + np.where(truth < 0.6, 0.1, 0.004) * rng.normal(size=(N_SEEDS, truth.size))


def backwards(truth, rng):
    return -truth + 0.3 * rng.normal(size=(N_SEEDS, truth.size))


def test_what_the_paper_says(monkeypatch):
    found = findings(monkeypatch, FALLING, good_at_the_bottom, 0.5)
    assert planted.verdicts(found) == ["holds"] * 7
    correlations, ends, picks, bias = found.tables
    rows = {row[0]: row for row in correlations.rows}
    assert rows["one supernet"][1] > rows["flops"][1]
    assert "one training alone, against another" not in rows
    rows = {row[0]: row for row in ends.rows}
    assert rows["overlap of the bottom 10 %"][1] > 0.8
    assert rows["overlap of the bottom 10 %"][-1] == 0.73
    assert [row[0] for row in picks.rows] == ["1", "5", "10", "20", "50", "100"]
    assert [row[0] for row in bias.rows] == list(SPACE.decisions[0].options)
    assert [plot.key for plot in found.plots] == ["epochs", "scatter", "pruning", "bias"]
    supernet, random = found.plots[2].series[:2]
    assert all(a >= b - 1e-9 for a, b in zip(supernet.y, random.y, strict=True))


def test_the_opposite(monkeypatch):
    found = findings(monkeypatch, RISING, backwards, 0.5)
    assert planted.verdicts(found)[:1] == ["does not hold"]
    assert planted.verdicts(found)[2] == "does not hold"
    # None of the best is found by any seed, which has no width.
    assert planted.verdicts(found)[4:] == ["does not hold", "open", "does not hold"]


def test_good_at_the_top_and_late_gains(monkeypatch):
    found = findings(monkeypatch, LATE, good_at_the_top, 0.01)
    assert planted.verdicts(found) == [
        "holds",
        "does not hold",
        "does not hold",
        "does not hold",
        "holds",
        "does not hold",
        "open",
    ]
    # All seeds keep all good archs, which decides nothing.
    assert "no width" in found.claims[6].evidence


def test_readings_of_the_ends_are_those_of_sets():
    rng = np.random.default_rng(3)
    truth, scores = rng.permutation(200).astype(float), rng.permutation(200).astype(float)
    ranking = Ranking(scores[None], truth, {})
    for name, k, sign in (("top 1 %", 2, 1), ("top 10 %", 20, 1), ("bottom 10 %", 20, -1)):
        picked, true = (set(np.argsort(-sign * v)[:k]) for v in (scores, truth))
        assert ranking.readings(name).mean == len(picked & true) / k
        assert ranking.chance(name) == k / 200


def test_operations_that_are_over_valued_are_named():
    rng = np.random.default_rng(0)
    archs = np.array(SPACE.sample(400, rng=rng, measure="reachable"))
    truth = rng.random(400)
    scores = truth + 0.3 * (archs[:, 2] == 1) - 0.3 * (archs[:, 5] == 4)
    scores = scores + 0.01 * rng.normal(size=(3, 400))
    table, plot = operation_bias(SPACE.decisions, archs, scores, truth)
    rows = {row[0]: row for row in table.rows}
    # Where one is over-valued the others of that edge look under-valued beside it.
    assert "1->2" in rows["skip_connect"][3].split(", ")
    assert "2->3" in rows["avg_pool_3x3"][4].split(", ")
    assert not {edge for row in table.rows for edge in f"{row[3]}, {row[4]}".split(", ")} - {
        "",
        "1->2",
        "2->3",
    }
    assert rows["skip_connect"][1] > 0.02 > -0.02 > rows["avg_pool_3x3"][1]
    shown = {one.name: dict(zip(one.x, one.y, strict=True)) for one in plot.series}
    assert shown["skip_connect"]["1->2"] > 0.15 > -0.15 > shown["avg_pool_3x3"]["2->3"]


@pytest.mark.parametrize("scale", ["tiny", "small"])
def test_the_last_checkpoint_is_scored_on_more_archs(scale, tmp_path, monkeypatch):
    planted.plant_truth(monkeypatch, n_archs=1500)
    settings = STUDY.settings(scale)
    train, early, last = STUDY.steps(settings, tmp_path)
    assert list(train.configs) == [f"seed-{seed}" for seed in settings.seeds]
    assert (early.checkpoints, last.checkpoints) == ("epochs", "last")
    assert early.n_checkpoints * settings.recipe.checkpoint_epochs == settings.recipe.epochs
    few, many = early.scoring.choice.texts, last.scoring.choice.texts
    assert len(few) == settings.n_archs_early < len(many) == settings.n_archs
    assert many[: len(few)] == few
    assert (early.scoring.images, early.scoring.bn) == (last.scoring.images, last.scoring.bn)


def test_without_truth_it_says_what_to_give(tmp_path):
    with pytest.raises(StudyError, match="--set truth=PATH"):
        STUDY.steps(STUDY.settings("small"), tmp_path)


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, _ = run_twice("correlation", tmp_path / "study", capsys)
    assert [len(table["rows"]) for table in found["tables"]] == [7, 5, 4, 5]
    assert [len(plot["series"]) for plot in found["plots"]] == [2, 1, 4, 5]
    assert len(found["plots"][0]["series"][0]["x"]) == 4
    assert len(found["plots"][1]["series"][0]["x"]) == 40
