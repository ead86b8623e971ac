import math
from collections import Counter

import numpy as np
import pytest
import torch

from wsx.data import load_data
from wsx.errors import OptionError, UnknownNameError
from wsx.spaces import SPACES, Cost, Decision, Space
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.spaces.restricted import restricted
from wsx.supernets import build_supernet
from wsx.training.augment import Batches
from wsx.training.loop import MOMENTUM_PREFIX, Trainer
from wsx.training.recipes import Recipe
from wsx.training.samplers import SAMPLERS
from wsx.training.sampling import ArchSampler

PLANTED = [(0, 1, 5), (1, 0, 0), (1, 2, 3)]


class Uneven(Space):
    name = "uneven"
    summary = "decisions that differ in how many options they have"

    def __init__(self, *n_options):
        self._n = n_options

    @property
    def decisions(self):
        return tuple(
            Decision(f"d{place}", tuple(f"o{option}" for option in range(n)))
            for place, n in enumerate(self._n)
        )

    @property
    def measures(self):
        return {"encodings": lambda: None, "planted": lambda: PLANTED}

    def format(self, arch):
        return "-".join(map(str, self.check(arch)))

    def parse(self, text):
        return self.check(tuple(int(part) for part in text.split("-")))

    def cost(self, arch, macro):
        return Cost(0, 0)


def draw(space, n_steps, **recipe):
    sampler = ArchSampler(space, Recipe(**recipe), seed=7)
    return [sampler[step] for step in range(n_steps)]


def assert_within_5_sigma(counts, n, p):
    p = np.asarray(p)
    assert np.all(np.abs(np.asarray(counts) - n * p) <= 5 * np.sqrt(n * p * (1 - p)))


def test_uniform_over_all_encodings():
    steps = draw(Uneven(2, 3, 6), 1500, n_paths=4)
    assert all(len(archs) == 4 for archs in steps)
    counts = Counter(arch for archs in steps for arch in archs)
    assert len(counts) == 36
    assert_within_5_sigma(list(counts.values()), 6000, 1 / 36)


def test_uniform_over_a_planted_measure():
    counts = Counter(
        arch for archs in draw(Uneven(2, 3, 6), 3000, measure="planted") for arch in archs
    )
    assert sorted(counts) == PLANTED
    assert_within_5_sigma(list(counts.values()), 3000, 1 / 3)


def test_uniform_over_a_list(tmp_path):
    space = Uneven(2, 3, 6)
    path = tmp_path / "archs.txt"
    # An arch that stands twice in the list is one arch.
    path.write_text("\n".join(space.format(arch) for arch in [*PLANTED, PLANTED[0]]))
    steps = draw(space, 3000, measure=f"list:{path}")
    counts = Counter(arch for archs in steps for arch in archs)
    assert sorted(counts) == PLANTED
    assert_within_5_sigma(list(counts.values()), 3000, 1 / 3)


def test_paths_of_a_step_are_independent():
    steps = draw(Uneven(2, 3, 6), 2500, n_paths=2, measure="planted")
    counts = Counter(map(tuple, steps))
    assert len(counts) == 9
    assert_within_5_sigma(list(counts.values()), 2500, 1 / 9)


@pytest.mark.parametrize("measure", ["encodings", "reachable", "functions"])
def test_each_measure_of_nasbench201_has_its_own_frequencies(measure):
    population = NASBENCH201.population(measure) or list(NASBENCH201.enumerate())
    archs = [arch for step in draw(NASBENCH201, 4000, n_paths=2, measure=measure) for arch in step]
    assert set(archs) <= set(population)
    assert len(set(archs)) > 4000
    drawn, listed = np.array(archs), np.array(population)
    for option in range(5):
        expected = (listed == option).mean(axis=0)
        assert_within_5_sigma((drawn == option).sum(axis=0), len(archs), expected)


def test_the_measures_differ_enough_to_be_told_apart():
    shares = {
        measure: np.mean(
            [a[0] == 0 for a in NASBENCH201.population(measure) or NASBENCH201.enumerate()]
        )
        for measure in NASBENCH201.measures
    }
    sigma = np.sqrt(0.2 * 0.8 / 8000)
    assert abs(shares["encodings"] - shares["functions"]) > 10 * sigma


def test_unknown_measure_suggests():
    with pytest.raises(UnknownNameError, match="Did you mean reachable"):
        draw(NASBENCH201, 1, measure="reachabel")


