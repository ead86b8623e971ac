"""The study of channels: what is trained, which archs are scored, and verdicts on planted scores."""

import numpy as np
import pytest
from study_runs import TRUTH, noisy, run_twice

from wsx.errors import StudyError
from wsx.spaces import SPACES
from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p2 import channels
from wsx.studies.papers.p2.channels import ChannelsSettings

STUDY = STUDIES["channels"]
WHOLE, OWN, CHUNKS = "whole", "own", "chunks"


def make_settings(**values):
    return settings_of(STUDY, "tiny", {"seeds": "0,1,2", **values})


def findings(monkeypatch, noise, **values):
    """The findings where supernets rank with some noise: by slicing on the whole space, on parts, and of parts."""
    rng = np.random.default_rng(0)
    settings = make_settings(subspaces="nasbench101-a1,nasbench101-a2", **values)
    texts = {space: (space,) for space in (channels.FULL, *settings.subspaces)}
    monkeypatch.setattr(channels, "_drawn", lambda settings: texts)
    monkeypatch.setattr(channels, "_truth", lambda lookup, texts: TRUTH)
    monkeypatch.setattr(channels, "TruthLookup", lambda table, space: None)
    monkeypatch.setattr(ChannelsSettings, "truth_in", lambda settings, folder: None)

    def accuracy_of(variant, settings, folder, texts):
        is_part = texts != (channels.FULL,)
        key = (WHOLE if variant.name == "fixed" else OWN) if is_part else variant.name
        return noisy(3, noise.get(key, 1.0), rng)

    monkeypatch.setattr(channels, "accuracy_of", accuracy_of)
    return STUDY.findings(settings, None)


def test_sharing_channels_that_costs(monkeypatch):
    found = findings(monkeypatch, {OWN: 0.1, CHUNKS: 0.1})
    assert [claim.verdict for claim in found.claims] == ["holds", "holds", "holds"]
    ways, spaces, published = found.tables
    assert [row[0] for row in ways.rows] == ["fixed", "chunks"]
    assert ways.rows[0][-2] == 0 < ways.rows[1][-2]
    assert [row[0] for row in spaces.rows] == ["nasbench101-a1", "nasbench101-a2"]
    assert [row[3:] for row in published.rows] == [[0.551, 0.05], [0.664, 0.026], [0.585, 0.047]]
    assert [series.x for series in found.plots[0].series] == [
        ["fixed", "chunks"],
        ["a1", "a2"],
        ["a1", "a2"],
    ]


def test_sharing_channels_that_helps(monkeypatch):
    found = findings(monkeypatch, {OWN: 100.0, CHUNKS: 100.0, WHOLE: 0.1})
    assert {claim.verdict for claim in found.claims} == {"does not hold"}


def test_sharing_channels_that_does_nothing(monkeypatch):
    found = findings(monkeypatch, {})
    assert {claim.verdict for claim in found.claims} == {"open"}


def test_supernets_differ_in_slicing_or_space_alone():
    settings = make_settings(
        slicings=",".join(channels.SLICINGS), subspaces="nasbench101-1shot1c,nasbench101-a1"
    )
    train, *scores, alone = STUDY.steps(settings, None)
    assert len(train.configs) == (5 + 2) * 3
    facts = {name.rpartition("-")[0]: config for name, config in train.configs.items()}
    macros = [dict(config.recipe.supernet) for config in facts.values()]
    slicings = [macro.pop("slicing") for macro in macros]
    assert slicings == [*channels.SLICINGS, "fixed", "fixed"]
    assert all(macro == macros[0] for macro in macros)
    assert [config.space for config in facts.values()][-3:] == [
        "nasbench101",
        "nasbench101-1shot1c",
        "nasbench101-a1",
    ]
    texts = {step.name: set(step.scoring.choice.texts) for step in scores}
    parts = [texts["score-1shot1c"], texts["score-a1"], texts["score-random"]]
    # The first channels serve all archs, to be compared with each supernet on its own.
    assert texts["score-fixed"] == set.union(*parts) == set(alone.choice.texts)
    assert {len(part) for part in parts} == {settings.n_archs}
    a1 = SPACES["nasbench101-a1"]
    assert len({a1.truth_text(a1.parse(text)) for text in parts[1]}) == settings.n_archs


def test_a_truth_table_by_hashes_decides_which_archs_are_scored(tmp_path, monkeypatch):
    space = SPACES["nasbench101-v4"]
    rng = np.random.default_rng(0)
    archs = space.sample(40, rng=rng, measure="archs")
    hashes = [space.truth_text(arch) for arch in archs]
    values = [f"{0.5 + i / 100}" for i in range(40)]
    columns = [f"{split}_acc_{run}" for split in ("valid", "test") for run in (1, 2, 3)]
    lines = [",".join(["module_hash", "params", *columns])]
    lines += [",".join([h, "1", *[v] * 6]) for h, v in zip(hashes, values, strict=True)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(channels, "FULL", "nasbench101-v4")
    settings = make_settings(
        truth=f"{table}:test",
        n_archs="20",
        subspaces="nasbench101-v3",
        space="nasbench101-v4",
    )
    assert not settings.trains_truth
    drawn = channels._draw(
        "nasbench101-v4", settings, channels.TruthLookup(settings.load_truth(), space)
    )
    lookup = channels.TruthLookup(settings.truth_in(tmp_path), space)
    names = [space.truth_text(space.parse(text)) for text in drawn]
    assert len(set(names)) == 20
    expected = [float(values[hashes.index(name)]) for name in names]
    assert channels._truth(lookup, drawn) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(channels, "MAX_DRAWS", 500)
    few = settings.override({"n_archs": "41"})
    with pytest.raises(StudyError, match=r"the truth knows \d+ different ones; 41 are asked for"):
        channels._draw("nasbench101-v4", few, lookup)


def test_what_others_are_compared_with_has_to_be_there():
    with pytest.raises(StudyError, match="lack 'fixed'"):
        STUDY.steps(make_settings(slicings="chunks"), None)
    with pytest.raises(StudyError, match="n_archs is 2; it must be at least 2, and top_k"):
        STUDY.steps(make_settings(n_archs="2"), None)


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, written = run_twice("channels", tmp_path / "study", capsys)
    # Three supernets of two seeds, a checkpoint and a state each.
    assert len(written) == 12
    assert [len(table["rows"]) for table in found["tables"]] == [2, 1, 2]
