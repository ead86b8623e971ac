import json
import math
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from race_answers import top, total, winners
from small_run import (
    AtOnce,
    by_text,
    outcomes,
    some_archs,
)

from wsx.analysis.race import RaceRules
from wsx.errors import ExportError, StoreError
from wsx.evaluators.batches import Tally
from wsx.evaluators.population import score_population
from wsx.evaluators.race import race_population
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.store import MemoryStore, ScoreKey, open_store

KEY = ScoreKey("nasbench201", "0" * 64, "digits", "1" * 64, "running", "", 0, "float32", "double")
MACRO = {"channels": 4, "cells": 1, "n_classes": 10, "in_channels": 1, "image_size": 8}
RULES = RaceRules(5, 1e-9, 0.0, seed=3, first=60)
N_DOUBLE = 501


def function_key(arch):
    return repr(NASBENCH201.function_key(arch))


def bits_of(arch):
    """Abilities against difficulties: what a function does hangs on its key alone."""
    rng = np.random.default_rng(list(function_key(arch).encode()))
    difficulty = np.random.default_rng(0).normal(0, 1.5, N_DOUBLE)
    return rng.normal(0, 1.0) + rng.normal(0, 0.5, N_DOUBLE) > difficulty


class DoubleEngine:
    """Stands in for a ``RaceEngine``; knows what each function does, and keeps a log of what was asked."""

    provider = "double"
    n_calibration_images = 20

    def __init__(self, *, rules=RULES, broken=(), diverged=(), delay_s=0.0, stop_after=math.inf):
        self.rules, self.images = rules, range(N_DOUBLE)
        self.broken, self.diverged = set(broken), dict(diverged)
        self.delay_s, self.stop_after = delay_s, stop_after
        self.log = []

    def cut(self, indices):
        return indices

    def run(self, runner, indices):
        arch = runner.group.archs[0]
        self.log.append((arch, indices))
        if len(self.log) > self.stop_after:
            raise KeyboardInterrupt
        if arch in self.broken:
            raise RuntimeError(f"cannot run\n{arch}")
        runner.timing["run"] += 1.0
        time.sleep(self.delay_s * (hash(arch) % 3))
        hits = bits_of(arch)[indices]
        # The n-th lap of a diverged arch has no finite loss.
        lap = sum(entry[0] == arch for entry in self.log)
        loss = float("nan") if self.diverged.get(arch, math.inf) <= lap else float(len(indices))
        return Tally(int(hits.sum()), loss, hits)

    @property
    def n_evaluations(self):
        return sum(len(indices) for _, indices in self.log)


class ExhaustiveEngine(DoubleEngine):
    def score(self, arch):
        hits = bits_of(arch)
        loss = float("nan") if arch in self.diverged else float(N_DOUBLE)
        if arch in self.broken:
            raise RuntimeError(f"cannot run\n{arch}")
        return Tally(int(hits.sum()), loss, hits), dict.fromkeys(
            ("record", "calibrate", "build", "run"), 1.0
        )


def new_campaign(store=None):
    return (store or MemoryStore()).campaign(KEY, image_ids=range(N_DOUBLE), info={})


def shared(campaign, key):
    return {
        "campaign": campaign,
        "space": NASBENCH201,
        "cost": lambda arch: NASBENCH201.cost(arch, MACRO),
        "function_key": key,
    }


def race(archs, engine=None, *, campaign=None, executor=None, key=function_key, **more):
    campaign = campaign or new_campaign()
    more = {"n_workers": 1, **more}
    engine = engine or DoubleEngine()
    report = race_population(
        archs, engine=engine, executor=executor or AtOnce(), **shared(campaign, key), **more
    )
    return campaign.table(), report


def exhaustive(archs, engine=None, *, key=function_key):
    campaign = new_campaign()
    score_population(
        archs,
        engine=engine or ExhaustiveEngine(),
        executor=AtOnce(),
        n_workers=1,
        **shared(campaign, key),
    )
    return campaign.table()


def test_the_top_is_that_of_the_exhaustive_campaign_and_its_rows_too():
    archs = some_archs(150)
    engine = DoubleEngine()
    table, report = race(archs, engine)
    everything = exhaustive(archs)
    assert winners(report) == top(everything, archs, 5)
    found, expected = outcomes(table), outcomes(everything)
    assert found.items() <= expected.items()
    assert len(found) < len(archs) / 2
    assert set(winners(report)) <= set(found)
    assert total(report) == len(archs)
    assert report.n_eliminated == len(archs) - len(found)
    assert report.n_evaluations == engine.n_evaluations < report.n_exhaustive / 2
    functions = {function_key(arch) for arch in archs}
    assert report.n_functions == report.n_calibrated == len(functions) < len(archs)
    assert report.n_exhaustive == len(functions) * N_DOUBLE
    with_calibration = len(functions) * 20
    assert report.factor_calibrated == (report.n_exhaustive + with_calibration) / (
        report.n_evaluations + with_calibration
    )


