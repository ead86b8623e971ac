import math

import numpy as np
import pytest
from search_doubles import SMALL, cost

from wsx.search import Candidates, Limits, TruthLookup
from wsx.truth import TruthTable

ARCHS = list(SMALL.enumerate())
VALUES = np.linspace(0.5, 0.9, len(ARCHS)).round(2)


def table(texts=None, values=VALUES, **more):
    texts = tuple(SMALL.format(arch) for arch in ARCHS) if texts is None else tuple(texts)
    return TruthTable("small", "none", "test", "planted", texts, np.asarray(values), **more)


def score(lookup, archs):
    return lookup.score(archs, lambda n_done: None)


def test_an_arch_is_worth_what_the_table_says():
    lookup = TruthLookup(table(), SMALL)
    assert score(lookup, ARCHS[::-1]) == VALUES[::-1].tolist()
    part = TruthLookup(table([SMALL.format(a) for a in ARCHS[:3]], VALUES[:3]), SMALL)
    assert math.isnan(score(part, [ARCHS[5]])[0])
    assert list(part.archs) == ARCHS[:3]


def test_losses_are_worth_more_where_they_are_smaller():
    losses = np.arange(18) + 1.0
    lookup = TruthLookup(table(values=np.full(18, np.nan), loss=losses), SMALL)
    assert score(lookup, ARCHS) == (-losses).tolist()
    standing = lookup.standing(ARCHS[4], np.arange(18))
    assert (standing.truth, standing.rank, standing.regret) == (5.0, 5.0, 4.0)


def test_other_spellings_are_the_same_arch_and_foreign_names_are_left_out():
    texts = ["c=1,a=0,b=2", "no-such-name", "a=1,b=1,c=0"]
    lookup = TruthLookup(table(texts, [0.1, 0.2, 0.3]), SMALL)
    assert score(lookup, [(0, 2, 1), (1, 1, 0)]) == [0.1, 0.3]
    assert set(lookup.archs) == {(0, 2, 1), (1, 1, 0)}


def test_names_of_nets_serve_all_their_archs():
    class Merged(type(SMALL)):
        def truth_text(self, arch):
            return f"net{arch[0]}"

    space = Merged("merged", {"a": [0, 1, 2], "b": [0, 1]})
    lookup = TruthLookup(table(["net0", "net2"], [0.4, 0.6]), space)
    assert score(lookup, [(0, 0), (0, 1), (2, 1)]) == [0.4, 0.4, 0.6]
    assert lookup.identity((0, 0)) == lookup.identity((0, 1)) != lookup.identity((2, 0))
    assert lookup.archs == {}
    assert lookup.row((1, 0)) is None
    # Under limits nobody can say which rows count.
    limited = Candidates(space, limits=Limits(max_params=1), cost=cost)
    assert lookup.rows_of(limited).tolist() == []
    assert lookup.rows_of(Candidates(space)).tolist() == [0, 1]
    standing = lookup.standing((0, 0), lookup.rows_of(limited))
    assert (standing.truth, standing.rank, standing.regret) == (0.4, None, None)


def test_ranks_and_regrets_equal_a_count_by_hand():
    values = np.array([0.5, 0.7, 0.7, 0.9, 0.1, *np.linspace(0.2, 0.4, 13)])
    lookup = TruthLookup(table(values=values), SMALL)
    candidates = Candidates(SMALL, limits=Limits(max_params=3), cost=cost)
    rows = lookup.rows_of(candidates)
    allowed = [arch for arch in ARCHS if sum(arch) <= 3]
    assert rows.tolist() == [ARCHS.index(arch) for arch in allowed]
    for arch in allowed:
        mine = values[ARCHS.index(arch)]
        rivals = [values[ARCHS.index(other)] for other in allowed]
        places = [place for place, v in enumerate(sorted(rivals, reverse=True), 1) if v == mine]
        standing = lookup.standing(arch, rows)
        assert standing.rank == np.mean(places)
        assert standing.regret == max(rivals) - mine
        assert standing.n_ranked == len(allowed)


def test_a_confined_search_is_judged_by_what_it_might_have_found():
    lookup = TruthLookup(table(), SMALL)
    only = ARCHS[3:9]
    rows = lookup.rows_of(Candidates(SMALL, only=only))
    assert rows.tolist() == list(range(3, 9))
    assert lookup.standing(ARCHS[8], rows).regret == 0
    assert lookup.standing(ARCHS[3], rows).rank == 6
    assert TruthLookup(table(["a=0,b=0,c=0"], [0.5]), SMALL).standing(ARCHS[8], rows[:0]) is None


@pytest.mark.parametrize("n", [1, 7, 18])
def test_scoring_reports_the_whole_batch(n):
    calls = []
    TruthLookup(table(), SMALL).score(ARCHS[:n], calls.append)
    assert calls == [n]
