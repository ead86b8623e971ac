import dataclasses
import json

import numpy as np
import pytest
from scipy import stats
from search_folders import EDGES, edges_folder
from small_run import (
    DATA,
    N_IMAGES,
    evaluate,
    outcomes,
    read_table,
    small_run,
)

from wsx.errors import OptionError, TruthError, WsxError
from wsx.evaluators.engines import OnnxEngine
from wsx.search import Evolution, Limits, RandomSearch
from wsx.spaces import ProductSpace
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.store import open_store
from wsx.studies.images import ImageChoice
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import ScoringOptions
from wsx.studies.search.folder import search_folder
from wsx.studies.search.report import Measured
from wsx.studies.search.run import search_run, standalone_config, train_winners
from wsx.studies.search.settings import SearchSettings
from wsx.studies.search.table import search_table
from wsx.training import RECIPES
from wsx.truth import TruthTable, write_truth

RULES = Evolution(20, population=8, tournament=4, per_round=4)
BN = "running"
SETTINGS = SearchSettings(RULES, seed=2, top=3)
OPTIONS = ScoringOptions(32, 1)
VALID = ImageChoice("valid", 40)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def folder(run, tmp_path_factory):
    return edges_folder(run, tmp_path_factory.getbasetemp(), BN)


def searched(run, out, settings=SETTINGS, *, images=VALID, options=OPTIONS, **more):
    return search_run(
        RunSubnets(run, BN), out, settings, images=images, device="cpu", options=options, **more
    )


@pytest.fixture(scope="session")
def reference(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "s.h5"
    return searched(run, out), out


def decided(report):
    """Return a report without what hangs on what was there before."""
    return {n: v for n, v in report.as_dict().items() if n not in {"n_run", "n_there_already"}}


def test_scores_are_those_of_evaluate_under_the_same_key(run, reference, tmp_path):
    report, out = reference
    archs = list(dict.fromkeys(trial.arch for trial in report.trials))
    key, _ = evaluate(run, tmp_path / "e.h5", archs, bn=BN, images=VALID, options=OPTIONS)
    assert report.key == key
    assert outcomes(read_table(out)) == outcomes(read_table(tmp_path / "e.h5"))
    accuracy = dict(zip(read_table(out).text, read_table(out).accuracy, strict=True))
    for trial in report.trials:
        assert trial.value == accuracy[NASBENCH201.format(trial.arch)]
    assert report.winners[0].value == max(accuracy.values())


def test_settings_and_seed_are_kept_in_the_campaign(reference):
    report, out = reference
    info = read_table(out).info
    assert info["search"] == report.settings
    assert info["search"] == {
        **RULES.as_dict(),
        "seed": 2,
        "limits": {},
        "by": "accuracy",
        "measure": "encodings",
    }
    assert (info["split"], info["checkpoint"], info["run_seed"]) == ("valid", "epoch-0002", 0)
    json.dumps(report.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    "options", [ScoringOptions(32, 3), ScoringOptions(16, 2), ScoringOptions()]
)
def test_workers_batches_and_merging_change_nothing(run, reference, tmp_path, options):
    report = searched(run, tmp_path / "s.h5", options=options)
    assert report.trials == reference[0].trials
    assert outcomes(read_table(tmp_path / "s.h5")) == outcomes(read_table(reference[1]))


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 8, 10])
def test_interrupted_and_repeated_is_uninterrupted(run, reference, tmp_path, monkeypatch, n):
    score, scored = OnnxEngine.score, []

    def interrupting(self, arch):
        if len(scored) == n:
            raise KeyboardInterrupt
        scored.append(arch)
        return score(self, arch)

    never = dataclasses.replace(OPTIONS, merge=dataclasses.replace(OPTIONS.merge, n_subnets=1))
    with monkeypatch.context() as patch:
        patch.setattr(OnnxEngine, "score", interrupting)
        with pytest.raises(KeyboardInterrupt):
            searched(run, tmp_path / "s.h5", options=never)
    n_stored = len(read_table(tmp_path / "s.h5"))
    report = searched(run, tmp_path / "s.h5")
    assert decided(report) == decided(reference[0])
    assert 0 < n_stored <= report.n_there_already < report.n_different
    assert outcomes(read_table(tmp_path / "s.h5")) == outcomes(read_table(reference[1]))
    again = searched(run, tmp_path / "s.h5")
    assert (again.n_run, again.n_there_already) == (0, report.n_different)


@pytest.mark.slow  # Worker processes import torch, seconds each.
def test_worker_processes_change_nothing(run, reference, tmp_path):
    options = ScoringOptions(n_workers=1, is_isolated=True)
    assert searched(run, tmp_path / "s.h5", options=options).trials == reference[0].trials


