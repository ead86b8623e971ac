from collections import Counter

import numpy as np
import pytest
import torch
from test_training_sampling import Uneven, assert_within_5_sigma
from torch import nn

from wsx.data import load_data
from wsx.errors import OptionError
from wsx.spaces import Cost
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.supernets import build_supernet
from wsx.training import DataSpec, RunConfig
from wsx.training.augment import Batches
from wsx.training.loop import MOMENTUM_PREFIX, Trainer
from wsx.training.passes import arch_passes
from wsx.training.recipes import Recipe
from wsx.training.samplers import SAMPLERS
from wsx.training.sampling import ArchSampler
from wsx.training.standalone import train_alone

PLAIN = {
    "batch_size": 16,
    "lr": 0.1,
    "weight_decay": 0.0,
    "clip": 0.0,
    "crop_padding": 1,
    "channels_last": False,
}
PARALLEL = {"n_ranks": 2, "parallel_sampling": True}


def test_parallel_ranks_draw_independently_and_uniformly():
    sampler = ArchSampler(Uneven(2, 3), Recipe(**PARALLEL), seed=7)
    n_steps = 7200
    counts = Counter(tuple(sampler[step]) for step in range(n_steps))
    assert len(counts) == 36
    assert_within_5_sigma(list(counts.values()), n_steps, 1 / 36)


def test_the_first_rank_draws_what_a_single_process_draws():
    alone = ArchSampler(NASBENCH201, Recipe(n_paths=3), seed=7)
    ranks = ArchSampler(NASBENCH201, Recipe(n_paths=3, **PARALLEL), seed=7)
    for step in range(20):
        assert ranks.archs(step, rank=0) == alone[step]
        assert ranks[step] == [*alone[step], *ranks.archs(step, rank=1)]
        assert ranks.archs(step, rank=1) != alone[step]


@pytest.mark.parametrize("sampler", ["uniform", "fair", "round-robin", "gradual"])
def test_without_parallel_sampling_all_ranks_have_the_same_archs(sampler):
    together = ArchSampler(NASBENCH201, Recipe(sampler=sampler, n_ranks=4), seed=7)
    alone = ArchSampler(NASBENCH201, Recipe(sampler=sampler), seed=7)
    for step in range(10):
        assert together[step] == alone[step] * 4


def test_parallel_fair_ranks_are_fair_each():
    sampler = ArchSampler(NASBENCH201, Recipe(sampler="fair", **PARALLEL), seed=7)
    for step in range(20):
        by_rank = [sampler.archs(step, rank=rank) for rank in (0, 1)]
        for archs in by_rank:
            assert all(sorted(column) == [0, 1, 2, 3, 4] for column in zip(*archs, strict=True))
        assert by_rank[0] != by_rank[1]


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_rank_that_is_not_there_is_refused(rank):
    sampler = ArchSampler(NASBENCH201, Recipe(**PARALLEL), seed=7)
    with pytest.raises(OptionError, match=rf"rank is {rank}; it must lie in 0\.\.1"):
        sampler.archs(0, rank=rank)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_ranks": 0}, "n_ranks is 0; it must be at least 1"),
        ({"n_ranks": 3, "batch_size": 16}, "batch_size is 16, which 3 ranks"),
        ({"parallel_sampling": True}, "parallel_sampling needs ranks"),
    ],
)
def test_impossible_ranks_are_refused(values, message):
    with pytest.raises(OptionError, match=message):
        Recipe(**values)


class Part:
    """Some images of each batch: what one process of several trains on."""

    n_steps_per_epoch = 1

    def __init__(self, batches, part):
        self._batches, self._part = batches, part

    def __getitem__(self, step):
        return tuple(tensor[self._part] for tensor in self._batches[step])


def make_batches(recipe):
    images = load_data("digits", n_train=16, n_valid=20, n_test=20).train
    return Batches(images, recipe, seed=1, device=torch.device("cpu"))


def make_supernet():
    macro = {"channels": 3, "cells": 1, "in_channels": 1, "image_size": 8}
    return build_supernet("nasbench201", macro, seed=1).double()


def first_gradient(recipe, batches, passes_of):
    """What the first step, without decay or clipping, puts into the momentum: its gradient, in float64."""
    model = make_supernet()
    passes = passes_of(model)
    double = lambda step: [lambda x, f=f: f(x.double()) for f in passes(step)]  # noqa: E731
    trainer = Trainer(model, double, batches, recipe, seed=1)
    next(trainer.run())
    return {
        name: tensor.numpy().copy()
        for name, tensor in trainer.state().items()
        if name.startswith(MOMENTUM_PREFIX)
    }


