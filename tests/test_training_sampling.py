from collections import Counter

import numpy as np
import pytest
import torch

from wsx.data import load_data
from wsx.errors import UnknownNameError
from wsx.spaces import Cost, Decision, Space
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.supernets import build_supernet
from wsx.training.augment import Batches
from wsx.training.loop import MOMENTUM_PREFIX, Trainer
from wsx.training.recipes import Recipe
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


def gradients(archs):
    """What one step without decay or clipping puts into the momentum: its gradient, in float64."""
    recipe = Recipe(
        batch_size=16, lr=0.1, weight_decay=0.0, clip=0.0, crop_padding=1, channels_last=False
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


def test_the_gradient_of_several_paths_is_the_mean_of_their_gradients():
    archs = [(3, 2, 3, 1, 4, 2), (3, 3, 0, 2, 2, 1), (3, 2, 3, 1, 4, 2), (0, 1, 0, 3, 0, 3)]
    together = gradients(archs)
    alone = [gradients([arch]) for arch in archs]
    assert set(together) == set().union(*alone)
    largest = 0.0
    for name, gradient in together.items():
        expected = sum(single.get(name, np.zeros_like(gradient)) for single in alone) / 4
        # Losses are float32, so their gradients by logits carry 24 bits.
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12)
        largest = max(largest, np.abs(gradient).max())
    assert largest > 0.01
