"""The sweep of heuristics: each switch changes what it says and nothing else, and verdicts on planted scores."""

import copy

import numpy as np
import pytest
from study_runs import noisy, plant_truth, run_twice, verdicts

from wsx.errors import StudyError, UnknownNameError
from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p2 import heuristics
from wsx.studies.papers.p2.switches import SWITCHES, variants_of
from wsx.studies.papers.steps import TrainSupernets
from wsx.training.supernet import supernet_options

ALL = tuple(name for name in SWITCHES if name != "fewer-cells")
CHANGES = {
    "ops-on-node": {"supernet.shares": "node"},
    "ops-on-inner": {"supernet.shares": "inner"},
    "wsbn": {"supernet.has_wsbn": True},
    "kernels-centre": {"supernet.kernels": "centre"},
    "kernels-transform": {"supernet.kernels": "transform"},
    "path-dropout": {"drop_path": 0.2},
    "global-dropout": {"supernet.dropout": 0.2},
    "fewer-cells": {"supernet.cells": 2},
    "more-cells": {"supernet.cells": 8},
    "half-data": {"n_train": 64},
    "quarter-data": {"n_train": 32},
    "half-batch": {"batch_size": 16},
    "double-batch": {"batch_size": 64},
    "half-channels": {"supernet.channels": 2},
    "double-channels": {"supernet.channels": 8},
    "random-nas": {"measure": "encodings"},
    "random-a": {"measure": "functions"},
    "fairnas": {"sampler": "fair", "gradients": "sum"},
    "no-affine": {"supernet.is_affine": False},
    "running-bn": {},
    "batch-bn": {},
    "third-rate": {"lr": 0.1 / 3},
    "triple-rate": {"lr": pytest.approx(0.3, rel=1e-12)},
    "half-epochs": {"epochs": 1, "checkpoint_epochs": 1},
    "double-epochs": {"epochs": 4, "checkpoint_epochs": 4},
    "no-decay": {"weight_decay": 0.0},
    "quadruple-decay": {"weight_decay": 0.002},
}


def make_settings(switches=ALL, **values):
    texts = {"switches": ",".join(switches), "seeds": "0,1,2", "margin": "0.2", **values}
    return settings_of(STUDIES["heuristics"], "tiny", texts)


def flat(config):
    values = copy.deepcopy(config.as_dict())
    recipe = values.pop("recipe")
    macro = {f"supernet.{name}": value for name, value in recipe.pop("supernet").items()}
    return {**values, **values.pop("data"), **recipe, **macro}


def test_each_switch_changes_one_thing():
    settings = make_settings(tuple(SWITCHES), **{"recipe.cells": "4"})
    found = {one.name: one for one in variants_of(settings, settings.switches, 256)}
    assert set(found) == {"baseline", *SWITCHES} == {"baseline", *CHANGES}
    for name, switch in SWITCHES.items():
        before, after = flat(found[switch.against].config), flat(found[name].config)
        changed = {key: value for key, value in after.items() if before.get(key) != value}
        assert changed.pop("data", None) in (None, after["data"])
        assert changed == CHANGES[name], name
        assert before.keys() <= after.keys()
        assert found[name].bn == (switch.bn or settings.bn)


def test_every_variant_can_be_built():
    settings = make_settings()
    for one in variants_of(settings, settings.switches, 256):
        recipe = one.config.recipe
        macro = supernet_options(recipe, (1, 1, 8, 8), 10)
        assert one.config.build(macro).space.name == "nasbench201"


def test_evaluation_modes_train_nothing():
    settings = make_settings(("running-bn", "batch-bn", "wsbn"))
    train, *scores = STUDIES["heuristics"].steps(settings, None)
    assert isinstance(train, TrainSupernets)
    ways = {name.rpartition("-")[0] for name in train.configs}
    # WSBN is compared with what it comes on top of.
    assert ways == {"baseline", "ops-on-node", "wsbn"}
    assert {config.seed for config in train.configs.values()} == {0, 1, 2}
    by_name = {step.name: step for step in scores}
    assert by_name["score-running-bn"].runs == by_name["score-baseline"].runs
    assert by_name["score-batch-bn"].scoring.batch_size == 256
    assert len({step.scoring.choice.texts for step in scores}) == 1


