import hypothesis.strategies as st
from hypothesis import given, settings

from wsx.errors import ExportError
from wsx.evaluators.plan import make_plan
from wsx.store import Score

ARCHS = st.tuples(st.integers(0, 3), st.integers(0, 3))


def a_score(arch, key):
    return Score(
        arch=arch,
        text=str(arch),
        function_key=key,
        correct=1,
        total=8,
        loss_sum=1.0,
        bits=b"\x80",
        seconds_record=0.0,
        seconds_calibrate=0.0,
        seconds_build=0.0,
        seconds_run=0.0,
        status="ok",
        error="",
        params=1,
        flops=1,
    )


def key_of(arch):
    # Four functions, of which one cannot be exported.
    if arch[0] == 3:
        raise ExportError(f"no emitter for {arch}")
    return f"function {arch[0]}"


def places(plan):
    """Return every arch as often as the plan gives it a row."""
    grouped = [arch for group in plan.groups for arch in group.archs]
    return grouped + [arch for arch, _ in plan.known] + list(plan.failures)


@settings(max_examples=100, deadline=None)
@given(
    archs=st.lists(ARCHS, max_size=30),
    finished=st.sets(ARCHS),
    known=st.sets(st.integers(0, 2)),
)
def test_every_arch_lands_in_exactly_one_place(archs, finished, known):
    scores = {f"function {i}": a_score((i, 0), f"function {i}") for i in known}
    plan = make_plan(archs, finished=finished, known=scores, function_key=key_of)
    landed = places(plan)
    assert len(landed) == len(set(landed)) == plan.n_missing
    assert set(landed) == set(archs) - finished
    assert plan.n_finished == len(set(archs) & finished)
    assert plan.n_repeated == len(archs) - len(set(archs))
    assert plan.n_missing + plan.n_finished + plan.n_repeated == len(archs)
    for group in plan.groups:
        assert {key_of(arch) for arch in group.archs} == {group.function_key}
        assert group.function_key not in scores
    keys = [group.function_key for group in plan.groups]
    assert len(set(keys)) == len(keys)
    assert all(score is scores[key_of(arch)] for arch, score in plan.known)
    assert all(arch[0] == 3 for arch in plan.failures)


def test_groups_keep_the_order_of_their_first_archs():
    archs = [(2, 0), (0, 0), (2, 1), (1, 0), (0, 1)]
    plan = make_plan(archs, finished=set(), known={}, function_key=key_of)
    assert [group.archs for group in plan.groups] == [[(2, 0), (2, 1)], [(0, 0), (0, 1)], [(1, 0)]]


def test_progress_counts_the_missing_archs():
    seen = []
    make_plan(
        [(0, 0), (1, 0), (3, 0), (0, 0)],
        finished={(1, 0)},
        known={},
        function_key=key_of,
        on_arch=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]


def test_an_empty_population_plans_nothing():
    plan = make_plan([], finished=set(), known={}, function_key=key_of)
    assert (plan.groups, plan.known, plan.failures, plan.n_missing) == ([], [], {}, 0)
