import itertools

import numpy as np
import torch

from wsx.data import load_data
from wsx.spaces.nasbench201 import EDGES, NASBENCH201, OPERATIONS
from wsx.supernets import build_supernet
from wsx.training.augment import Batches
from wsx.training.loop import Trainer
from wsx.training.recipes import Recipe

# Edges 0->1, 0->2, 1->2, 0->3, 1->3, 2->3; options none, skip, conv 1x1, conv 3x3, pool.
ALL_3X3 = (3, 3, 3, 3, 3, 3)
MIXED = (2, 3, 1, 4, 2, 3)
DEAD_ENDS = (3, 0, 2, 3, 0, 0)  # 0->1 and 1->2 are chosen, and reach no output
UNREACHABLE = (0, 0, 3, 0, 2, 3)
ARCHS = (ALL_3X3, MIXED, DEAD_ENDS, UNREACHABLE, (1, 1, 1, 1, 1, 1), (2, 2, 2, 2, 2, 2))


def make_trainer(archs, *, decays_all=False):
    """A trainer whose step ``i`` visits ``archs[i]`` alone."""
    recipe = Recipe(
        epochs=1, batch_size=8, lr=0.1, crop_padding=1, clip=0.0, weight_decay=1e-2, n_paths=1
    )
    images = load_data("digits", n_train=8 * len(archs), n_valid=20, n_test=20).train
    macro = {"channels": 2, "cells": 2, "in_channels": 1, "image_size": 8}
    model = build_supernet("nasbench201", macro, seed=5)
    rng = np.random.default_rng(5)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.data = torch.from_numpy(
                rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)
            )
        assert parameter.abs().min() > 0, name
    batches = Batches(images, recipe, seed=5, device=torch.device("cpu"))
    trainer = Trainer(
        model, lambda step: [lambda x: model(x, archs[step])], batches, recipe, seed=5
    )
    if decays_all:
        break_optimizer(trainer)
    return trainer


def break_optimizer(trainer):
    # What `zero_grad(set_to_none=False)` does: a gradient of zeros is decayed and carried on.
    optimizer = trainer._optimizer
    zero_grad = optimizer.zero_grad
    for parameter in trainer.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.zero_grad = lambda *, set_to_none: zero_grad(set_to_none=False)


def owned_edge(name):
    """(edge, operation) that a tensor's name belongs to, None outside the cells."""
    parts = name.split(".")
    if "edges" not in parts:
        return None
    place = parts.index("edges")
    return int(parts[place + 1]), parts[place + 2]


def live_edges(arch):
    """Edges on a path from input to output, by listing all paths."""
    live = set()
    for length in (1, 2, 3):
        for path in itertools.permutations(range(len(EDGES)), length):
            ends = [0, *(EDGES[edge][1] for edge in path)]
            joins = all(EDGES[edge][0] == end for edge, end in zip(path, ends, strict=False))
            if joins and ends[-1] == 3 and all(arch[edge] for edge in path):
                live.update(path)
    return live


def violations(before, after, arch):
    """Names of tensors that a step on an arch changed or left against law 2."""
    wrong, live = [], live_edges(arch)
    for name, tensor in after.items():
        if name == "sums":
            continue
        old = before.get(name)
        is_changed = old is None or not torch.equal(old, tensor)
        owner = owned_edge(name)
        is_outside = owner is not None and OPERATIONS[arch[owner[0]]] != owner[1]
        must_change = owner is not None and not is_outside and owner[0] in live
        if (is_outside and is_changed) or (must_change and not is_changed):
            wrong.append(name)
    return wrong


def steps_of(trainer, archs):
    before = {name: tensor.clone() for name, tensor in trainer.state().items()}
    for arch, _ in zip(archs, trainer.run(), strict=True):
        after = {name: tensor.clone() for name, tensor in trainer.state().items()}
        yield before, after, arch
        before = after


def test_a_step_changes_its_slice_and_nothing_else():
    archs = [*ARCHS, *ARCHS[::-1]]
    for before, after, arch in steps_of(make_trainer(archs), archs):
        assert violations(before, after, arch) == [], NASBENCH201.format(arch)


def test_momentum_of_another_arch_rests():
    archs = [ALL_3X3, (2, 2, 2, 2, 2, 2)]
    (_, first, _), (_, second, _) = steps_of(make_trainer(archs), archs)
    momenta = [name for name in first if name.startswith("momentum.") and "nor_conv_3x3" in name]
    assert len(momenta) == 3 * 2 * 6 * 3
    assert all(torch.equal(first[name], second[name]) for name in momenta)
    assert all(first[name].abs().max() > 0 for name in momenta)


def test_batchnorm_averages_outside_the_slice_rest():
    archs = [ALL_3X3]
    ((before, after, _),) = steps_of(make_trainer(archs), archs)
    for name in after:
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            is_inside = "nor_conv_1x1" not in name
            assert torch.equal(before[name], after[name]) is not is_inside, name


def test_the_check_sees_an_optimiser_that_decays_everything():
    archs = [ALL_3X3]
    ((before, after, arch),) = steps_of(make_trainer(archs, decays_all=True), archs)
    assert any("nor_conv_1x1" in name for name in violations(before, after, arch))


def test_the_check_sees_a_step_that_never_happened():
    trainer = make_trainer([ALL_3X3])
    state = {name: tensor.clone() for name, tensor in trainer.state().items()}
    assert any("nor_conv_3x3" in name for name in violations(state, state, ALL_3X3))


def test_two_archs_in_one_step_change_the_union_of_their_slices():
    trainer = make_trainer([ALL_3X3])
    trainer._passes = lambda step: [
        lambda x: trainer.model(x, ALL_3X3),
        lambda x: trainer.model(x, (2, 3, 3, 3, 3, 3)),
    ]
    ((before, after, _),) = steps_of(trainer, [ALL_3X3])
    changed = {
        owned_edge(name)
        for name in before
        if name.startswith("weight.") and not torch.equal(before[name], after[name])
    }
    assert changed - {None} == {
        *((edge, "nor_conv_3x3") for edge in range(6)),
        (0, "nor_conv_1x1"),
    }
