import random
import time
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from small_run import AtOnce, by_text, outcomes, some_archs

from wsx.errors import ExportError, StoreError
from wsx.evaluators.batches import Tally
from wsx.evaluators.chunks import MAX_CHUNK
from wsx.evaluators.engines import Timing
from wsx.evaluators.population import score_population
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.store import MemoryStore, ScoreKey, open_store

N_IMAGES = 13
MACRO = {"channels": 4, "cells": 1, "n_classes": 10, "in_channels": 1, "image_size": 8}
KEY = ScoreKey("nasbench201", "0" * 64, "digits", "1" * 64, "running", "", 0, "float32", "double")


def function_key(arch):
    return repr(NASBENCH201.function_key(arch))


class DoubleEngine:
    """Gives every function outcomes of its own, drawn from its key."""

    provider = "double"

    def __init__(self, *, broken=(), diverged=(), delay_s=0.0, error=RuntimeError):
        self.archs = []
        self._broken, self._diverged = set(broken), set(diverged)
        self._delay_s, self._error = delay_s, error

    def score(self, arch):
        self.archs.append(arch)
        time.sleep(random.random() * self._delay_s)
        if arch in self._broken:
            raise self._error(f"cannot run\n{arch}")
        rng = np.random.default_rng(list(function_key(arch).encode()))
        hits = rng.random(N_IMAGES) < 0.5
        loss = float("nan") if arch in self._diverged else float(rng.random())
        return Tally(int(hits.sum()), loss, hits), Timing(record=1, calibrate=2, build=3, run=4)


class StatefulEngine(DoubleEngine):
    """Wrong on purpose: what it says depends on what it scored before."""

    def score(self, arch):
        tally, timing = super().score(arch)
        hits = np.roll(tally.outcomes, len(self.archs))
        return Tally(tally.correct, tally.loss_sum, hits), timing


def campaign_of(store):
    return store.campaign(KEY, image_ids=range(N_IMAGES), info={})


def score(
    archs, *, engine=None, executor=None, n_workers=1, campaign=None, key=function_key, **more
):
    campaign = campaign_of(MemoryStore()) if campaign is None else campaign
    report = score_population(
        archs,
        campaign=campaign,
        engine=engine or DoubleEngine(),
        space=NASBENCH201,
        cost=lambda arch: NASBENCH201.cost(arch, MACRO),
        function_key=key,
        executor=executor or AtOnce(),
        n_workers=n_workers,
        **more,
    )
    return campaign.table(), report


def total(report):
    return report.n_run + report.n_shared + report.n_finished + report.n_repeated + report.n_failed


@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_order_workers_and_executor_change_no_score(n_workers):
    archs = some_archs(150)
    expected = outcomes(score(archs)[0])
    assert len(expected) == len(archs)
    shuffled = archs[::-1]
    with ThreadPoolExecutor(n_workers) as threads:
        engine = DoubleEngine(delay_s=0.002)
        table, report = score(shuffled, engine=engine, executor=threads, n_workers=n_workers)
    assert outcomes(table) == expected
    assert total(report) == len(archs)


def test_an_engine_with_memory_is_caught_by_the_order_test():
    archs = some_archs(60)
    one = outcomes(score(archs, engine=StatefulEngine())[0])
    assert outcomes(score(archs[::-1], engine=StatefulEngine())[0]) != one


def test_equal_functions_run_once_and_score_as_if_run_alone():
    archs = some_archs(240)
    engine = DoubleEngine()
    table, report = score(archs, engine=engine)
    keys = {function_key(arch) for arch in archs}
    assert len(engine.archs) == report.n_run == len(keys) < len(archs)
    alone = outcomes(score(archs, key=repr)[0])
    shared = outcomes(table)
    assert {t: row[2:5] for t, row in shared.items()} == {t: row[2:5] for t, row in alone.items()}
    costs = {t: (s.params, s.flops) for t, s in by_text(table).items()}
    for arch in archs:
        cost = NASBENCH201.cost(arch, MACRO)
        assert costs[NASBENCH201.format(arch)] == (cost.params, cost.flops)


def test_a_shared_score_took_no_time():
    archs = some_archs(240)
    table, report = score(archs)
    assert int((table.seconds_run == 4).sum()) == report.n_run
    assert int((table.seconds_run == 0).sum()) == report.n_shared


@settings(max_examples=25, deadline=None)
@given(
    first=st.lists(st.integers(0, 200), max_size=30),
    second=st.lists(st.integers(0, 200), max_size=30),
    broken=st.sets(st.integers(0, 200)),
    unknown=st.sets(st.integers(0, 200)),
)
def test_counts_add_up_to_the_archs_asked_for(first, second, broken, unknown):
    def key(arch):
        if NASBENCH201.index(arch) in unknown:
            raise ExportError("no emitter")
        return function_key(arch)

    campaign = campaign_of(MemoryStore())
    engine = DoubleEngine(broken={NASBENCH201.arch_at(i) for i in broken})
    for part in (first, second):
        archs = [NASBENCH201.arch_at(i) for i in part]
        _, report = score(archs, engine=engine, campaign=campaign, key=key)
        assert total(report) == len(archs)
    table = campaign.table()
    assert {tuple(row) for row in table.arch.tolist()} == {
        NASBENCH201.arch_at(i) for i in first + second
    }
    assert len(table) == len(set(first + second))


