import math

import numpy as np
import pytest
from search_doubles import SMALL, SPACE, TARGET, EvenSpace, Planted, n_hits

from wsx.errors import OptionError, UnknownNameError
from wsx.search import (
    Candidates,
    Evolution,
    RandomSearch,
    Trial,
    best_trials,
    evolution,
    make_algorithm,
    run_search,
)


def search(algorithm, objective=None, *, space=SPACE, seed=0, **more):
    return run_search(algorithm, Candidates(space), objective or Planted(), seed=seed, **more)


def slow_evolution(space, value, rules, seed, *, kills=lambda alive: 0):
    """Algorithm 1 of Real et al., one model at a time; ``kills`` says which one dies."""
    rng = np.random.default_rng(seed)
    alive, history = [], []
    for arch in Candidates(space).sample(rules.population, rng=rng):
        model = {"arch": arch, "accuracy": value(arch)}
        alive.append(model)
        history.append(model)
    while len(history) < rules.budget:
        n_children = min(rules.per_round, rules.budget - len(history))
        children = []
        for _ in range(n_children):
            best = None
            for place in rng.integers(len(alive), size=rules.tournament):
                model = alive[place]
                if best is None or model["accuracy"] > best["accuracy"]:
                    best = model
            is_mutated = rng.random() < rules.mutation_rate
            arch = space.mutate(best["arch"], rng=rng) if is_mutated else best["arch"]
            children.append({"arch": arch, "accuracy": value(arch)})
        for child in children:
            alive.append(child)
            history.append(child)
            alive.pop(kills(alive))
    return [(model["arch"], float(model["accuracy"])) for model in history]


def kill_the_worst(alive):
    return min(range(len(alive)), key=lambda i: alive[i]["accuracy"])


@pytest.mark.parametrize(
    "rules",
    [
        Evolution(200, population=20, tournament=5, per_round=1),
        Evolution(203, population=20, tournament=5, per_round=16),
        Evolution(90, population=8, tournament=8, mutation_rate=0.6, per_round=8),
        Evolution(40, population=1, tournament=1, per_round=1),
    ],
)
def test_evolution_is_the_published_algorithm(rules):
    found = search(rules, seed=3)
    assert [(t.arch, t.value) for t in found] == slow_evolution(SPACE, n_hits, rules, 3)
    if rules.population > 1:
        wrong = slow_evolution(SPACE, n_hits, rules, 3, kills=kill_the_worst)
        assert [(t.arch, t.value) for t in found] != wrong


def test_evolution_beats_random_search_at_equal_budget_by_far():
    seeds, budget = range(6), 400
    best = {
        algorithm: [
            max(t.value for t in search(make_algorithm(algorithm, budget), seed=s)) for s in seeds
        ]
        for algorithm in ("random", "evolution")
    }
    assert min(best["evolution"]) >= 9
    assert np.mean(best["evolution"]) - np.mean(best["random"]) > 2


def test_random_search_draws_as_one_batch_without_repeats():
    objective = Planted()
    trials = search(RandomSearch(300), objective)
    assert [trial.arch for trial in trials] == objective.asked[0]
    assert len({trial.arch for trial in trials}) == 300
    whole = search(RandomSearch(SMALL.n_archs), space=SMALL)
    assert {trial.arch for trial in whole} == set(SMALL.enumerate())


def test_both_begin_with_the_same_archs_of_a_seed():
    random = search(RandomSearch(20), seed=5)
    assert search(Evolution(60, population=20), seed=5)[:20] == random
    assert search(RandomSearch(20), seed=6) != random


def test_rounds_are_batches_and_decide_the_outcome():
    objective = Planted()
    trials = search(Evolution(100, population=30, per_round=8), objective)
    assert [len(batch) for batch in objective.asked] == [30, *[8] * 8, 6]
    other = search(Evolution(100, population=30, per_round=4))
    assert len(trials) == len(other) == 100
    assert trials[:30] == other[:30]
    assert trials != other


def test_a_child_is_a_neighbour_of_somebody_alive_or_a_copy():
    rules = Evolution(150, population=10, tournament=3, mutation_rate=0.5, per_round=1)
    archs = [trial.arch for trial in search(rules)]
    n_copies = 0
    for place in range(10, 150):
        distances = [sum(map(int.__ne__, archs[place], o)) for o in archs[place - 10 : place]]
        assert min(distances) <= 1
        n_copies += min(distances) == 0
    assert 40 < n_copies < 110


