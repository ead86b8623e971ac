import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from search_doubles import KEY, N_IMAGES, SPACE, PlantedEngine, cost, n_hits, source
from small_run import AtOnce

from wsx.errors import OptionError, StoreError
from wsx.search import Candidates, Evolution, RandomSearch, SharedWeights, best_trials, run_search
from wsx.store import MemoryStore, open_store

RULES = Evolution(100, population=20, tournament=5, per_round=7)
CANDIDATES = Candidates(SPACE)


def opened(store):
    return store.campaign(KEY, image_ids=range(N_IMAGES), info={})


def objective(campaign, engine=None, *, executor=None, n_workers=1, **more):
    return SharedWeights(
        campaign,
        source(),
        engine or PlantedEngine(),
        executor=executor or AtOnce(),
        n_workers=n_workers,
        **more,
    )


def searched(scorer, rules=RULES, seed=0):
    return run_search(rules, CANDIDATES, scorer, seed=seed)


@pytest.fixture(scope="module")
def uninterrupted():
    return searched(objective(opened(MemoryStore())))


def value(arch):
    return min(6 * n_hits(arch[:-1]), N_IMAGES) / N_IMAGES


def test_values_are_accuracies_and_every_arch_lands_in_the_store(uninterrupted):
    engine, campaign = PlantedEngine(), opened(MemoryStore())
    scorer = objective(campaign, engine)
    trials = searched(scorer)
    assert trials == uninterrupted
    assert [trial.value for trial in trials] == [value(trial.arch) for trial in trials]
    table = campaign.table()
    stored = {
        tuple(arch): accuracy
        for arch, accuracy in zip(table.arch.tolist(), table.accuracy, strict=True)
    }
    assert stored == {trial.arch: trial.value for trial in trials}
    # One run for each function, however often it came along.
    functions = {repr(trial.arch[:-1]) for trial in trials}
    assert len(engine.archs) == scorer.n_run == len(functions) < len(stored) < len(trials)


@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_the_number_of_workers_changes_nothing(uninterrupted, n_workers):
    with ThreadPoolExecutor(n_workers) as executor:
        scorer = objective(opened(MemoryStore()), executor=executor, n_workers=n_workers)
        assert searched(scorer) == uninterrupted


@pytest.mark.parametrize("n", [0, 3, 20, 21, 60])
def test_interrupted_and_repeated_is_uninterrupted(uninterrupted, tmp_path, n):
    first, second = PlantedEngine(n_until_interrupt=n), PlantedEngine()
    with pytest.raises(KeyboardInterrupt), open_store(tmp_path / "s.h5", "a") as store:
        searched(objective(opened(store), first))
    with open_store(tmp_path / "s.h5", "a") as store:
        campaign = opened(store)
        stored = {tuple(arch) for arch in campaign.table().arch.tolist()}
        scorer = objective(campaign, second)
        assert searched(scorer) == uninterrupted
        assert scorer.n_there_already == len(stored)
        assert len(campaign.table()) == len({trial.arch for trial in uninterrupted})
    assert len(first.archs) == n
    assert not stored & set(second.archs)
    # Chunks that were under way are done again, no more.
    assert n - 10 <= len({repr(arch[:-1]) for arch in stored}) <= n


def test_a_finished_search_runs_nothing_again_and_a_larger_one_goes_on(uninterrupted):
    store = MemoryStore()
    searched(objective(opened(store)))
    engine = PlantedEngine()
    assert searched(objective(opened(store), engine)) == uninterrupted
    assert engine.archs == []
    longer = Evolution(300, population=20, tournament=5, per_round=7)
    trials = searched(objective(opened(store), engine), longer)
    # The last round of the shorter search was cut short.
    n_same = 20 + (100 - 20) // 7 * 7
    assert trials[:n_same] == uninterrupted[:n_same]
    assert 0 < len(engine.archs) < 300 - 50


def test_scores_from_elsewhere_are_used_and_change_no_decision(uninterrupted):
    store, engine = MemoryStore(), PlantedEngine()
    known = {trial.arch for trial in uninterrupted[::3]}
    objective(opened(store)).score(sorted(known), lambda n_done: None)
    scorer = objective(opened(store), engine)
    assert searched(scorer) == uninterrupted
    assert scorer.n_there_already == len(known)
    assert not {repr(arch[:-1]) for arch in engine.archs} & {repr(arch[:-1]) for arch in known}


def test_what_fails_or_diverges_is_worth_nothing_and_never_wins(uninterrupted):
    best = [t.arch for t in best_trials(uninterrupted, 6, lambda arch: arch[:-1])]
    engine = PlantedEngine(broken=best[:3], diverged=best[3:])
    campaign = opened(MemoryStore())
    scorer = objective(campaign, engine)
    trials = searched(scorer)
    bad = {trial.arch for trial in trials if math.isnan(trial.value)}
    assert bad
    assert scorer.n_failed == len(bad) == int((~campaign.table().ok).sum())
    assert not {t.arch for t in best_trials(trials, 9, scorer.identity)} & bad


def test_failures_are_tried_again_by_the_next_search_and_not_by_this_one(uninterrupted):
    store = MemoryStore()
    first = uninterrupted[0].arch
    engine = PlantedEngine(broken=[first])
    scorer = objective(opened(store), engine)
    assert math.isnan(scorer.score([first], lambda n_done: None)[0])
    assert math.isnan(scorer.score([first, first], lambda n_done: None)[1])
    assert engine.archs == [first]
    again = objective(opened(store))
    assert again.score([first], lambda n_done: None) == [value(first)]
    assert searched(again) == uninterrupted


def test_by_loss_smaller_is_better():
    scorer = objective(opened(MemoryStore()), by="loss")
    trials = searched(scorer, RandomSearch(40))
    for trial in trials:
        score = scorer.score_of(trial.arch)
        assert trial.value == -score.loss_sum / N_IMAGES
        assert (score.params, score.flops) == (cost(trial.arch).params, cost(trial.arch).flops)
    with pytest.raises(OptionError, match="not by 'speed'"):
        objective(opened(MemoryStore()), by="speed")


def test_a_batch_is_reported_as_it_goes_and_to_its_end():
    scorer = objective(opened(MemoryStore()))
    archs = [trial.arch for trial in searched(scorer, RandomSearch(30))]
    more = CANDIDATES.sample(20, rng=np.random.default_rng(9))
    calls = []
    scorer.score([*archs, *more, more[0]], calls.append)
    assert calls == sorted(calls)
    assert calls[0] >= 30
    assert calls[-1] == 51
    assert len(calls) > 2


def test_scores_that_cannot_be_written_end_the_search():
    store = MemoryStore()
    scorer = objective(opened(store))
    store.close()
    with pytest.raises(StoreError, match="closed"):
        searched(scorer)
