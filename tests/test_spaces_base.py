import copy
import math
from functools import cached_property

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wsx.errors import ArchError, OptionError, UnknownNameError
from wsx.spaces import SPACES, Cost, Decision, Space


class Mixed(Space):
    """Decisions with different numbers of options; the text is the options' names, joined."""

    name = "mixed"
    summary = "a space for tests"

    def __init__(self, *n_options):
        self._n_options = n_options

    @cached_property
    def decisions(self):
        return tuple(
            Decision(f"d{place}", tuple(f"o{option}" for option in range(n)))
            for place, n in enumerate(self._n_options)
        )

    @property
    def measures(self):
        return {"encodings": lambda: None, "even": self._even}

    def _even(self):
        return [arch for arch in self.enumerate() if sum(arch) % 2 == 0]

    def format(self, arch):
        return ",".join(map(str, self.check(arch)))

    def parse(self, text):
        return self.check(tuple(int(part) for part in text.split(",")))

    def cost(self, arch, macro):
        return Cost(sum(arch), 0)


SMALL = Mixed(3, 1, 4, 2)
HUGE = Mixed(*[10] * 25)


def test_spaces_are_found_by_name_and_described():
    for name, space in SPACES.items():
        assert (space.name, bool(space.summary)) == (name, True)
        n_combinations = math.prod(len(d.options) for d in space.decisions)
        assert 0 < space.n_archs <= n_combinations
        assert space.is_product == (space.n_archs == n_combinations)


def test_mixed_radix_order_counts_up_from_the_last_decision():
    assert SMALL.n_archs == 24
    archs = list(SMALL.enumerate())
    expected = [(a, 0, c, d) for a in range(3) for c in range(4) for d in range(2)]
    assert archs == expected
    assert [SMALL.index(arch) for arch in archs] == list(range(24))


@given(st.integers(0, 10**25 - 1))
def test_indices_beyond_64_bits_are_exact(index):
    arch = HUGE.arch_at(index)
    assert int("".join(map(str, arch))) == index
    assert HUGE.index(arch) == index


@pytest.mark.parametrize("index", [-1, 24, 2**70])
def test_an_index_outside_the_space_is_refused(index):
    with pytest.raises(ArchError, match=r"lies outside 0\.\.23 of mixed"):
        SMALL.arch_at(index)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ((), "has 0 decisions; mixed has 4"),
        ((0, 0, 0), "has 3 decisions"),
        ((0, 0, 0, 0, 0), "has 5 decisions"),
        ((0, 0, 4, 0), r"d2 is 4; it must lie in 0\.\.3"),
        ((0, 0, -1, 0), "d2 is -1"),
        ((0, 0, 2**80, 0), "d2 is"),
        ((0, 0, float("nan"), 0), "no integers"),
        ((0, 0, 0.5, 0), "no integers"),
        (("0", "0", "0", "0"), "no integers"),
    ],
)
def test_check_refuses_what_is_no_arch(arch, message):
    for use in (SMALL.check, SMALL.index, SMALL.neighbours, SMALL.function_key, SMALL.is_reachable):
        with pytest.raises(ArchError, match=message):
            use(arch)


def test_check_makes_plain_tuples_of_ints():
    arch = SMALL.check(np.array([2, 0, 3, 1]))
    assert arch == (2, 0, 3, 1)
    assert {type(option) for option in arch} == {int}


def test_neighbours_differ_in_one_decision():
    for arch in SMALL.enumerate():
        found = SMALL.neighbours(arch)
        expected = [
            other
            for other in SMALL.enumerate()
            if sum(a != b for a, b in zip(arch, other, strict=True)) == 1
        ]
        assert sorted(found) == expected


def test_mutate_draws_the_decision_and_then_the_option_uniformly():
    rng = np.random.default_rng(0)
    arch = (1, 0, 3, 0)
    n = 6000
    counts = dict.fromkeys(SMALL.neighbours(arch), 0)
    for _ in range(n):
        counts[SMALL.mutate(arch, rng=rng)] += 1
    # The decision with one option cannot change; the others are hit a third of the time each.
    expected = [n / 3 / (SMALL.n_options[_changed(arch, other)] - 1) for other in counts]
    assert stats.chisquare(list(counts.values()), expected).pvalue > 0.01


def _changed(arch, other):
    (place,) = (i for i, (a, b) in enumerate(zip(arch, other, strict=True)) if a != b)
    return place


def test_sampling_is_seeded_and_distinct():
    def draw(seed, space, n):
        return space.sample(n, rng=np.random.default_rng(seed), measure="encodings")

    for space, n in ((SMALL, 24), (HUGE, 500)):
        archs = draw(3, space, n)
        assert archs == draw(3, space, n)
        assert archs != draw(4, space, n)
        assert len(set(archs)) == n
        assert all(space.check(arch) == arch for arch in archs)


def test_sampling_with_repeats_repeats():
    archs = SMALL.sample(500, rng=np.random.default_rng(0), measure="even", has_repeats=True)
    assert len(archs) == 500
    assert set(archs) == {arch for arch in SMALL.enumerate() if sum(arch) % 2 == 0}


@pytest.mark.parametrize("measure", ["encodings", "even"])
@pytest.mark.parametrize("has_repeats", [True, False])
def test_sampling_is_uniform_over_the_measure(measure, has_repeats):
    rng = np.random.default_rng(1)
    listed = SMALL.population(measure) or list(SMALL.enumerate())
    counts = dict.fromkeys(listed, 0)
    for _ in range(1500):
        for arch in SMALL.sample(4, rng=rng, measure=measure, has_repeats=has_repeats):
            counts[arch] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


@pytest.mark.parametrize("space", [HUGE, Mixed(*[6] * 10), Mixed(*[2] * 65)])
def test_large_spaces_are_sampled_uniformly(space):
    # 10^25, 6^10 and 2^65: beyond 64 bits, within, and just beyond.
    archs = space.sample(2000, rng=np.random.default_rng(2), measure="encodings")
    assert len(set(archs)) == 2000
    for place in (0, len(space.n_options) // 2, -1):
        counts = np.bincount([arch[place] for arch in archs], minlength=space.n_options[place])
        assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize(
    ("measure", "n"), [("encodings", 25), ("even", 13), ("even", 0), ("even", -3)]
)
def test_sampling_more_than_there_are_is_refused(measure, n):
    with pytest.raises(OptionError, match=f"cannot draw {n} archs: mixed has .* under '{measure}'"):
        SMALL.sample(n, rng=np.random.default_rng(0), measure=measure)


def test_an_unknown_measure_is_suggested():
    with pytest.raises(UnknownNameError, match="Did you mean encodings"):
        SMALL.sample(1, rng=np.random.default_rng(0), measure="encoding")


def test_by_default_every_encoding_is_a_function_of_its_own_and_reachable():
    assert len({SMALL.function_key(arch) for arch in SMALL.enumerate()}) == 24
    assert all(SMALL.is_reachable(arch) for arch in SMALL.enumerate())


def test_a_copy_of_what_holds_a_space_holds_the_same_space():
    space = SPACES["nasbench201"]
    assert copy.deepcopy({"space": space})["space"] is space
