from collections import Counter

import numpy as np
import pytest
from test_training_sampling import PLANTED, Uneven, assert_within_5_sigma

from wsx.errors import OptionError, UnknownNameError
from wsx.spaces import SPACES
from wsx.training.recipes import Recipe
from wsx.training.sampling import ArchSampler

CELL64 = SPACES["cell64"]


def visits(n, space=CELL64, *, seed=7, **recipe):
    """The first n archs of a training, step by step."""
    sampler = ArchSampler(space, Recipe(sampler="round-robin", **recipe), seed=seed)
    archs: list = []
    step = 0
    while len(archs) < n:
        archs += sampler[step]
        step += 1
    return archs[:n]


def test_fixed_order_is_that_of_the_space():
    # P3's order of its 64 children: 16a + 4b + c.
    expected = [(i // 16, i // 4 % 4, i % 4) for i in range(64)] * 3
    assert visits(192) == expected
    assert visits(192, seed=8) == expected


def test_fixed_order_of_a_measure_and_of_a_file(tmp_path):
    space = Uneven(2, 3, 6)
    assert visits(7, space, measure="planted") == [*PLANTED, *PLANTED, PLANTED[0]]
    path = tmp_path / "archs.txt"
    path.write_text("\n".join(space.format(arch) for arch in reversed(PLANTED)))
    assert visits(3, space, measure=f"list:{path}") == PLANTED[::-1]


@pytest.mark.parametrize("order", ["fixed", "shuffled", "reshuffled"])
@pytest.mark.parametrize("n_paths", [1, 3])
def test_every_pass_has_every_arch_once(order, n_paths):
    archs = visits(5 * 64, order=order, n_paths=n_paths)
    for start in range(0, len(archs), 64):
        assert Counter(archs[start : start + 64]) == Counter(CELL64.enumerate())


def test_a_shuffle_stays_and_a_reshuffle_does_not():
    once, anew = visits(256, order="shuffled"), visits(256, order="reshuffled")
    passes = [once[start : start + 64] for start in range(0, 256, 64)]
    assert passes == [once[:64]] * 4
    assert once[:64] != visits(64)
    assert len({tuple(anew[start : start + 64]) for start in range(0, 256, 64)}) == 4


@pytest.mark.parametrize("order", ["shuffled", "reshuffled"])
def test_orders_differ_by_seed_and_by_the_seed_of_the_order(order):
    orders = [
        tuple(visits(64, order=order, seed=seed, order_seed=order_seed))
        for seed in (0, 1)
        for order_seed in (0, 1, 2)
    ]
    assert len(set(orders)) == 6
    assert orders[1] == tuple(visits(64, order=order, seed=0, order_seed=1))


def test_all_shuffles_are_equally_likely():
    space, n = Uneven(3), 3000
    anew = visits(3 * n, space, order="reshuffled")
    counts = Counter(tuple(anew[3 * i : 3 * i + 3]) for i in range(n))
    assert len(counts) == 6
    assert_within_5_sigma(list(counts.values()), n, 1 / 6)
    first = Counter(tuple(visits(3, space, order="shuffled", order_seed=i)) for i in range(n))
    assert_within_5_sigma(list(first.values()), n, 1 / 6)


@pytest.mark.parametrize("order", ["fixed", "shuffled", "reshuffled"])
def test_a_step_is_the_same_whatever_was_asked_before(order):
    recipe = Recipe(sampler="round-robin", order=order, n_paths=5)
    one = ArchSampler(CELL64, recipe, seed=2)
    steps = [one[step] for step in range(40)]
    for step in np.random.default_rng(0).permutation(40):
        assert one[int(step)] == ArchSampler(CELL64, recipe, seed=2)[int(step)] == steps[step]


@pytest.mark.parametrize("order", ["fixed", "shuffled"])
def test_parallel_ranks_share_a_pass(order):
    values = {"sampler": "round-robin", "order": order}
    together = Recipe(**values, n_ranks=4, parallel_sampling=True)
    sampler = ArchSampler(CELL64, together, seed=7)
    assert [arch for step in range(16) for arch in sampler[step]] == visits(64, order=order)
    assert sampler.archs(3, rank=2) == visits(64, order=order)[14:15]


def test_a_space_too_large_to_walk_through_is_refused(tmp_path):
    proxyless = SPACES["proxylessnas"]
    with pytest.raises(OptionError, match=r"visits every arch.*proxylessnas has 221,.*list:PATH"):
        visits(1, proxyless)
    path = tmp_path / "archs.txt"
    path.write_text(proxyless.format((0,) * 21) + "\n" + proxyless.format((1,) * 21))
    assert visits(3, proxyless, measure=f"list:{path}") == [(0,) * 21, (1,) * 21, (0,) * 21]


def test_an_unknown_order_suggests():
    with pytest.raises(UnknownNameError, match=r"no order named 'shufled'. Did you mean shuffled"):
        Recipe(order="shufled")


@pytest.mark.parametrize("value", [-1, float("nan")])
def test_a_bad_seed_of_the_order_is_refused(value):
    with pytest.raises(OptionError, match="order_seed is"):
        Recipe(order_seed=value)
