import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from merging_cases import EACH_SPACE, MODES, N_IMAGES, case

from wsx.errors import OptionError
from wsx.evaluators.batches import DeviceImages
from wsx.evaluators.devices import CPU, SessionFactory
from wsx.evaluators.engines import OnnxEngine
from wsx.evaluators.merging import (
    MergeLimits,
    MergePlanner,
    Profile,
    Work,
    cost_together,
    cut,
    profile,
)
from wsx.evaluators.plan import Group
from wsx.evaluators.sources import SupernetSource
from wsx.exporters.cost import node_multiply_adds
from wsx.exporters.merge import merge_calibration, merge_graphs

WORK = Work(n_images=N_IMAGES, n_calibration=32, batch_size=16)
OPEN = MergeLimits(n_subnets=64, saving=0.01, held_bytes=2**60)


def planner_of(some, limits=OPEN):
    return MergePlanner(some.recorder.record, some.recorder.weights, WORK, limits)


def groups_of(planner, archs):
    return [Group(planner.function_key(arch), [arch]) for arch in archs]


def members(bundles):
    return [[group.archs[0] for group in bundle.groups] for bundle in bundles]


# Scores of one model equal those one by one.


def engine_of(some, bn):
    factory = SessionFactory(some.recorder.weights, CPU)
    source = SupernetSource(some.recorder, "0" * 64, CPU, some.calibrator)
    return OnnxEngine(source, factory, DeviceImages(some.images, 8, CPU, pads=bn != "batch"))


@pytest.mark.parametrize("bn", MODES)
@pytest.mark.parametrize("space", EACH_SPACE)
def test_scores_of_one_model_equal_those_one_by_one(space, bn):
    some = case(space, bn)
    engine = engine_of(some, bn)
    together = engine.score_together(some.archs)
    for arch, (found, _) in zip(some.archs, together, strict=True):
        expected, _ = engine.score(arch)
        assert (found.correct, found.loss_sum) == (expected.correct, expected.loss_sum)
        assert found.outcomes.tolist() == expected.outcomes.tolist()
        assert len(found.outcomes) == N_IMAGES
    assert len({found.loss_sum for found, _ in together}) == len(some.archs)


