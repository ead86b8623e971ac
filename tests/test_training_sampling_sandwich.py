import functools
from collections import Counter

import numpy as np
import pytest
import torch
from own_spaces import ToyNet, isolated_registries, toy_space
from test_training_sampling import Refusing, Uneven, assert_within_5_sigma
from torch.nn import functional as F

from wsx.errors import OptionError
from wsx.spaces import SPACES, Cost
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.supernets import build_supernet, supernet_of
from wsx.training.passes import cost_of_archs
from wsx.training.recipes import Recipe
from wsx.training.samplers.extremes import extremes
from wsx.training.sampling import ArchSampler


def digits_cost(arch):
    """As a number is large: earlier decisions weigh more."""
    return Cost(int("".join(map(str, arch))), 0)


def sandwich(space, cost_of=digits_cost, *, seed=7, **recipe):
    return ArchSampler(space, Recipe(sampler="sandwich", **recipe), seed=seed, cost_of=cost_of)


def test_a_step_has_the_largest_the_smallest_and_random_archs():
    sampler, n_steps = sandwich(Uneven(2, 3, 6), n_paths=2), 2000
    steps = [sampler[step] for step in range(n_steps)]
    assert {tuple(archs[:2]) for archs in steps} == {((1, 2, 5), (0, 0, 0))}
    assert {len(archs) for archs in steps} == {4}
    between = Counter(arch for archs in steps for arch in archs[2:])
    assert len(between) == 36
    assert_within_5_sigma(list(between.values()), 2 * n_steps, 1 / 36)


def test_a_step_depends_on_seed_and_step_alone():
    steps = [sandwich(Uneven(2, 3, 6), n_paths=3)[step] for step in range(20)]
    one = sandwich(Uneven(2, 3, 6), n_paths=3)
    for step in (19, 3, 3, 0, 7):
        assert one[step] == steps[step]
    assert [sandwich(Uneven(2, 3, 6), n_paths=3, seed=8)[s] for s in range(20)] != steps


def test_parallel_ranks_share_the_extremes_only():
    sampler = sandwich(NASBENCH201, n_ranks=2, parallel_sampling=True, n_paths=3)
    one, other = (sampler.archs(0, rank=rank) for rank in (0, 1))
    assert one[:2] == other[:2]
    assert one[2:] != other[2:]


def test_extremes_are_those_of_the_measure():
    assert sandwich(Uneven(2, 3, 6), measure="planted")[0][:2] == [(1, 2, 3), (0, 1, 5)]


def test_extremes_of_nasbench201_are_those_of_all_its_archs():
    macro = {"channels": 3, "cells": 1, "n_classes": 10, "in_channels": 1, "image_size": 8}
    cost_of = functools.cache(cost_of_archs(build_supernet("nasbench201", macro, seed=0)))
    params = {arch: cost_of(arch).params for arch in NASBENCH201.population("reachable")}
    for measure in ("encodings", "reachable"):
        largest, smallest = extremes(NASBENCH201, NASBENCH201.population(measure), cost_of)
        assert params[largest] == max(params.values())
        assert params[smallest] == min(params.values())
        assert largest == (3,) * 6


def test_extremes_of_proxylessnas_are_found_by_climbing():
    space, rng = SPACES["proxylessnas"], np.random.default_rng(0)
    cost_of = lambda arch: space.cost(arch, space.reference_macro)  # noqa: E731
    largest, smallest = extremes(space, None, cost_of)
    assert space.format(largest) == "5555-5555-5555-5555-5555-5"
    assert space.format(smallest) == "0666-0666-0666-0666-0666-0"
    others = [cost_of(arch).params for arch in space.sample(200, rng=rng, measure="encodings")]
    assert cost_of(smallest).params < min(others)
    assert max(others) < cost_of(largest).params