def test_no_image_of_a_subnet_is_run_twice_and_those_complete_saw_all():
    archs = some_archs(120, measure="functions")
    engine = DoubleEngine()
    table, _ = race(archs, engine)
    seen = {}
    for arch, indices in engine.log:
        seen.setdefault(arch, []).extend(indices.tolist())
    assert set(seen) == set(archs)
    assert all(len(images) == len(set(images)) for images in seen.values())
    complete = {arch for arch, images in seen.items() if len(images) == N_DOUBLE}
    assert {tuple(row) for row in table.arch.tolist()} == complete
    n_laps = {arch: sum(a == arch for a, _ in engine.log) for arch in complete}
    assert table.seconds_run.tolist() == [n_laps[tuple(row)] for row in table.arch.tolist()]


@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_workers_change_nothing(n_workers):
    archs = some_archs(100)
    expected_table, expected = race(archs)
    with ThreadPoolExecutor(n_workers) as threads:
        engine = DoubleEngine(delay_s=0.0003)
        table, report = race(archs, engine, executor=threads, n_workers=n_workers)
    assert report == expected
    assert outcomes(table) == outcomes(expected_table)


def test_failures_are_rows_and_others_race_on():
    archs = some_archs(90, measure="functions")
    best = top(exhaustive(archs), archs, 90)
    broken, unknown = NASBENCH201.parse(best[1]), NASBENCH201.parse(best[2])

    def key(arch):
        if arch == unknown:
            raise ExportError("no emitter for cumsum")
        return function_key(arch)

    table, report = race(archs, DoubleEngine(broken=[broken, archs[5]]), key=key)
    rest = [text for text in best if text not in {best[1], best[2], NASBENCH201.format(archs[5])}]
    assert winners(report) == rest[:5]
    rows = by_text(table)
    assert (rows[best[1]].status, rows[best[2]].status) == ("failed", "failed")
    assert "RuntimeError: cannot run" in rows[best[1]].error
    assert rows[best[2]].error == "no emitter for cumsum"
    assert (report.n_failed, total(report)) == (3, 90)


def test_a_loss_that_is_not_finite_on_some_images_ends_a_race():
    archs = some_archs(90, measure="functions")
    log = DoubleEngine()
    race(archs, log)
    arch, images = next((arch, images) for arch, images in log.log if len(images) < N_DOUBLE)
    engine = DoubleEngine(diverged={arch: 1})
    table, report = race(archs, engine)
    row = by_text(table)[NASBENCH201.format(arch)]
    assert (row.status, row.correct, row.bits) == ("failed", 0, bytes(63))
    assert f"the summed loss is nan after {len(images)} of {N_DOUBLE} images" in row.error
    assert [a for a, _ in engine.log].count(arch) == 1
    assert (report.n_failed, total(report)) == (1, 90)
    assert winners(report) == [t for t in top(exhaustive(archs), archs, 6) if t != row.text][:5]


def test_a_loss_that_is_not_finite_at_last_is_the_row_of_the_exhaustive_campaign():
    archs = some_archs(150)
    log = DoubleEngine()
    _, clean = race(archs, log)
    ran = [arch for arch, _ in log.log]
    group = {}
    for arch in archs:
        group.setdefault(function_key(arch), []).append(arch)
    # The best one of several laps, and the archs that compute the same.
    best = next(a for t in winners(clean) for a in [NASBENCH201.parse(t)] if ran.count(a) > 1)
    same, diverged = group[function_key(best)], {best: ran.count(best)}
    campaign = new_campaign()
    table, report = race(archs, DoubleEngine(diverged=diverged), campaign=campaign)
    everything = exhaustive(archs, ExhaustiveEngine(diverged=diverged))
    assert by_text(table)[NASBENCH201.format(best)].status == "not-finite"
    assert outcomes(table).items() <= outcomes(everything).items()
    assert winners(report) == top(everything, archs, 5)
    assert report.n_failed == len(same)
    # It is known now, and not run again.
    engine = DoubleEngine(diverged=diverged)
    _, again = race(archs, engine, campaign=campaign)
    assert best not in [arch for arch, _ in engine.log]
    assert (winners(again), total(again)) == (winners(report), len(archs))