def test_failures_are_rows_with_their_message_and_others_are_scored():
    archs = some_archs(40, measure="functions")
    unrecordable, unrunnable, diverged = archs[3], archs[7], archs[11]

    def key(arch):
        if arch == unrecordable:
            raise ExportError("no emitter for cumsum")
        return function_key(arch)

    engine = DoubleEngine(broken=[unrunnable], diverged=[diverged])
    table, report = score(archs, engine=engine, key=key)
    rows = by_text(table)
    assert len(rows) == 40
    assert (report.n_run, report.n_failed) == (37, 3)
    bad = rows[NASBENCH201.format(unrecordable)]
    assert (bad.status, bad.error, bad.function_key) == ("failed", "no emitter for cumsum", "")
    bad = rows[NASBENCH201.format(unrunnable)]
    assert bad.status == "failed"
    assert "RuntimeError: cannot run" in bad.error
    bad = rows[NASBENCH201.format(diverged)]
    assert (bad.status, bad.error) == ("not-finite", "the summed loss is nan")
    assert sum(row.status == "ok" for row in rows.values()) == 37


class OddError(Exception):
    """As narrow as the errors of ONNX Runtime and protobuf, which derive from Exception itself."""


def test_errors_of_any_kind_stay_with_their_subnet():
    archs = some_archs(5, measure="functions")
    table, _ = score(archs, engine=DoubleEngine(broken=archs[:1], error=OddError))
    assert list(table.status).count("failed") == 1
    assert "OddError" in by_text(table)[NASBENCH201.format(archs[0])].error


def test_failed_archs_are_tried_again_and_replaced():
    archs = some_archs(20, measure="functions")
    campaign = campaign_of(MemoryStore())
    score(archs, engine=DoubleEngine(broken=archs[:4], diverged=archs[4:5]), campaign=campaign)
    engine = DoubleEngine()
    table, report = score(archs, engine=engine, campaign=campaign)
    assert sorted(engine.archs) == sorted(archs[:4])
    assert (report.n_run, report.n_finished) == (4, 16)
    assert len(table) == 20
    assert list(table.status).count("not-finite") == 1
    assert list(table.status).count("ok") == 19


def test_a_failed_group_fails_all_its_archs():
    archs = some_archs(240)
    keys = [function_key(arch) for arch in archs]
    common = max(set(keys), key=keys.count)
    group = [arch for arch, key in zip(archs, keys, strict=True) if key == common]
    assert len(group) > 1
    table, report = score(archs, engine=DoubleEngine(broken=group))
    assert report.n_failed == len(group)
    assert total(report) == len(archs)
    failed = {tuple(row) for row in table.arch[table.status == "failed"].tolist()}
    assert failed == set(group)


def test_a_function_that_is_known_is_not_run_again():
    archs = some_archs(240)
    campaign = campaign_of(MemoryStore())
    score(archs[:120], campaign=campaign)
    engine = DoubleEngine()
    table, report = score(archs, engine=engine, campaign=campaign)
    known = {function_key(arch) for arch in archs[:120]}
    assert {function_key(arch) for arch in engine.archs}.isdisjoint(known)
    assert report.n_finished == 120
    assert outcomes(table) == outcomes(score(archs)[0])


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("n_before", [0, 1, 17, 60])
@pytest.mark.parametrize("n_workers", [1, 3])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, n_before, n_workers):
    archs = some_archs(80)
    expected = outcomes(score(archs)[0])
    path = tmp_path / "scores.h5"
    seen = []

    def stop(n_done, n_all):
        seen.append(n_done)
        if n_done >= n_before:
            raise StoppedError

    with (
        ThreadPoolExecutor(n_workers) as threads,
        pytest.raises(StoppedError),
        open_store(path, "a") as store,
    ):
        score(
            archs,
            campaign=campaign_of(store),
            on_scored=stop,
            executor=threads,
            n_workers=n_workers,
        )
    with open_store(path, "a") as store:
        campaign = campaign_of(store)
        kept = outcomes(campaign.table())
        assert len(kept) == seen[-1]
        assert all(expected[text] == row for text, row in kept.items())
        table, report = score(archs, campaign=campaign)
        assert report.n_finished == len(kept)
        assert outcomes(table) == expected


def test_progress_counts_rows_up_to_all_of_them():
    archs = some_archs(100)
    seen = []
    score(archs, on_scored=lambda done, n_all: seen.append((done, n_all)))
    done = [n for n, _ in seen]
    assert done == sorted(done)
    assert seen[-1] == (100, 100)
    assert {n_all for _, n_all in seen} == {100}


def test_few_chunks_are_in_flight():
    archs = some_archs(300, measure="functions")
    engine = DoubleEngine()
    behind = []
    executor = AtOnce()
    score(
        archs,
        engine=engine,
        executor=executor,
        n_workers=2,
        on_scored=lambda done, n_all: behind.append(len(engine.archs) - done),
    )
    assert max(behind) <= 2 * 2 * MAX_CHUNK


class FullCampaign:
    """A campaign on a disk that fills up after some rows."""

    def __init__(self, campaign, n_rows):
        self._campaign, self._n_rows = campaign, n_rows
        self.image_ids = campaign.image_ids
        self.finished, self.known_functions = campaign.finished, campaign.known_functions

    def append(self, scores):
        if len(self._campaign.table()) + len(scores) > self._n_rows:
            raise StoreError("no space left on device")
        self._campaign.append(scores)


def test_a_full_disk_stops_the_sweep_and_keeps_what_was_written():
    archs = some_archs(80)
    campaign = campaign_of(MemoryStore())
    with ThreadPoolExecutor(2) as threads, pytest.raises(StoreError, match="no space"):
        score(archs, campaign=FullCampaign(campaign, 30), executor=threads, n_workers=2)
    kept = outcomes(campaign.table())
    assert 0 < len(kept) <= 30
    table, _ = score(archs, campaign=campaign)
    assert outcomes(table) == outcomes(score(archs)[0])