def test_winners_have_intervals_costs_and_differ_in_function(reference):
    report, out = reference
    table = read_table(out)
    row_of = {str(text): row for row, text in enumerate(table.text)}
    rows = [row_of[winner.text] for winner in report.winners]
    assert len(rows) == 3
    assert len({table.function_key[row] for row in rows}) == 3
    for winner, row in zip(report.winners, rows, strict=True):
        expected = stats.binomtest(int(table.correct[row]), 40).proportion_ci(0.95, method="wilson")
        assert (winner.searched.low, winner.searched.high) == (expected.low, expected.high)
        assert winner.searched.n_images == 40
        assert winner.loss == table.loss_sum[row] / 40
        assert (winner.cost.params, winner.cost.flops) == (table.params[row], table.flops[row])
    (note,) = report.notes()
    assert "40 valid images" in note
    assert f"best of {report.n_different} archs" in note
    assert "optimistic" in note


def test_winners_are_scored_again_on_the_other_split(run, reference, tmp_path):
    settings = dataclasses.replace(SETTINGS, rescore_split="test")
    report = searched(run, tmp_path / "s.h5", settings)
    archs = [winner.arch for winner in report.winners]
    key, _ = evaluate(run, tmp_path / "e.h5", archs, bn=BN, options=OPTIONS)
    expected = read_table(tmp_path / "e.h5")
    with open_store(tmp_path / "s.h5", "r") as store:
        found = store.read(key)
    assert outcomes(found) == outcomes(expected)
    accuracy = dict(zip(expected.text, expected.accuracy, strict=True))
    for winner in report.winners:
        assert winner.rescored.accuracy == accuracy[winner.text]
    assert {winner.rescored.n_images for winner in report.winners} == {N_IMAGES}
    assert [winner.arch for winner in report.winners] == [w.arch for w in reference[0].winners]
    assert any("101 test images, which chose nothing" in note for note in report.notes())


def test_limits_are_kept_with_the_supernets_own_costs(run, reference, tmp_path):
    most = int(np.median(read_table(reference[1]).params)) - 1
    settings = dataclasses.replace(SETTINGS, limits=Limits(max_params=most))
    report = searched(run, tmp_path / "s.h5", settings)
    table = read_table(tmp_path / "s.h5")
    assert table.params.max() <= most < read_table(reference[1]).params.max()
    assert report.settings["limits"] == {"max_params": most}


def test_a_truth_table_judges_the_winners_within_the_limits(run, reference, tmp_path):
    report, _ = reference
    archs = [trial.arch for trial in report.trials[:12]]
    archs = list(dict.fromkeys([*archs, report.winners[0].arch]))
    values = [0.5 + i / 100 for i in range(len(archs))]
    texts = tuple(map(NASBENCH201.format, archs))
    write_truth(
        tmp_path / "t.parquet",
        TruthTable("nasbench201", "digits", "test", "planted", texts, np.array(values)),
    )
    settings = dataclasses.replace(SETTINGS, truth=str(tmp_path / "t.parquet"))
    judged = searched(run, tmp_path / "s.h5", settings)
    assert [w.arch for w in judged.winners] == [w.arch for w in report.winners]
    for winner in judged.winners:
        if winner.arch not in archs:
            assert winner.standing is None
            continue
        place = archs.index(winner.arch)
        assert winner.standing.truth == values[place]
        assert winner.standing.rank == len(archs) - place
        assert winner.standing.regret == values[-1] - values[place]
    assert judged.winners[0].standing is not None


def test_a_folder_is_searched_like_its_run_among_what_it_holds(run, folder, tmp_path):
    report = search_folder(
        folder, tmp_path / "f.h5", SETTINGS, images=VALID, device="cpu", options=OPTIONS
    )
    tried = {trial.arch for trial in report.trials}
    assert tried <= set(EDGES)
    assert len(report.trials) == 20
    key, _ = evaluate(run, tmp_path / "e.h5", sorted(tried), bn=BN, images=VALID, options=OPTIONS)
    assert report.key == key
    assert outcomes(read_table(tmp_path / "f.h5")) == outcomes(read_table(tmp_path / "e.h5"))
    assert report.settings["n_archs"] == len(EDGES)