@pytest.mark.parametrize(("kind", "n_paths"), [("mean", 2), ("sum", 2), ("mean", 1)])
def test_ranks_give_the_mean_gradient_of_as_many_processes(kind, n_paths):
    recipe = Recipe(**PLAIN, **PARALLEL, gradients=kind, n_paths=n_paths)
    sampler = ArchSampler(NASBENCH201, recipe, seed=3)
    batches = make_batches(recipe)
    together = first_gradient(recipe, batches, lambda model: arch_passes(model, sampler))
    one = Recipe(**PLAIN, gradients=kind)
    apart = []
    for rank, part in enumerate((slice(8), slice(8, 16))):
        archs = sampler.archs(0, rank=rank)
        passes = lambda m, archs=archs: lambda step: [lambda x, a=a: m(x, a) for a in archs]  # noqa: E731
        apart.append(first_gradient(one, Part(batches, part), passes))
    assert set(together) == set().union(*apart)
    for name, gradient in together.items():
        expected = sum(single.get(name, np.zeros_like(gradient)) for single in apart) / 2
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12)
    assert max(np.abs(gradient).max() for gradient in together.values()) > 0.01


def test_ranks_on_equal_images_are_the_paths_of_one_process():
    recipe = Recipe(**PLAIN, **PARALLEL)
    sampler = ArchSampler(NASBENCH201, recipe, seed=3)
    halves = Part(make_batches(recipe), [*range(8), *range(8)])
    together = first_gradient(recipe, halves, lambda model: arch_passes(model, sampler))
    several = Recipe(**PLAIN, n_paths=2)
    passes = lambda model: lambda step: [lambda x, a=a: model(x, a) for a in sampler[step]]  # noqa: E731
    paths = first_gradient(several, Part(make_batches(several), slice(8)), passes)
    assert set(together) == set(paths)
    for name, gradient in together.items():
        np.testing.assert_allclose(gradient, paths[name], rtol=0, atol=1e-12)


def test_batchnorm_of_a_rank_sees_its_own_images_only():
    recipe = Recipe(**PLAIN, n_ranks=2)
    layer = nn.BatchNorm2d(1, momentum=1.0)
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(64, 10))
    seen = []
    layer.register_forward_hook(lambda module, args, out: seen.append(module.running_mean.clone()))
    batches = make_batches(recipe)
    next(Trainer(model, lambda step: [model] * 2, batches, recipe, seed=1).run())
    x, _ = batches[0]
    assert torch.allclose(seen[0], x[:8].mean(), atol=1e-6, rtol=0)
    assert torch.allclose(seen[1], x[8:].mean(), atol=1e-6, rtol=0)
    assert abs(seen[0] - seen[1]) > 1e-3


def test_passes_that_ranks_cannot_share_are_refused():
    recipe = Recipe(**PLAIN, n_ranks=2)
    for n in (0, 1, 3):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        trainer = Trainer(
            model, lambda step, m=model, n=n: [m] * n, make_batches(recipe), recipe, seed=1
        )
        with pytest.raises(OptionError, match=f"{n} passes of a step.*2 ranks"):
            next(trainer.run())


@pytest.mark.parametrize("sampler", list(SAMPLERS))
@pytest.mark.parametrize("values", [{}, {"n_paths": 2}, {"n_ranks": 2}])
def test_a_recipe_knows_whether_a_step_visits_one_arch(sampler, values):
    recipe = Recipe(sampler=sampler, **values)
    archs = ArchSampler(Uneven(2, 3), recipe, seed=7, cost_of=lambda arch: Cost(sum(arch), 0))
    assert recipe.has_one_arch_per_step == (len(archs[0]) == 1)


def test_a_subnet_alone_is_trained_by_all_ranks():
    recipe = Recipe(epochs=1, batch_size=16, n_ranks=2, supernet={"channels": 2, "cells": 1})
    data = DataSpec("digits", n_train=16, n_valid=20, n_test=20)
    score = train_alone(RunConfig("nasbench201", recipe, data, seed=0), (3,) * 6, seed=0)
    assert score.total == {"valid": 20, "test": 20}
