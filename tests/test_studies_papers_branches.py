"""The study of fixing branches: how branches are chosen, and its verdicts on planted choices."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import planted_nasbench201 as planted
import pytest
from study_runs import run_twice

from wsx.errors import OptionError
from wsx.studies.panel import read_panel
from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p1 import branches, fixing

STUDY = STUDIES["branches"]
SPACE = planted.SPACE
VALUES = {"n_parts": "4", "recipe.epochs": "4", "seeds": "0,1,2,3,4", "top_k": "5"}


def plant_quality(monkeypatch):
    """Give archs a truth that grows with the number of 3x3 convolutions."""
    truth = planted.plant_truth(monkeypatch, n_archs=2000)
    archs = fixing.table_of(SPACE, truth.texts)
    noise = np.random.default_rng(1).uniform(0, 0.01, len(archs))
    truth.accuracy[:] = 0.3 + 0.05 * (archs == 3).sum(axis=1) + noise
    return truth, archs


def findings(monkeypatch, fixed, noise):
    truth, archs = plant_quality(monkeypatch)
    rng = np.random.default_rng(0)

    def chain_of(settings, scores, way, seed):
        # Equal seeds would leave every claim open.
        mask = fixing.is_left(archs, fixed[way])
        texts = [text for text, left in zip(truth.texts, mask, strict=True) if left][:150]
        true = truth.only(texts).accuracy
        return branches.Chain(
            fixed[way][: 3 - seed % 2], texts, true + noise * rng.normal(size=true.size)
        )

    monkeypatch.setattr(branches, "chain_of", chain_of)
    return STUDY.findings(settings_of(STUDY, "tiny", VALUES), Path("nowhere"))


GOOD, BAD = ((5, 3), (0, 3), (1, 3)), ((5, 0), (0, 0), (1, 0))
OTHER = {"random": ((0, 1), (1, 1), (2, 1)), "free": ()}


def test_good_branches_leave_better_archs(monkeypatch):
    fixed = dict.fromkeys(("accuracy", "nondominated", "lstsq"), GOOD) | OTHER
    found = findings(monkeypatch, fixed, 0.5)
    assert planted.verdicts(found) == ["holds"] * 6
    left, order = found.tables
    rows = {row[0]: row for row in left.rows}
    assert rows["mean accuracy"][1] > rows["nothing fixed"][1] > rows["at random"][1]
    assert rows["at random, mean of 1000 draws"][1] == pytest.approx(
        rows["nothing fixed"][1], abs=0.01
    )
    assert order.rows[0] == [
        "mean accuracy",
        "0",
        "2->3=nor_conv_3x3, 0->1=nor_conv_3x3, 0->2=nor_conv_3x3",
    ]
    line = {one.name: list(one.y) for one in found.plots[0].series}
    assert line["mean accuracy"] == sorted(line["mean accuracy"])
    assert len(set(line["nothing fixed"])) == 1


def test_bad_branches_leave_worse_archs(monkeypatch):
    fixed = dict.fromkeys(("accuracy", "nondominated", "lstsq"), BAD) | OTHER
    assert planted.verdicts(findings(monkeypatch, fixed, 0.01)) == ["does not hold"] * 6


def test_each_score_of_branches_is_judged_by_itself(monkeypatch):
    fixed = {"accuracy": GOOD, "nondominated": BAD, "lstsq": GOOD} | OTHER
    assert planted.verdicts(findings(monkeypatch, fixed, 0.3))[::2] == [
        "holds",
        "does not hold",
        "holds",
    ]


def test_ranks_and_what_is_left_against_a_slow_version(monkeypatch):
    truth, archs = plant_quality(monkeypatch)
    settings = settings_of(STUDY, "tiny", VALUES | {"seeds": "0"})
    chain = branches.Chain(BAD, truth.texts[:7], np.arange(7.0))
    ends = branches._ends(settings, truth.texts, archs, truth.accuracy, {"accuracy": [chain]})
    space = SPACE.decisions
    left = [
        t
        for text, t in zip(truth.texts, truth.accuracy, strict=True)
        if all(SPACE.parse(text)[place] == option for place, option in BAD)
    ]
    assert space[5].options[0] == "none"
    assert ends["accuracy"].last.mean == pytest.approx(sum(left) / len(left), abs=1e-12)
    n_better = sum(t > max(left) for t in truth.accuracy)
    assert ends["accuracy"].best_rank.mean == 1 + n_better
    assert ends["accuracy"].picked.mean == pytest.approx(truth.accuracy[2:7].mean(), abs=1e-12)


def planted_panel():
    """Scores under which decision 2 with option 4 stands out."""
    rng = np.random.default_rng(0)
    archs = np.array(SPACE.sample(150, rng=rng, measure="reachable"))
    accuracy = 0.3 + 0.2 * (archs[:, 2] == 4) + 0.01 * rng.random(150)
    return SimpleNamespace(
        decisions=archs, accuracy=accuracy[None, None], params=np.full(150, 1000)
    )


def test_ways_choose_by_their_own_scores(monkeypatch):
    settings = settings_of(STUDY, "tiny", VALUES)
    panel = planted_panel()
    for way in ("accuracy", "lstsq"):
        scores = fixing._branches(settings, panel, way, (0, 1))
        assert max(scores, key=scores.get) == (2, 4)
    drawn = [fixing._branches(settings, panel, "random", (seed, 1)) for seed in range(40)]
    chosen = [max(scores, key=scores.get) for scores in drawn]
    assert len(set(chosen)) > 12
    assert drawn[3] == fixing._branches(settings, panel, "random", (3, 1))
    assert set(drawn[0]) == set(fixing._branches(settings, panel, "accuracy", (0, 1)))


def test_branches_that_few_archs_have_are_not_drawn():
    settings = settings_of(STUDY, "tiny", VALUES | {"min_archs": "34"})
    panel = planted_panel()
    scores = fixing._branches(settings, panel, "random", (0, 1))
    counts = {(p, o): int((panel.decisions[:, p] == o).sum()) for p in range(6) for o in range(5)}
    assert set(scores) == {key for key, n in counts.items() if n >= 34} != set(counts)


@pytest.mark.parametrize("scale", ["tiny", "small", "paper"])
def test_parts_add_up_to_the_epochs(scale):
    settings = STUDY.settings(scale)
    recipe = fixing.first_part(settings, 1).recipe
    assert recipe.epochs * settings.n_parts == settings.recipe.epochs
    assert planted.differing(recipe, settings.recipe) <= {"epochs", "checkpoint_epochs"}


def test_the_plan_counts_what_may_have_to_be_trained(tmp_path):
    settings = settings_of(STUDY, "tiny", {"n_parts": "2"})
    first, second = (step.work() for step in STUDY.steps(settings, tmp_path))
    assert (first.n_trainings, second.n_trainings) == (2, 10)
    assert second.n_train_images == 5 * first.n_train_images
    assert (first.n_scores, second.n_scores) == (2 * 24, 10 * 24)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("values", [{"n_parts": "1"}, {"n_parts": "0"}, {"n_parts": "3"}])
def test_parts_that_do_not_fill_the_epochs_are_refused(values, tmp_path):
    with pytest.raises(OptionError, match="n_parts is"):
        STUDY.steps(settings_of(STUDY, "tiny", values), tmp_path)


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    out = tmp_path / "study"
    found, _ = run_twice("branches", out, capsys)
    assert [len(table["rows"]) for table in found["tables"]] == [6, 10]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    (out / "done" / "part-2").unlink()
    assert run_twice("branches", out, capsys)[0] == found
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    fixed = {tuple(row[:2]): row[2] for row in found["tables"][1]["rows"]}
    assert fixed["nothing fixed", "0"] == ""
    for seed in (0, 1):
        name = f"seed-{seed}-part-1"
        panel = read_panel(out / "scores.h5", keeps=lambda key, info, run=name: info["run"] == run)
        means = {}
        for place, decision in enumerate(SPACE.decisions):
            for option, label in enumerate(decision.options):
                has = panel.decisions[:, place] == option
                if 3 <= has.sum() < has.size:
                    means[f"{decision.name}={label}"] = panel.accuracy[0, 0, has].mean()
        best = max(means, key=means.get)
        assert fixed["mean accuracy", str(seed)] == best
        configs = [
            json.loads(path.read_text())
            for path in (out / "runs").glob(f"seed-{seed}-part-2*/run.json")
        ]
        wanted = {row for (_, s), row in fixed.items() if s == str(seed)}
        trained = {"".join(f"{d}={o[0]}" for d, o in c["restriction"].items()) for c in configs}
        assert trained == wanted
        assert all(f"{name}/checkpoints/epoch-0001" in config["init_from"] for config in configs)