def test_archs_that_fail_are_never_parents_nor_winners():
    broken = {arch for arch in SMALL.enumerate() if arch[0] == 1}
    trials = search(
        Evolution(18, population=9, tournament=9, per_round=3),
        Planted(sum, broken=broken.__contains__),
        space=SMALL,
    )
    assert any(trial.arch in broken for trial in trials)
    winners = best_trials(trials, 18, lambda arch: arch)
    assert winners
    assert not any(winner.arch in broken for winner in winners)


def test_a_search_on_which_everything_fails_ends():
    trials = search(Evolution(60, population=10), Planted(broken=lambda arch: True))
    assert len(trials) == 60
    assert all(math.isnan(trial.value) for trial in trials)
    assert best_trials(trials, 3, lambda arch: arch) == []


def test_winners_are_the_best_with_ties_in_order_and_none_twice():
    values = [(0, 0.5), (1, 0.7), (2, math.nan), (3, 0.7), (1, 0.7), (4, 0.9), (13, 0.7)]
    trials = [Trial((arch,), value) for arch, value in values]
    found = best_trials(trials, 3, lambda arch: arch[0] % 10)
    assert [trial.arch[0] for trial in found] == [4, 1, 3]
    assert [t.arch[0] for t in best_trials(trials, 99, lambda arch: arch)] == [4, 1, 3, 13, 0]


def test_progress_counts_to_the_budget_and_knows_the_best():
    calls = []
    trials = search(Evolution(60, population=20), on_progress=lambda *call: calls.append(call))
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)
    assert math.isnan(calls[0][2])
    assert calls[-1] == (60, 60, max(trial.value for trial in trials))
    assert {total for _, total, _ in calls} == {60}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 50}, "--budget 50 must exceed --population 50"),
        ({"population": 0}, "--population is 0"),
        ({"tournament": 51}, "--tournament is 51; it must lie in 1..50"),
        ({"tournament": 0}, "--tournament is 0"),
        ({"mutation_rate": 0.0}, "--mutation-rate is 0.0"),
        ({"mutation_rate": math.nan}, "--mutation-rate is nan"),
        ({"mutation_rate": 1.5}, "--mutation-rate is 1.5"),
        ({"per_round": 0}, "--per-round is 0"),
        ({"per_round": 51}, "--per-round is 51"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        make_algorithm("evolution", **{"budget": 100, **options})


def test_algorithms_are_made_by_name():
    assert make_algorithm("random", 7, population=None) == RandomSearch(7)
    assert make_algorithm("evolution", 70, population=9, tournament=2).n_children == 9
    assert make_algorithm("evolution", 70).as_dict()["per_round"] == 16
    with pytest.raises(OptionError, match="--population is of no use to random search"):
        make_algorithm("random", 7, population=3)
    with pytest.raises(UnknownNameError, match="Did you mean evolution"):
        make_algorithm("evolutoin", 7)
    with pytest.raises(OptionError, match="--budget is 0"):
        make_algorithm("random", 0)


@pytest.mark.parametrize("algorithm", [RandomSearch(19), Evolution(19, population=5, tournament=2)])
def test_a_budget_larger_than_the_space_is_refused(algorithm):
    with pytest.raises(OptionError, match="budget of 19 exceeds the 18 archs"):
        search(algorithm, space=SMALL)


def test_a_negative_seed_is_refused():
    with pytest.raises(OptionError, match="seed is -1"):
        search(RandomSearch(3), seed=-1)


def test_a_space_without_neighbours_cannot_evolve(monkeypatch):
    monkeypatch.setattr(evolution, "MAX_TRIES", 300)
    rules = Evolution(4, population=2, tournament=1)
    with pytest.raises(OptionError, match="no child in 300 tries; 2 of 302 draws from even were"):
        search(rules, space=EvenSpace())
    assert len(search(RandomSearch(4), space=EvenSpace())) == 4


def test_an_objective_that_loses_an_arch_is_noticed():
    class Forgetful(Planted):
        def score(self, archs, on_scored):
            return super().score(archs, on_scored)[1:]

    with pytest.raises(ValueError, match="shorter"):
        search(RandomSearch(5), Forgetful())


def test_the_target_is_what_evolution_ends_at():
    trials = search(Evolution(1500, population=50, tournament=15))
    assert best_trials(trials, 1, lambda arch: arch)[0].arch == TARGET