def test_what_a_folder_cannot_do_is_refused(folder, tmp_path):
    def refuses(message, settings=SETTINGS, options=OPTIONS, out="f.h5"):
        with pytest.raises(OptionError, match=message):
            search_folder(folder, tmp_path / out, settings, images=VALID, options=options)

    refuses("leave --isolate out", options=ScoringOptions(is_isolated=True))
    refuses("--measure encodings", dataclasses.replace(SETTINGS, measure="encodings"))
    refuses("exceeds the 54 archs", SearchSettings(RandomSearch(55)))
    with pytest.raises(OptionError, match=r"run, which .* is not; name a recipe"):
        standalone_config(folder, "run", {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top": 0}, "--top is 0"),
        ({"seed": -3}, "--seed is -3"),
        ({"rescore_split": "train"}, "split 'train' is none of"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(OptionError, match=message):
        dataclasses.replace(SETTINGS, **change)


def test_mistakes_cost_no_scores(run, tmp_path):
    for change, error, message in [
        ({"rescore_split": "valid"}, OptionError, "is the split of the search"),
        ({"truth": "nonsense"}, WsxError, "nonsense"),
        ({"by": "speed"}, OptionError, "'speed'"),
        ({"limits": Limits(max_params=3)}, OptionError, "0 of 15625 draws .* limits: max_params 3"),
    ]:
        with pytest.raises(error, match=message):
            searched(run, tmp_path / "s.h5", dataclasses.replace(SETTINGS, **change))
    assert not (tmp_path / "s.h5").exists() or len(read_table(tmp_path / "s.h5")) == 0


def test_a_search_in_which_everything_fails_says_why(run, tmp_path, monkeypatch):
    def broken(self, arch):
        raise RuntimeError("planted")

    monkeypatch.setattr(OnnxEngine, "score", broken)
    monkeypatch.setattr(OnnxEngine, "score_together", lambda self, archs: broken(self, archs))
    with pytest.raises(WsxError, match=r"none of 20 archs could be scored.*RuntimeError: planted"):
        searched(run, tmp_path / "s.h5")
    assert set(read_table(tmp_path / "s.h5").status) == {"failed"}


def test_a_table_is_searched_without_a_run():
    few = SearchSettings(
        Evolution(60, population=20), limits=Limits(max_flops=1e7), truth="digits-nasbench201"
    )
    with pytest.raises(OptionError, match=r"there are 8; 8 of 160 draws .* max_flops 1e\+07"):
        search_table(NASBENCH201, few)
    settings = SearchSettings(RandomSearch(160), truth="digits-nasbench201", top=5)
    report = search_table(NASBENCH201, settings)
    assert report.winners[0].standing.regret == 0
    assert report.winners[0].searched is None
    assert report.winners[0].cost == NASBENCH201.cost(
        report.winners[0].arch, NASBENCH201.reference_macro
    )
    assert report.as_dict()["campaign"] is None
    gains = [step["value"] for step in report.improvements()]
    assert gains == sorted(set(gains))
    assert gains[-1] == report.winners[0].value
    with pytest.raises(OptionError, match="--truth"):
        search_table(NASBENCH201, SearchSettings(RandomSearch(3)))
    with pytest.raises(TruthError, match="missing"):
        search_table(NASBENCH201, SearchSettings(RandomSearch(3), truth="missing.parquet"))


def test_costs_of_a_table_serve_spaces_without_a_formula(tmp_path):
    space = ProductSpace("bare", {"a": [0, 1, 2], "b": [0, 1, 2]})
    archs = list(space.enumerate())
    values = np.array([i / 10 for i in range(9)])
    table = TruthTable("bare", "", "", "t", tuple(map(space.format, archs)), values)
    write_truth(tmp_path / "bare.parquet", table)
    settings = SearchSettings(
        RandomSearch(4), limits=Limits(max_params=4), truth=str(tmp_path / "bare.parquet")
    )
    with pytest.raises(OptionError, match="bare has no formula"):
        search_table(space, settings)
    params = np.arange(9)
    costed = dataclasses.replace(table, params=params, flops=params * 2)
    write_truth(tmp_path / "bare.parquet", costed)
    report = search_table(space, settings)
    assert {sum(w.arch) for w in report.winners} <= {0, 1, 2, 3}
    assert max(w.cost.params for w in report.winners) <= 4
    assert report.winners[0].standing.regret == pytest.approx(
        0.4 - report.winners[0].standing.truth, abs=1e-12
    )


def test_intervals_of_trainings():
    one = Measured.of_seeds([0.75], 40)
    assert one == Measured.of_count(30, 40)
    several = Measured.of_seeds([0.7, 0.8, 0.9], 40)
    half = stats.t.ppf(0.975, 2) * 0.1 / 3**0.5
    assert several.accuracy == pytest.approx(0.8, abs=1e-12)
    assert several.low == pytest.approx(0.8 - half, abs=1e-12)
    assert several.high == 1.0
    assert several.n_seeds == 3
    equal = Measured.of_seeds([0.5, 0.5], 40)
    assert (equal.low, equal.high) == (0.5, 0.5)


@pytest.mark.slow  # Worker processes import torch, seconds each.
def test_winners_are_trained_alone_once(run, reference, tmp_path):
    report, _ = reference
    config = standalone_config(run.path, "run", {"epochs": "1"})
    assert config.recipe == run.config.recipe.override({"epochs": "1"})
    assert config.data == DATA
    assert standalone_config(run.path, "digits", {}).recipe == RECIPES["digits"]
    out = tmp_path / "s.h5"
    first = train_winners(report, config, [0, 1], out, n_workers=1)
    rows = (tmp_path / "s.standalone.parquet.rows.jsonl").read_text().splitlines()
    assert len(rows) == 1 + 2 * 3
    assert (tmp_path / "s.winners.txt").read_text().split() == [w.text for w in report.winners]
    correct = {}
    for line in map(json.loads, rows[1:]):
        correct.setdefault(line["text"], []).append(line["correct"]["test"] / N_IMAGES)
    for winner in first.winners:
        assert winner.alone.accuracy == pytest.approx(sum(correct[winner.text]) / 2, abs=1e-12)
        assert winner.alone.n_seeds == 2
    n_calls = []
    second = train_winners(
        report, config, [0, 1], out, n_workers=1, on_score=lambda *call: n_calls.append(call)
    )
    assert second == first
    assert n_calls == []
