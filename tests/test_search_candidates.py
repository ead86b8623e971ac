import math
import re
from collections import Counter

import numpy as np
import pytest
from search_doubles import SMALL, SPACE, Planted, cost

from wsx.errors import ExportError, OptionError, UnknownNameError
from wsx.search import Candidates, Evolution, Limits, RandomSearch, candidates, run_search
from wsx.spaces import Cost

LIMITS = Limits(min_params=14, max_params=17, max_flops=33)
ALGORITHMS = [RandomSearch(150), Evolution(150, population=20, tournament=4)]


def rng(seed=0):
    return np.random.default_rng(seed)


def keeps_limits(trials):
    costs = [cost(trial.arch) for trial in trials]
    return all(14 <= c.params <= 17 and c.flops <= 33 for c in costs)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("seed", range(4))
def test_limits_are_never_violated(algorithm, seed):
    found = Candidates(SPACE, limits=LIMITS, cost=cost)
    assert keeps_limits(run_search(algorithm, found, Planted(), seed=seed))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_candidates_that_let_everything_through_are_noticed(algorithm):
    class Lenient(Candidates):
        def is_allowed(self, arch):
            return True

    found = Lenient(SPACE, limits=LIMITS, cost=cost)
    assert not keeps_limits(run_search(algorithm, found, Planted(), seed=0))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_limits_that_bind_nothing_change_nothing(algorithm):
    free = run_search(algorithm, Candidates(SPACE), Planted(), seed=1)
    wide = Candidates(SPACE, limits=Limits(min_params=0, max_flops=90), cost=cost)
    assert run_search(algorithm, wide, Planted(), seed=1) == free


def test_both_ends_of_a_limit_are_allowed_and_unknown_costs_are_not():
    limits = Limits(min_params=3, max_params=5)
    assert [n for n in range(9) if limits.allow(Cost(n, -1))] == [3, 4, 5]
    assert not Limits(max_params=5).allow(Cost(-1, 0))
    assert not Limits(max_flops=5).allow(Cost(0, -1))
    assert Limits().allow(Cost(-1, -1))
    assert limits.as_dict() == {"min_params": 3, "max_params": 5}


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"max_params": -1.0}, "--max-params is -1.0"),
        ({"min_flops": math.nan}, "--min-flops is nan"),
        ({"max_flops": math.inf}, "--max-flops is inf"),
        (
            {"min_params": 2e6, "max_params": 1e6},
            r"--min-params 2e\+06 exceeds --max-params 1e\+06",
        ),
    ],
)
def test_bounds_out_of_range_are_refused(bounds, message):
    with pytest.raises(OptionError, match=message):
        Limits(**bounds)


def test_draws_under_limits_are_uniform():
    found = Candidates(SMALL, limits=Limits(max_params=1), cost=cost)
    n = 1600
    firsts = Counter(found.sample(1, rng=rng(seed))[0] for seed in range(n))
    assert set(firsts) == {(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)}
    counts = np.array(list(firsts.values()))
    assert np.abs(counts - n / 4).max() < 4 * math.sqrt(n / 4)


def test_draws_under_limits_are_uniform_in_a_large_space():
    found = Candidates(SPACE, limits=Limits(min_params=15), cost=cost)
    n = 1600
    options = [found.sample(1, rng=rng(seed))[0][0] for seed in range(n)]
    counts = np.bincount(options, minlength=4)
    assert np.abs(counts / n - sum_shares(15)).max() < 4 * math.sqrt(0.25 / n)


def sum_shares(least):
    """Return the shares of the first option among archs of SPACE whose options add up to so many at least."""
    ways = np.ones(1)
    for _ in range(9):
        ways = np.convolve(ways, np.ones(4))
    tails = np.array([ways[max(0, least - first) :].sum() for first in range(4)])
    return tails / tails.sum()


def test_all_that_is_allowed_can_be_drawn_and_no_more():
    limits = Limits(max_params=2)
    found = Candidates(SMALL, limits=limits, cost=cost)
    allowed = {arch for arch in SMALL.enumerate() if sum(arch) <= 2}
    assert set(found.sample(len(allowed), rng=rng())) == allowed
    with pytest.raises(OptionError) as caught:
        found.sample(len(allowed) + 1, rng=rng())
    message = str(caught.value)
    assert f"cannot draw {len(allowed) + 1} different archs: there are {len(allowed)};" in message
    # The first call stopped as soon as it had all.
    assert re.search(rf"{2 * len(allowed)} of \d\d draws from small were allowed", message)
    assert "limits: max_params 2" in message


def test_impossible_limits_in_a_large_space_end_in_a_clear_error(monkeypatch):
    monkeypatch.setattr(candidates, "MAX_TRIES", 500)
    found = Candidates(SPACE, limits=Limits(max_params=0), cost=lambda arch: Cost(1, 1))
    with pytest.raises(OptionError, match=r"0 of 500 draws from planted were allowed \(0.00%\)"):
        found.sample(1, rng=rng())


def test_a_cost_that_cannot_be_measured_refuses_the_arch():
    def measured(arch):
        if arch[0] == 1:
            raise ExportError("no emitter")
        return cost(arch)

    found = Candidates(SMALL, limits=Limits(max_params=9), cost=measured)
    assert {arch[0] for arch in found.sample(12, rng=rng())} == {0, 2}
    free = Candidates(SMALL, cost=measured)
    assert len(free.sample(18, rng=rng())) == 18


def test_each_cost_is_asked_for_once():
    asked = Counter()

    def counting(arch):
        asked[arch] += 1
        return cost(arch)

    found = Candidates(SMALL, limits=Limits(max_params=4), cost=counting)
    run_search(Evolution(18, population=6, tournament=2), found, Planted(), seed=0)
    assert set(asked.values()) == {1}


def test_a_confined_search_tries_nothing_else():
    only = [arch for arch in SMALL.enumerate() if arch[2] == 0]
    found = Candidates(SMALL, only=only)
    assert found.n_archs == 9
    trials = run_search(Evolution(9, population=3, tournament=2), found, Planted(), seed=0)
    assert {trial.arch for trial in trials} <= set(only)
    assert set(found.sample(9, rng=rng())) == set(only)
    with pytest.raises(OptionError, match="budget of 10 exceeds the 9 archs"):
        run_search(RandomSearch(10), found, Planted(), seed=0)


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(OptionError, match="no archs to search among"):
        Candidates(SMALL, only=[])
    with pytest.raises(OptionError, match="--measure encodings is of no use here"):
        Candidates(SMALL, only=[(0, 0, 0)], measure="encodings")
    with pytest.raises(OptionError, match="need a cost"):
        Candidates(SMALL, limits=Limits(max_params=3))
    with pytest.raises(UnknownNameError, match="sampling measure"):
        Candidates(SMALL, measure="nonsense")


def test_a_list_is_where_draws_come_from_and_children_may_leave_it(tmp_path):
    archs = list(SMALL.enumerate())[:4]
    (tmp_path / "archs.txt").write_text("".join(f"{SMALL.format(arch)}\n" for arch in archs))
    found = Candidates(SMALL, measure=f"list:{tmp_path / 'archs.txt'}")
    assert set(found.sample(4, rng=rng())) == set(archs)
    trials = run_search(Evolution(16, population=4, tournament=2), found, Planted(), seed=0)
    assert {trial.arch for trial in trials[:4]} == set(archs)
    assert not {trial.arch for trial in trials} <= set(archs)
