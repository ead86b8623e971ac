import json
from collections import Counter

import numpy as np
import pytest
from small_run import (
    BN,
    BN_MODES,
    N_IMAGES,
    AtOnce,
    by_text,
    evaluate,
    losses,
    outcomes,
    read_table,
    small_run,
    some_archs,
)
from typer.testing import CliRunner

from wsx.cli import app
from wsx.evaluators.batches import Tally
from wsx.evaluators.chunks import MAX_CHUNK, chunks_of
from wsx.evaluators.engines import OnnxEngine, Timing
from wsx.evaluators.merging import MergeLimits
from wsx.evaluators.plan import Bundle, Group
from wsx.evaluators.population import score_population
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.store import MemoryStore, ScoreKey
from wsx.studies.scoring import Listener, ScoringOptions

ARCHS = some_archs(24, seed=5)
# Whatever saves anything: three cells of four channels have little in common.
MERGING = ScoringOptions(32, 1, merge=MergeLimits(saving=1e-6))
ALONE = ScoringOptions(32, 1, merge=MergeLimits(n_subnets=1))


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.getbasetemp())


@pytest.mark.slow
@pytest.mark.parametrize("bn", BN_MODES)
def test_merging_changes_no_score(run, tmp_path, bn):
    _, apart = evaluate(run, tmp_path / "apart.h5", ARCHS, bn=bn, options=ALONE)
    _, merged = evaluate(run, tmp_path / "merged.h5", ARCHS, bn=bn, options=MERGING)
    expected, found = (read_table(tmp_path / name) for name in ("apart.h5", "merged.h5"))
    assert outcomes(found) == outcomes(expected)
    assert np.array_equal(losses(found), losses(expected))
    assert (apart.n_models, apart.saved_share) == (0, 0.0)
    assert 0 < merged.n_models < merged.n_run
    assert 0 < merged.cost_saved < merged.cost_apart
    assert merged.saved_share == merged.cost_saved / merged.cost_apart
    counts = ("n_run", "n_shared", "n_finished", "n_repeated", "n_failed")
    assert all(getattr(merged, name) == getattr(apart, name) for name in counts)
    assert (found.seconds_run > 0).sum() == merged.n_run


class StoppedError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("n_before", [0, 8])
def test_merging_interrupted_and_resumed_equals_uninterrupted(run, tmp_path, n_before):
    def stop(n_done, n_all):
        if n_done >= n_before:
            raise StoppedError

    evaluate(run, tmp_path / "apart.h5", ARCHS, options=ALONE)
    expected, out = read_table(tmp_path / "apart.h5"), tmp_path / "s.h5"
    with pytest.raises(StoppedError):
        evaluate(run, out, ARCHS, options=MERGING, listener=Listener(on_scored=stop))
    n_kept = len(read_table(out))
    assert n_before <= n_kept < len(ARCHS)
    _, report = evaluate(run, out, ARCHS, options=MERGING)
    assert report.n_finished == n_kept
    assert outcomes(read_table(out)) == outcomes(expected)
    assert np.array_equal(losses(read_table(out)), losses(expected))


def test_an_arch_is_recorded_to_plan_it_and_to_emit_it(run, tmp_path, monkeypatch):
    recorded = Counter()
    record = SubnetRecorder.record
    monkeypatch.setattr(
        SubnetRecorder, "record", lambda self, arch: recorded.update([arch]) or record(self, arch)
    )
    _, report = evaluate(run, tmp_path / "s.h5", ARCHS, options=MERGING)
    assert report.n_models > 0
    assert set(recorded) == set(ARCHS)
    assert max(recorded.values()) == 2
    assert sum(n == 2 for n in recorded.values()) == report.n_run


@pytest.mark.slow
def test_a_subnet_that_fails_together_with_others_fails_alone(run, tmp_path, monkeypatch):
    evaluate(run, tmp_path / "apart.h5", ARCHS, options=ALONE)
    whole = outcomes(read_table(tmp_path / "apart.h5"))
    bundles = []
    together, alone = OnnxEngine.score_together, OnnxEngine.score

    def broken_together(self, archs):
        bundles.append(archs)
        if bundles[0][1] in archs:
            raise RuntimeError("no kernel")
        return together(self, archs)

    def broken_alone(self, arch):
        if arch == bundles[0][1]:
            raise RuntimeError("no kernel")
        return alone(self, arch)

    monkeypatch.setattr(OnnxEngine, "score_together", broken_together)
    monkeypatch.setattr(OnnxEngine, "score", broken_alone)
    _, report = evaluate(run, tmp_path / "s.h5", ARCHS, options=MERGING)
    rows = by_text(read_table(tmp_path / "s.h5"))
    failed = {text for text, row in rows.items() if row.status == "failed"}
    key = rows[NASBENCH201.format(bundles[0][1])].function_key
    assert failed == {text for text, row in rows.items() if row.function_key == key}
    assert {rows[text].error for text in failed} == {"RuntimeError: no kernel"}
    assert report.n_models == len(bundles) - 1
    assert report.n_failed == len(failed)
    found = outcomes(read_table(tmp_path / "s.h5"))
    assert all(found[text] == whole[text] for text in whole if text not in failed)