def test_fair_uses_each_option_of_each_decision_once():
    for archs in draw(NASBENCH201, 300, sampler="fair"):
        assert len(archs) == 5
        assert all(sorted(column) == [0, 1, 2, 3, 4] for column in zip(*archs, strict=True))


def test_fair_uses_options_equally_where_decisions_differ():
    for archs in draw(Uneven(2, 3, 6, 1), 300, sampler="fair"):
        uses = [Counter(column) for column in zip(*archs, strict=True)]
        assert uses == [
            {0: 3, 1: 3},
            {0: 2, 1: 2, 2: 2},
            dict.fromkeys(range(6), 1),
            {0: 6},
        ]


def test_fair_shares_out_what_does_not_divide_evenly():
    n_steps = 2000
    steps = draw(Uneven(2, 5), n_steps, sampler="fair")
    uses = [Counter(arch[0] for arch in archs)[0] for archs in steps]
    assert set(uses) == {2, 3}
    assert_within_5_sigma(uses.count(3), n_steps, 1 / 2)


def test_fair_arranges_repeated_options_at_random():
    # Of the six arrangements of two zeros and two ones, two agree in the first and third place.
    steps = draw(Uneven(2, 4), 2000, sampler="fair")
    n_equal = sum(archs[0][0] == archs[2][0] for archs in steps)
    assert_within_5_sigma(n_equal, 2000, 1 / 3)


def test_fair_decisions_are_independent_and_order_is_free():
    n_steps = 3000
    first = [archs[0] for archs in draw(Uneven(5, 5), n_steps, sampler="fair")]
    counts = Counter(first)
    assert len(counts) == 25
    assert_within_5_sigma(list(counts.values()), n_steps, 1 / 25)


class Narrowed(Uneven):
    """A space restricted to some options."""

    def __init__(self, *allowed):
        super().__init__(*(max(options) + 1 for options in allowed))
        self._allowed = allowed

    @property
    def allowed_options(self):
        return self._allowed

    @property
    def n_archs(self):
        return math.prod(map(len, self._allowed))

    def is_valid(self, arch):
        return all(option in allowed for option, allowed in zip(arch, self._allowed, strict=True))


def test_fair_uses_the_allowed_options_of_a_restricted_space():
    for archs in draw(Narrowed((1, 3), (2,), (0, 1, 4, 5)), 300, sampler="fair"):
        uses = [Counter(column) for column in zip(*archs, strict=True)]
        assert uses == [{1: 2, 3: 2}, {2: 4}, dict.fromkeys((0, 1, 4, 5), 1)]


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_every_sampler_keeps_to_a_restriction(sampler):
    space = restricted(NASBENCH201, {"0->1": ["nor_conv_1x1"], "2->3": ["none", "nor_conv_3x3"]})
    recipe = Recipe(sampler=sampler, measure="reachable", n_paths=2)
    archs = ArchSampler(space, recipe, seed=7, cost_of=lambda arch: Cost(sum(arch), 0))
    seen = {arch for step in range(60) for arch in archs[step]}
    assert {arch[0] for arch in seen} == {2}
    assert {arch[5] for arch in seen} == {0, 3}
    assert len({arch[1:5] for arch in seen}) > 10


class Refusing(Uneven):
    """The first decision must not exceed the second; the third is free of both."""

    def is_valid(self, arch):
        return arch[0] <= arch[1]

    @property
    def n_archs(self):
        return sum(self.is_valid(arch) for arch in np.ndindex(*self.n_options))

    def draw(self, *, rng, measure):
        while True:
            arch = tuple(int(rng.integers(n)) for n in self.n_options)
            if self.is_valid(arch):
                return arch


def test_fair_refuses_a_space_that_is_no_product():
    with pytest.raises(OptionError, match=r"uneven refuses some combinations.*fair_decisions"):
        draw(Refusing(2, 3, 4), 1, sampler="fair")


def test_fair_decisions_confine_fairness_and_leave_the_others_drawn():
    n_steps = 1500
    steps = draw(Refusing(2, 3, 4), n_steps, sampler="fair", fair_decisions="d2")
    assert all(sorted(arch[2] for arch in archs) == [0, 1, 2, 3] for archs in steps)
    # Five pairs of the first two decisions are allowed, and each path has one of its own.
    counts = Counter(arch[:2] for archs in steps for arch in archs)
    assert len(counts) == 5
    assert_within_5_sigma(list(counts.values()), 4 * n_steps, 1 / 5)
    n_equal = sum(archs[0][:2] == archs[1][:2] for archs in steps)
    assert_within_5_sigma(n_equal, n_steps, 1 / 5)