def test_small_sweeps_what_is_published_and_stays_within_its_archs():
    settings = settings_of(
        STUDIES["heuristics"], "small", {"truth": "digits-nasbench201", "top_k": "3"}
    )
    published = {name for name, switch in SWITCHES.items() if switch.published}
    assert set(settings.switches) - published == {"random-nas", "batch-bn"}
    train, *scores = STUDIES["heuristics"].steps(settings, None)
    # The baseline, 13 switches and what WSBN comes on top of; two switches are ways to score alone.
    assert len(train.configs) == 13 * 3
    assert len(scores) == 15
    paper = STUDIES["heuristics"].settings("paper")
    assert set(SWITCHES) - set(paper.switches) == {"random-nas"}


def test_what_changes_nothing_or_is_not_there_is_refused():
    settings = make_settings()
    with pytest.raises(StudyError, match=r"fewer-cells .* changes nothing"):
        variants_of(settings, ["fewer-cells"], 256)
    with pytest.raises(UnknownNameError, match="wsbn"):
        variants_of(settings, ["wsbm"], 256)


def findings(monkeypatch, noise, switches=ALL):
    """The findings where variants rank with some noise; 0.3 for those that are not named."""
    plant_truth(monkeypatch)
    rng = np.random.default_rng(0)
    monkeypatch.setattr(
        heuristics,
        "accuracy_of",
        lambda variant, settings, folder, texts: noisy(3, noise.get(variant.name, 0.3), rng),
    )
    return STUDIES["heuristics"].findings(make_settings(switches), None)


def words(found):
    rows = next(table for table in found.tables if table.title == "Which switches help").rows
    return {row[1]: row[4] for row in rows}


def test_planted_effects_are_found_and_no_others(monkeypatch):
    noise = {"path-dropout": 100.0, "double-epochs": 0.01, "wsbn": 100.0, "running-bn": 100.0}
    found = findings(monkeypatch, noise)
    expected = dict.fromkeys(ALL, "open") | {
        "path-dropout": "hurts",
        "double-epochs": "helps",
        "wsbn": "hurts",
    }
    # Of its own three pairs of seeds, with limits for 26 switches, nothing is certain.
    assert words(found)["running-bn"] == "open"
    assert words(found) == expected
    claims = verdicts(found)
    assert claims["Path dropout lowers the correlation."] == "holds"
    assert claims["WSBN lowers the correlation."] == "holds"
    running = "BatchNorm statistics that training tracked lower the correlation."
    assert claims[running] == "holds"
    assert claims["Batch size matters little."] == "holds"
    assert claims["Channels matter little."] == "holds"
    assert claims["The learning rate matters."] == "does not hold"
    _, ways, changes = found.tables
    assert (len(ways.rows), len(changes.rows)) == (27, 26)
    assert sum(len(series.x) for series in found.plots[0].series) == 26


def test_wsbn_is_judged_beside_ops_on_node(monkeypatch):
    found = findings(monkeypatch, {"wsbn": 0.3, "ops-on-node": 100.0})
    assert words(found)["wsbn"] == "helps"
    assert words(found)["ops-on-node"] == "hurts"
    assert verdicts(found)["WSBN lowers the correlation."] == "does not hold"


