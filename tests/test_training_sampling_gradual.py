import itertools
from collections import Counter

import pytest
from test_training_sampling import PLANTED, Uneven, assert_within_5_sigma

from wsx.errors import OptionError
from wsx.spaces import SPACES
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.training.recipes import Recipe
from wsx.training.sampling import ArchSampler


def make(space, *, seed=7, **recipe):
    return ArchSampler(space, Recipe(sampler="gradual", **recipe), seed=seed)


def walk(space, n, **recipe):
    sampler = make(space, **recipe)
    return [arch for step in range(n) for arch in sampler[step]]


def n_changes(one, other):
    return sum(a != b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", ["nasbench201", "cell64", "proxylessnas", "darts-ptb"])
def test_consecutive_archs_differ_in_one_decision(name):
    archs = walk(SPACES[name], 200)
    assert [n_changes(a, b) for a, b in itertools.pairwise(archs)] == [1] * 199
    assert all(SPACES[name].check(arch) == arch for arch in archs)


def test_every_neighbour_is_equally_likely():
    space, n = Uneven(2, 4), 6000
    archs = walk(space, n, walk_length=n)
    moves = Counter(itertools.pairwise(archs))
    # One neighbour by the first decision, three by the second: a quarter each.
    assert len(moves) == 8 * 4
    for arch, n_left in Counter(archs[:-1]).items():
        counts = [moves[arch, other] for other in space.neighbours(arch)]
        assert_within_5_sigma(counts, n_left, 1 / 4)


def test_a_walk_visits_all_archs_equally_often():
    # Products are as likely to be left as to be reached. Steps of a walk depend on each other, walks do not.
    n_walks, length = 1500, 5
    archs = walk(Uneven(2, 3), n_walks * length, walk_length=length)
    for place in range(length):
        counts = Counter(archs[place::length])
        assert_within_5_sigma([counts[arch] for arch in Uneven(2, 3).enumerate()], n_walks, 1 / 6)


def test_walks_start_anew_after_their_length():
    archs = walk(NASBENCH201, 90, walk_length=30)
    jumps = [i for i, (a, b) in enumerate(itertools.pairwise(archs), 1) if n_changes(a, b) != 1]
    assert jumps == [30, 60]
    assert walk(NASBENCH201, 3, walk_length=1) != walk(NASBENCH201, 3)


def test_paths_of_a_step_walk_on():
    assert walk(NASBENCH201, 20, n_paths=3, walk_length=7) == walk(NASBENCH201, 60, walk_length=7)


def test_a_step_is_the_same_whatever_was_asked_before():
    steps = walk(NASBENCH201, 40, walk_length=9)
    sampler = make(NASBENCH201, walk_length=9)
    for step in (39, 3, 4, 3, 0, 17, 18, 26, 25, 27):
        assert sampler[step] == [steps[step]] == make(NASBENCH201, walk_length=9)[step]
    assert walk(NASBENCH201, 40, seed=8, walk_length=9) != steps


def test_a_walk_stays_inside_its_measure():
    archs = walk(NASBENCH201, 400, measure="reachable", walk_length=50)
    assert all(NASBENCH201.is_reachable(arch) for arch in archs)
    assert not all(NASBENCH201.is_reachable(arch) for arch in walk(NASBENCH201, 400))


class Linked(Uneven):
    @property
    def measures(self):
        return {"linked": lambda: [(0, 0, 0), (0, 0, 1), (1, 2, 5)], "apart": lambda: PLANTED}


def test_a_walk_does_not_start_where_it_could_not_go_on():
    space = Linked(2, 3, 6)
    assert set(walk(space, 60, measure="linked", walk_length=2)) == {(0, 0, 0), (0, 0, 1)}


def test_a_measure_without_neighbours_is_refused():
    with pytest.raises(OptionError, match=r"one decision at a time.*'apart' has a neighbour there"):
        make(Linked(2, 3, 6), measure="apart")


def test_parallel_ranks_walk_apart():
    sampler = make(NASBENCH201, n_ranks=2, parallel_sampling=True, walk_length=20)
    steps = [[sampler.archs(step, rank=rank)[0] for rank in (0, 1)] for step in range(40)]
    for rank in (0, 1):
        changes = [n_changes(a[rank], b[rank]) for a, b in itertools.pairwise(steps)]
        assert changes[:19] == changes[20:] == [1] * 19
    assert sum(one == other for one, other in steps) < 4
    assert [step[0] for step in steps] == walk(NASBENCH201, 40, walk_length=20)


@pytest.mark.parametrize("value", [0, -3])
def test_a_walk_without_length_is_refused(value):
    with pytest.raises(OptionError, match=f"walk_length is {value}; it must be at least 1"):
        Recipe(sampler="gradual", walk_length=value)