def test_fair_decisions_that_depend_on_others_are_refused():
    with pytest.raises(OptionError, match=r"'d1': not every combination.*is an arch of uneven"):
        draw(Refusing(2, 3, 4), 50, sampler="fair", fair_decisions="d1")
    with pytest.raises(OptionError, match="no decision of uneven begins with fair_decisions 'op'"):
        draw(Uneven(2, 3), 1, sampler="fair", fair_decisions="op")


def test_fair_operations_of_nasbench101_as_p1_draws_them():
    space = SPACES["nasbench101-1shot1c"]
    archs = draw(space, 20, sampler="fair", fair_decisions="op")
    for step in archs:
        assert [space.check(arch) for arch in step] == step
        assert len(step) == 3
        for place, decision in enumerate(space.decisions):
            if decision.name.startswith("op"):
                assert sorted(arch[place] for arch in step) == [0, 1, 2]
    assert any(step[0][:21] != step[1][:21] for step in archs)


def gradients(archs, **values):
    """What one step without decay or clipping puts into the momentum: its gradient, in float64."""
    recipe = Recipe(
        **{
            "batch_size": 16,
            "lr": 0.1,
            "weight_decay": 0.0,
            "clip": 0.0,
            "crop_padding": 1,
            "channels_last": False,
            **values,
        }
    )
    images = load_data("digits", n_train=16, n_valid=20, n_test=20).train
    macro = {"channels": 3, "cells": 1, "in_channels": 1, "image_size": 8}
    model = build_supernet("nasbench201", macro, seed=1).double()
    batches = Batches(images, recipe, seed=1, device=torch.device("cpu"))
    trainer = Trainer(
        model,
        lambda step: [lambda x, arch=arch: model(x.double(), arch) for arch in archs],
        batches,
        recipe,
        seed=1,
    )
    next(trainer.run())
    return {
        name: tensor.numpy().copy()
        for name, tensor in trainer.state().items()
        if name.startswith(MOMENTUM_PREFIX)
    }


@pytest.mark.parametrize(("kind", "n"), [("mean", 4), ("sum", 1)])
def test_the_gradient_of_several_paths_is_the_mean_or_the_sum_of_theirs(kind, n):
    archs = [(3, 2, 3, 1, 4, 2), (3, 3, 0, 2, 2, 1), (3, 2, 3, 1, 4, 2), (0, 1, 0, 3, 0, 3)]
    together = gradients(archs, gradients=kind)
    alone = [gradients([arch]) for arch in archs]
    assert set(together) == set().union(*alone)
    largest = 0.0
    for name, gradient in together.items():
        expected = sum(single.get(name, np.zeros_like(gradient)) for single in alone) / n
        # Losses are float32, so their gradients by logits carry 24 bits.
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12)
        largest = max(largest, np.abs(gradient).max())
    assert largest > 0.01


def test_a_summed_gradient_is_clipped_after_summing():
    archs = [(3, 2, 3, 1, 4, 2), (3, 3, 0, 2, 2, 1)]
    whole = gradients(archs, gradients="sum")
    norm = np.sqrt(sum((gradient**2).sum() for gradient in whole.values()))
    clipped = gradients(archs, gradients="sum", clip=norm / 2)
    for name, gradient in whole.items():
        np.testing.assert_allclose(clipped[name], gradient / 2, rtol=1e-5, atol=0)
    # Each alone is short enough for this one.
    longest = max(np.sqrt(sum((g**2).sum() for g in gradients([arch]).values())) for arch in archs)
    assert longest < norm
    shorter = gradients(archs, gradients="sum", clip=longest)
    assert np.sqrt(sum((g**2).sum() for g in shorter.values())) == pytest.approx(longest, rel=1e-5)


def test_fair_as_papers_do_it_sums_the_gradients_of_all_options():
    (archs,) = draw(NASBENCH201, 1, sampler="fair", gradients="sum")
    together = gradients(archs, gradients="sum")
    alone = [gradients([arch]) for arch in archs]
    for name, gradient in together.items():
        expected = sum(single.get(name, np.zeros_like(gradient)) for single in alone)
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12)


def test_an_unknown_kind_of_gradients_suggests():
    with pytest.raises(UnknownNameError, match=r"no gradients named 'sums'. Did you mean sum"):
        Recipe(gradients="sums")