def test_the_opposite_effects_are_found(monkeypatch):
    noise = dict.fromkeys(("path-dropout", "running-bn", "kernels-centre"), 0.01)
    noise |= dict.fromkeys(("half-batch", "half-channels", "triple-rate"), 100.0)
    claims = verdicts(findings(monkeypatch, noise))
    assert claims["Path dropout lowers the correlation."] == "does not hold"
    assert claims["OFA kernels lower the correlation."] == "does not hold"
    assert claims["Batch size matters little."] == "does not hold"
    assert claims["Channels matter little."] == "does not hold"
    assert claims["The learning rate matters."] == "holds"


@pytest.mark.parametrize(
    ("family", "noise", "lowers", "hyper"),
    [
        ("implementation", 100.0, "holds", "does not hold"),
        ("implementation", 0.01, "does not hold", "does not hold"),
        ("hyper-parameters", 100.0, "open", "holds"),
    ],
)
def test_families_are_compared(monkeypatch, family, noise, lowers, hyper):
    planted = {n: noise for n in ALL if SWITCHES[n].family == family and n != "wsbn"}
    if family == "implementation":
        # It comes on top of what is changed already.
        planted["wsbn"] = noise
    claims = verdicts(findings(monkeypatch, planted))
    assert claims["Popular heuristics lower the correlation."] == lowers
    text = "Hyper-parameters, BatchNorm among them, change the correlation more than heuristics do."
    assert claims[text] == hyper


def test_what_was_left_out_stays_open(monkeypatch):
    found = findings(monkeypatch, {}, ("half-data",))
    assert set(verdicts(found).values()) == {"open"}
    assert {claim.evidence for claim in found.claims} == {heuristics.NOT_TRIED}


HYPER = "Hyper-parameters, BatchNorm among them, change the correlation more than heuristics do."
RUNNING = "BatchNorm statistics that training tracked lower the correlation."


def planted_taus(rng, switches, noise=0.2):
    """Sparse taus (seed,) without any effect; other ways of evaluation repeat the baseline's nearly."""
    taus = {"baseline": 0.3 + noise * rng.normal(size=3)}
    for name in switches:
        own = 0.3 + noise * rng.normal(size=3)
        again = taus["baseline"] + 0.005 * rng.normal(size=3)
        taus[name] = again if SWITCHES[name].bn else own
    return taus


def judged_claims(taus):
    return {claim.text: claim for claim in heuristics._claims(taus, make_settings(("wsbn",)))}


def test_ways_of_evaluation_are_judged_by_paired_seeds():
    taus = planted_taus(np.random.default_rng(0), ("running-bn", "path-dropout"))
    taus["running-bn"] = taus["running-bn"] - 0.1
    assert judged_claims(taus)[RUNNING].verdict == "holds"
    path = "Path dropout lowers the correlation."
    alone = {name: taus[name] for name in ("baseline", "path-dropout")}
    # The same supernets scored again say nothing new of how trainings differ.
    assert judged_claims(taus)[path] == judged_claims(alone)[path]


def test_quiet_ways_of_evaluation_are_no_small_effects():
    names = ("running-bn", "batch-bn", "kernels-centre", "kernels-transform", "path-dropout")
    rng, n_wrong = np.random.default_rng(1), 0
    for _ in range(200):
        n_wrong += judged_claims(planted_taus(rng, names))[HYPER].verdict != "open"
    # At most 5 % of 200, standard error 3.1; sizes seed by seed go wrong about four times as often.
    assert n_wrong <= 10 + 3 * 3.1


def test_equal_taus_decide_nothing():
    taus = dict.fromkeys(
        ("baseline", "half-batch", "double-batch", "path-dropout"), np.full(3, 0.1)
    )
    claims = judged_claims(taus)
    for text in ("Batch size matters little.", "Path dropout lowers the correlation."):
        assert claims[text].verdict == "open"
        assert "no width" in claims[text].evidence


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, written = run_twice("heuristics", tmp_path / "study", capsys)
    # Six ways to train, two seeds, a checkpoint and a state each.
    assert len(written) == 24
    assert [len(table["rows"]) for table in found["tables"]] == [6, 7, 6]