class Planner:
    """Puts all archs into one bundle."""

    def function_key(self, arch):
        return repr(arch)

    def bundles(self, groups, n_workers):
        return [Bundle(list(groups), 100, 40)] if groups else []


class Alone:
    """An engine that scores one subnet at a time only."""

    provider = "double"

    def score(self, arch):
        # The first option decides; 4 is a loss that is not finite.
        hits = np.arange(N_IMAGES) % 5 == arch[0]
        loss = float("inf") if arch[0] == 4 else float(arch[0])
        return Tally(int(hits.sum()), loss, hits), Timing(record=1, calibrate=2, build=3, run=4)


class Together(Alone):
    """The same, several at a time."""

    def score_together(self, archs):
        return [self.score(arch) for arch in archs]


class Swapped(Together):
    """Wrong on purpose: two subnets of a model get each other's scores."""

    def score_together(self, archs):
        return super().score_together(archs)[::-1]


def score(engine, archs, merging):
    key = ScoreKey("nasbench201", "0" * 64, "d", "1" * 64, "running", "", 0, "float32", "double")
    campaign = MemoryStore().campaign(key, image_ids=range(N_IMAGES), info={})
    report = score_population(
        archs,
        campaign=campaign,
        engine=engine,
        space=NASBENCH201,
        cost=lambda arch: NASBENCH201.cost(
            arch, {"channels": 4, "cells": 1, "n_classes": 10, "in_channels": 1, "image_size": 8}
        ),
        function_key=repr,
        executor=AtOnce(),
        n_workers=1,
        merging=merging,
    )
    return outcomes(campaign.table()), report


UNEQUAL = [(first, 0, 0, 0, 0, 0) for first in range(5)]


def test_an_engine_that_cannot_merge_scores_one_by_one():
    expected, _ = score(Alone(), UNEQUAL, None)
    found, report = score(Alone(), UNEQUAL, Planner())
    assert found == expected
    assert (report.n_models, report.cost_apart, report.cost_saved) == (0, 100, 0)


def test_a_loss_that_is_not_finite_stays_with_its_subnet():
    expected, _ = score(Alone(), UNEQUAL, None)
    found, report = score(Together(), UNEQUAL, Planner())
    assert found == expected
    assert [row[5] for row in found.values()].count("not-finite") == 1
    assert (report.n_run, report.n_failed, report.n_models) == (4, 1, 1)
    assert report.saved_share == 0.6


def test_scores_given_to_the_wrong_subnets_would_show():
    expected, _ = score(Alone(), UNEQUAL, None)
    assert score(Swapped(), UNEQUAL, Planner())[0] != expected


@pytest.mark.parametrize("n_workers", [1, 3])
@pytest.mark.parametrize("sizes", [[1] * 100, [16] * 5, [5, 5, 5, 5, 1, 1], [64, 1, 64], []])
def test_chunks_hold_every_bundle_once_and_few_groups(sizes, n_workers):
    bundles = [Bundle([Group(f"{i}.{j}", []) for j in range(n)]) for i, n in enumerate(sizes)]
    chunks = list(chunks_of(bundles, n_workers))
    assert [bundle for chunk in chunks for bundle in chunk] == bundles
    for chunk in chunks:
        assert len(chunk) == 1 or sum(len(b.groups) for b in chunk) <= MAX_CHUNK


def test_the_last_chunks_are_single_bundles_and_those_that_cost_most_come_first():
    costs = np.random.default_rng(0).permutation(50).tolist()
    bundles = [Bundle([Group(str(cost), [])], cost, cost) for cost in costs]
    chunks = [[bundle.cost_together for bundle in chunk] for chunk in chunks_of(bundles, 2)]
    assert [cost for chunk in chunks for cost in chunk] == [
        *costs[:-8],
        *sorted(costs[-8:], reverse=True),
    ]
    assert [len(chunk) for chunk in chunks[-8:]] == [1] * 8
    assert sorted(map(len, chunks), reverse=True) == list(map(len, chunks))
    assert len(chunks[0]) > 4


def test_the_command_line_reports_merging(run, tmp_path):
    common = ["evaluate", str(run.path), "--n", "12", "--bn", BN, "--device", "cpu", "--quiet"]
    facts = {}
    for merge in ("auto", "never"):
        out = ["--out", str(tmp_path / f"{merge}.h5"), "--merge", merge, "--json"]
        result = CliRunner().invoke(app, [*common, *out])
        assert result.exit_code == 0
        facts[merge] = json.loads(result.stdout)
    assert facts["never"]["merged models"] == facts["never"]["multiply-adds saved"] == 0
    assert 0 <= facts["auto"]["multiply-adds saved"] < 1
    tables = [read_table(tmp_path / f"{merge}.h5") for merge in facts]
    assert outcomes(tables[0]) == outcomes(tables[1])
    result = CliRunner().invoke(app, [*common, "--out", str(tmp_path / "s.h5"), "--merge", "all"])
    assert "auto, never" in str(result.exception)