def test_another_name_of_what_diverged_is_a_row_that_says_so():
    group = {}
    for arch in some_archs(150):
        group.setdefault(function_key(arch), []).append(arch)
    one, *others = max(group.values(), key=len)
    campaign = new_campaign()
    race([one], DoubleEngine(diverged={one: 1}), campaign=campaign)
    engine = DoubleEngine()
    table, report = race([one, *others], engine, campaign=campaign)
    assert engine.log == []
    assert table.status.tolist() == ["not-finite", *["failed"] * len(others)]
    assert "no finite loss" in table.error[1]
    assert (report.n_finished, report.n_failed) == (1, len(others))


@pytest.mark.parametrize(
    "n_laps", [0, 60, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 10, 95, 110))]
)
def test_interrupted_and_resumed_finds_the_same(tmp_path, n_laps):
    archs = some_archs(100)
    _, expected = race(archs)
    path = tmp_path / "scores.h5"
    with pytest.raises(KeyboardInterrupt), open_store(path, "a") as store:
        race(archs, DoubleEngine(stop_after=n_laps), campaign=new_campaign(store))
    with open_store(path, "a") as store:
        kept = outcomes(new_campaign(store).table())
        engine = DoubleEngine()
        table, report = race(archs, engine, campaign=new_campaign(store))
        assert winners(report) == winners(expected)
        assert kept.items() <= outcomes(table).items() <= outcomes(exhaustive(archs)).items()
        functions = {row[1] for row in kept.values()}
        assert report.n_known == len(functions)
        assert not functions & {function_key(arch) for arch, _ in engine.log}
        assert report.n_finished == len(kept)
        assert total(report) == len(archs)
        # Everything that it needs is known now.
        idle = DoubleEngine(rules=RaceRules(1, 1e-9, 0.0, seed=3, first=400))
        _, third = race(
            [NASBENCH201.parse(t) for t in outcomes(table)], idle, campaign=new_campaign(store)
        )
        assert (third.n_evaluations, idle.log, third.factor) == (0, [], None)
        assert winners(third) == winners(expected)[:1]


def test_archs_of_a_known_function_get_their_rows():
    archs = some_archs(150)
    groups = {}
    for arch in archs:
        groups.setdefault(function_key(arch), []).append(arch)
    group = max(groups.values(), key=len)
    campaign = new_campaign()
    race(group[:1], campaign=campaign)
    table, report = race(archs, campaign=campaign)
    rows = outcomes(table)
    assert {NASBENCH201.format(arch) for arch in group} <= set(rows)
    assert report.n_finished == 1
    assert total(report) == 150


@pytest.mark.parametrize("k", [1, 60, 61, 500])
def test_any_top_of_a_population_with_repeats(k):
    archs = some_archs(60)
    table, report = race(
        [*archs, *archs[:9]], DoubleEngine(rules=RaceRules(k, 1e-9, 0.0, first=60))
    )
    assert report.n_repeated == 9 + 60 - len(set(archs))
    assert winners(report) == top(exhaustive(archs), archs, k)
    assert total(report) == 69
    if k >= 60:
        assert len(table) == len(set(archs))


def test_no_archs_at_all():
    table, report = race([])
    assert (len(table), winners(report), report.factor) == (0, [], None)
    json.dumps(report.as_dict(), allow_nan=False)
    assert report.facts()["top 5"] == "none could be scored"


def test_progress_counts_images_up_to_what_was_needed():
    archs = some_archs(100)
    seen = []
    _, report = race(archs, on_raced=lambda *now: seen.append(now))
    done, at_most, notes = zip(*seen, strict=True)
    assert list(done) == sorted(done)
    assert list(at_most) == sorted(at_most, reverse=True)
    assert all(a <= b for a, b in zip(done, at_most, strict=True))
    assert done[-1] == report.n_evaluations
    assert at_most[0] == report.n_exhaustive
    assert "60 images seen, " in " ".join(notes)


def test_a_full_disk_stops_the_race_and_keeps_what_was_written():
    class Full:
        def __init__(self, campaign):
            self._campaign, self.image_ids = campaign, campaign.image_ids
            self.table, self.finished = campaign.table, campaign.finished
            self.known_functions = campaign.known_functions

        def append(self, scores):
            if len(self.table()) > 8:
                raise StoreError("no space left on device")
            self._campaign.append(scores)

    archs = some_archs(100)
    campaign = new_campaign()
    with ThreadPoolExecutor(2) as threads, pytest.raises(StoreError, match="no space"):
        race(archs, campaign=Full(campaign), executor=threads, n_workers=2)
    assert len(campaign.table()) > 8
    table, report = race(archs, campaign=campaign)
    assert outcomes(table).items() <= outcomes(exhaustive(archs)).items()
    assert winners(report) == winners(race(archs)[1])