def test_time_that_was_spent_together_is_shared_out(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    some = case("proxylessnas", MODES[1])
    start_s = next(clock)
    timings = [timing for _, timing in engine_of(some, MODES[1]).score_together(some.archs)]
    spent_s = next(clock) - start_s
    found = {phase: sum(t[phase] for t in timings) for phase in timings[0]}
    assert found["record"] == len(some.archs)
    assert all(seconds > 0 for timing in timings for seconds in timing.values())
    # Between two readings of the clock lies one second; all but those outside any phase are given to a subnet.
    assert spent_s - 6 - len(some.archs) <= sum(found.values()) <= spent_s


# What planning keeps and counts.


@pytest.mark.parametrize("bn", MODES)
@pytest.mark.parametrize("space", ["nasbench201", "proxylessnas", "darts"])
def test_planned_costs_are_those_of_the_merged_graphs(space, bn):
    some = case(space, bn)
    graphs, weights = some.graphs, some.recorder.weights
    profiles = [profile(graph, weights, WORK) for graph in graphs]
    for n in range(1, len(graphs) + 1):
        expected = WORK.n_images * sum(node_multiply_adds(merge_graphs(graphs[:n]).graph, weights))
        if some.calibrator is not None:
            calibration = merge_calibration(graphs[:n]).graph
            expected += WORK.n_calibration * sum(node_multiply_adds(calibration, weights))
        assert cost_together(profiles[:n]) == expected


def slow_held_bytes(graph, position):
    """Bytes of values of nodes before a position that are read there or later, found by looking at every pair."""
    read = {i for node in graph.nodes[position:] for i in node.inputs if i < position}
    sizes = [abs(int(np.prod(graph.nodes[i].shape))) for i in read if graph.nodes[i].inputs]
    return sum(sizes) * WORK.batch_size * 4


@pytest.mark.parametrize("space", ["nasbench201", "darts"])
def test_held_bytes_equal_a_slow_count(space):
    some = case(space, "running")
    weights = some.recorder.weights
    for graph in some.graphs:
        costly = [i for i, n in enumerate(node_multiply_adds(graph, weights)) if n]
        expected = [slow_held_bytes(graph, i) for i in [*costly, len(graph.nodes) - 1]]
        assert profile(graph, weights, WORK).held_bytes.tolist() == expected


def a_profile(path, held):
    """A chain of nodes, each known by all that came before it, costs 1, 2, 3 and so on."""
    keys = [hash(path[: i + 1]) % 2**63 for i in range(len(path))]
    return Profile(
        b"".join(key.to_bytes(8, "big") for key in keys),
        np.array(keys, dtype=np.uint64),
        np.arange(1, len(path) + 1, dtype=np.int64),
        np.array([held] * (len(path) + 1), dtype=np.int64),
    )


PATHS = st.lists(st.tuples(*[st.integers(0, 2)] * 4), min_size=1, max_size=7, unique=True)


@settings(max_examples=100, deadline=None)
@given(paths=PATHS)
def test_costs_together_equal_a_count_of_distinct_nodes_and_grow(paths):
    profiles = [a_profile(path, 0) for path in paths]
    costs = [cost_together(profiles[:n]) for n in range(1, len(paths) + 1)]
    for n, cost in enumerate(costs, 1):
        distinct = {path[: i + 1] for path in paths[:n] for i in range(4)}
        assert cost == sum(len(beginning) for beginning in distinct)
        assert cost <= sum(int(p.costs.sum()) for p in profiles[:n])
    assert costs == sorted(costs)


def slow_cut(paths, limits, n_most, held):
    """The most that neighbours share within bundles, over all ways to cut a row."""

    def shared(a, b):
        common = next((i for i in range(4) if a[i] != b[i]), 4)
        return sum(range(1, common + 1))

    best = 0
    for cuts in itertools.product([False, True], repeat=len(paths) - 1):
        size, total, waiting, fits = 1, 0, 0, True
        for i, is_cut in enumerate(cuts):
            if is_cut:
                size, waiting = 1, 0
                continue
            size, waiting = size + 1, waiting + held
            gain = shared(paths[i], paths[i + 1])
            total += gain
            fits &= size <= n_most and waiting <= limits.held_bytes
            fits &= gain >= limits.saving * 10 and gain > 0
        best = max(best, total if fits else 0)
    return best


@settings(max_examples=100, deadline=None)
@given(
    paths=PATHS,
    n_most=st.integers(1, 5),
    held=st.integers(0, 3),
    saving=st.sampled_from([0.01, 0.2, 0.5, 1.0]),
)
def test_no_way_to_cut_shares_more(paths, n_most, held, saving):
    limits = MergeLimits(saving=saving, held_bytes=5)
    row = sorted(paths, key=lambda path: a_profile(path, held).order)
    profiles = [a_profile(path, held) for path in row]
    found = cut(profiles, limits, n_most)
    assert [i for start, stop in found for i in range(start, stop)] == list(range(len(row)))
    shared = 0
    for start, stop in found:
        assert stop - start <= n_most
        assert (stop - start - 1) * held <= limits.held_bytes
        parts = profiles[start:stop]
        shared += sum(
            int(a.costs.sum() + b.costs.sum()) - cost_together([a, b])
            for a, b in itertools.pairwise(parts)
        )
    assert shared == slow_cut(row, limits, n_most, held)


# Bundles.


def test_the_order_of_the_population_changes_no_bundle():
    some = case("proxylessnas", "running")
    expected = None
    for archs in itertools.permutations(some.archs):
        planner = planner_of(some)
        bundles = members(planner.bundles(groups_of(planner, archs), 1))
        expected = expected or bundles
        assert bundles == expected
    assert max(map(len, expected)) > 1


def test_every_group_is_in_one_bundle_and_relatives_are_together():
    some = case("proxylessnas", "running")
    rng = np.random.default_rng(7)
    strangers = some.net.space.sample(6, rng=rng, measure="encodings")
    archs = [*strangers[:3], *some.archs, *strangers[3:]]
    planner = planner_of(some, MergeLimits(saving=0.5))
    bundles = planner.bundles(groups_of(planner, archs), 1)
    found = members(bundles)
    assert sorted(itertools.chain(*found)) == sorted(archs)
    merged = [bundle for bundle in found if len(bundle) > 1]
    assert merged
    assert set(itertools.chain(*merged)) <= set(some.archs)
    for bundle in bundles:
        assert (bundle.cost_together < bundle.cost_apart) == (len(bundle.groups) > 1)


@pytest.mark.parametrize(
    ("limits", "n_workers", "largest"),
    [
        (OPEN, 1, 4),
        (MergeLimits(n_subnets=1), 1, 1),
        (MergeLimits(n_subnets=2), 1, 2),
        # Nothing is ever all shared, and something is always held.
        (MergeLimits(saving=1.0), 1, 1),
        (MergeLimits(saving=0.01, held_bytes=0), 1, 1),
        (OPEN, 2, 2),
        (OPEN, 9, 1),
    ],
)
def test_limits_keep_subnets_apart(limits, n_workers, largest):
    some = case("proxylessnas", "running")
    planner = planner_of(some, limits)
    bundles = planner.bundles(groups_of(planner, some.archs), n_workers)
    assert max(len(bundle.groups) for bundle in bundles) == largest


def test_memory_bounds_what_waits_in_a_model():
    some = case("proxylessnas", "running")
    profiles = [profile(g, some.recorder.weights, WORK) for g in some.graphs]
    most = sum(int(p.held_bytes.max()) for p in profiles)
    sizes = []
    for held_bytes in np.linspace(0, most, 9).astype(int).tolist():
        planner = planner_of(some, MergeLimits(saving=0.01, held_bytes=held_bytes))
        bundles = planner.bundles(groups_of(planner, some.archs), 1)
        sizes.append(max(len(bundle.groups) for bundle in bundles))
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, len(some.archs))


def test_nothing_to_run_makes_no_bundle():
    assert planner_of(case("nasbench201", "running")).bundles([], 2) == []


def test_an_arch_is_recorded_once_to_plan_it():
    some = case("nasbench201", "running")
    recorded = []

    def record(arch):
        recorded.append(arch)
        return some.recorder.record(arch)

    planner = MergePlanner(record, some.recorder.weights, WORK, OPEN)
    planner.bundles(groups_of(planner, some.archs), 1)
    assert recorded == some.archs


def test_limits_are_read_from_text():
    assert MergeLimits.parse("auto") == MergeLimits()
    assert MergeLimits.parse("never").n_subnets == 1
    assert MergeLimits.parse("5").n_subnets == 5
    for text in ("0", "65", "-1", "1.5", "always", "", "9" * 400, "²"):
        with pytest.raises(OptionError, match="auto, never"):
            MergeLimits.parse(text)