@pytest.mark.parametrize("name", ["nasbenchmacro", "cell64"])
def test_a_climb_ends_where_looking_at_all_does(name, monkeypatch):
    space = SPACES[name]
    cost_of = lambda arch: space.cost(arch, space.reference_macro)  # noqa: E731
    monkeypatch.setattr("wsx.training.samplers.extremes.MOST_ENCODINGS", 10**6)
    looked = extremes(space, None, cost_of)
    monkeypatch.setattr("wsx.training.samplers.extremes.MOST_ENCODINGS", 0)
    assert list(map(cost_of, extremes(space, None, cost_of))) == list(map(cost_of, looked))


def test_a_climb_passes_decisions_that_do_not_count_yet(monkeypatch):
    # The second decision counts only where the first is deep; the third is always free.
    monkeypatch.setattr("wsx.training.samplers.extremes.MOST_ENCODINGS", 0)
    cost_of = lambda arch: Cost(10 * arch[0] * (1 + arch[1]) + 1, arch[2])  # noqa: E731
    largest, smallest = extremes(Uneven(4, 3, 2), None, cost_of)
    assert largest == (3, 2, 1)
    assert cost_of(smallest) == Cost(1, 0)


def test_ties_of_params_are_decided_by_multiply_adds_then_by_order():
    cost_of = lambda arch: Cost(arch[0], arch[1])  # noqa: E731
    assert extremes(Uneven(2, 3, 6), None, cost_of) == ((1, 2, 0), (0, 0, 0))


def test_own_spaces_are_measured():
    with isolated_registries():
        space = toy_space("toy-sandwich")
        supernet_of(space)(ToyNet)
        macro = {"n_classes": 3, "in_channels": 2, "image_size": 6}
        supernet = build_supernet(space.name, macro, seed=0)
        before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
        cost_of = cost_of_archs(supernet)
        largest, smallest = extremes(space, None, cost_of)
        # Kernels (width, 2, k, k), scale and shift, and a classifier of three outputs.
        params = {(k, w): 2 * w * k * k + 2 * w + 3 * w + 3 for k in (1, 3) for w in (2, 4)}
        assert space.values(largest) == {"kernel": 3, "width": 4, "activation": "relu"}
        assert space.values(smallest) == {"kernel": 1, "width": 2, "activation": "relu"}
        assert cost_of(largest).params == params[3, 4]
        assert cost_of(smallest).params == params[1, 2]
        for name, tensor in supernet.state_dict().items():
            assert torch.equal(tensor, before[name])


def test_measuring_records_in_evaluation_mode_and_only_where_it_must():
    class Watched(ToyNet):
        def forward(self, x, arch):
            modes.append(self.training)
            y = self.features(x, arch)
            return F.linear(y, self.last.weight[:, : y.shape[1]], self.last.bias)

    modes: list = []
    with isolated_registries():
        space = toy_space("toy-watched")
        supernet_of(space)(Watched)
        macro = {"n_classes": 3, "in_channels": 2, "image_size": 6}
        supernet = build_supernet(space.name, macro, seed=0)
        cost_of = cost_of_archs(supernet)
        ArchSampler(space, Recipe(), seed=0, cost_of=cost_of)
        assert modes == []
        ArchSampler(space, Recipe(sampler="sandwich"), seed=0, cost_of=cost_of)
        assert set(modes) == {False}


def test_what_cannot_be_sandwiched_is_refused(monkeypatch):
    with pytest.raises(OptionError, match="must know what archs of uneven cost"):
        ArchSampler(Uneven(2, 3), Recipe(sampler="sandwich"), seed=0)
    with pytest.raises(OptionError, match="all archs of uneven have 7 params"):
        sandwich(Uneven(2, 3), lambda arch: Cost(7, 9))
    dead = Uneven(2, 3)
    dead.is_reachable = lambda arch: False
    for most in (6, 5):
        monkeypatch.setattr("wsx.training.samplers.extremes.MOST_ENCODINGS", most)
        with pytest.raises(OptionError, match="no arch of uneven has an output"):
            sandwich(dead)


def test_a_large_space_that_is_no_product_is_refused(monkeypatch):
    space = Refusing(2, 3, 4)
    monkeypatch.setattr("wsx.training.samplers.extremes.MOST_ENCODINGS", 3)
    with pytest.raises(OptionError, match="of 20 encodings, and uneven refuses some combinations"):
        sandwich(space)
