"""The study of random search: replayed searches, exact chance, and verdicts on planted scores."""

import itertools

import numpy as np
import pytest
from study_runs import run_twice

from wsx.analysis import average_ranks, surpass_random
from wsx.errors import OptionError, StudyError
from wsx.spaces import SPACES
from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p2 import random_search
from wsx.studies.papers.p2.random_search import RandomSearchSettings
from wsx.truth import TruthTable

STUDY = STUDIES["random-search"]
BEATS, COMPETES = 0, 1
SPACE = SPACES["nasbench201"]
# Evolution needs neighbours: all archs of three operations.
ARCHS = list(itertools.product((1, 2, 3), repeat=6))
TEXTS = tuple(map(SPACE.format, ARCHS))
# Each edge counts by itself, so that good archs are near each other.
QUALITY = np.array([sum(3.0**i * (op == 3) for i, op in enumerate(arch)) for arch in ARCHS])
TRUTH = 0.3 + 0.6 * QUALITY / QUALITY.max()
VALUES = {"budget": "60", "population": "10", "tournament": "5", "n_searches": "8", "top_k": "3"}


def findings(monkeypatch, scores, truth=TRUTH, **values):
    """The findings where supernets give archs some scores, shape (seed, arch)."""
    table = TruthTable("nasbench201", "", "", "planted", TEXTS, truth)
    monkeypatch.setattr(RandomSearchSettings, "all_archs", lambda settings: TEXTS)
    monkeypatch.setattr(RandomSearchSettings, "truth_in", lambda settings, folder: table)
    monkeypatch.setattr(random_search, "accuracy_of", lambda *_: scores[:, None])
    edges = ",".join(
        f"{edge}=skip_connect|nor_conv_1x1|nor_conv_3x3" for edge in random_search.EDGES
    )
    texts = {"restriction": edges, "seeds": "0,1,2", **VALUES, **values}
    return STUDY.findings(settings_of(STUDY, "tiny", texts), None)


def planted(noise, truth=TRUTH):
    rng = np.random.default_rng(0)
    return np.clip(truth + noise * rng.normal(size=(3, truth.size)), 0, 1)


def verdicts(found):
    return [claim.verdict for claim in found.claims]


def test_good_supernets_beat_chance_and_evolution_beats_random(monkeypatch):
    found = findings(monkeypatch, planted(0.03), margin="0.001")
    assert verdicts(found) == ["holds", "does not hold"]
    rows = {row[0]: row for row in found.tables[0].rows}
    final = 3
    assert rows["evolution"][final] > rows["random search"][final]
    assert rows["random search"][final] > rows["archs drawn at random, no supernet"][final]
    # With a margin as wide as their distance they compete.
    assert verdicts(findings(monkeypatch, planted(0.01), margin="0.5"))[COMPETES] == "holds"
    lines = {series.name: series for series in found.plots[0].series}
    assert lines["drawn at random"].y[0] == pytest.approx(TRUTH.mean(), rel=1e-12)
    assert lines["evolution"].x[-1] == 60
    assert lines["evolution"].y[-1] == pytest.approx(rows["evolution"][final] / 100, rel=1e-12)


def test_supernets_that_mislead(monkeypatch):
    found = findings(monkeypatch, planted(0.01, TRUTH[::-1]), n_searches="4")
    assert verdicts(found)[BEATS] == "does not hold"


def test_supernets_that_know_nothing(monkeypatch):
    found = findings(monkeypatch, planted(50.0) * 0.5 + 0.2, margin="0")
    assert verdicts(found) == ["open", "open"]


@pytest.mark.parametrize("truth", [np.linspace(0.1, 0.9, 9), np.repeat([0.2, 0.5, 0.7], 3)])
def test_picks_are_the_mean_over_all_ways_to_pick(truth):
    k, ranks = 3, average_ranks(truth)
    ways = [list(way) for way in itertools.combinations(range(9), k)]
    expected = {
        "final": np.mean([truth[way].mean() for way in ways]),
        "best": np.mean([truth[way].max() for way in ways]),
        "surpass_random": np.mean([surpass_random(ranks[way].min(), 9, k) for way in ways]),
    }
    assert random_search._picks(truth, k) == pytest.approx(expected, rel=1e-12)


def test_archs_that_compute_the_same_are_found_once(monkeypatch):
    # Without an operation on the way in, all of what follows is of no effect.
    same = [(0, 3, op, 3, other, 3) for op in (1, 2, 3) for other in (1, 2, 3)]
    others = [(0, 2, 0, 2, 0, 2), (0, 1, 0, 1, 0, 1)]
    texts = [SPACE.format(arch) for arch in (*same, *others)]
    truth = np.array([0.9] * 9 + [0.5, 0.4])
    settings = settings_of(
        STUDY, "tiny", {"restriction": "0->1=none", "budget": "11", "top_k": "2", "n_searches": "2"}
    )
    ground = random_search._Ground(settings, texts, truth)
    ends = ground.searched(random_search.RandomSearch(11), truth)[:, -1]
    best, final = ends[:, list(random_search.MEASURES).index("best")], ends[:, 1]
    assert best.tolist() == [0.9, 0.9]
    assert final == pytest.approx([0.7, 0.7], rel=1e-12)


def test_all_archs_are_scored_and_the_smallest_study_makes_its_truth():
    settings = settings_of(STUDY, "tiny", {})
    train, score, alone = STUDY.steps(settings, None)
    assert len(train.configs) == 2
    assert len(score.scoring.choice.texts) == 16
    assert alone.choice.texts == score.scoring.choice.texts
    known = settings_of(STUDY, "small", {"truth": "digits-nasbench201", "budget": "160"})
    train, score = STUDY.steps(known, None)
    assert len(score.scoring.choice.texts) == 160
    assert STUDY.settings("paper").population == 50


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"budget": "17"}, "budget is 17; it must lie in 3"),
        ({"budget": "2", "population": "1", "tournament": "1"}, "budget is 2"),
        ({"budget": "4"}, "--budget 4 must exceed --population 4"),
    ],
)
def test_what_no_search_can_do_is_refused_before_training(values, message):
    with pytest.raises((StudyError, OptionError), match=message):
        STUDY.steps(settings_of(STUDY, "tiny", values), None)


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, written = run_twice("random-search", tmp_path / "study", capsys)
    assert len(written) == 4
    assert len(found["tables"][0]["rows"]) == 5
