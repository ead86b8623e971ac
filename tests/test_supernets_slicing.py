import pytest
import torch
from torch import nn

from wsx.supernets.blocks import DropPath, set_drop_path
from wsx.supernets.slicing import shared_slice, untouched_outside_slices

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
}


def step(optimizer, parameter, index, x, *, is_guarded=True):
    optimizer.zero_grad(set_to_none=True)
    (shared_slice(parameter, index) * x).square().sum().backward()
    if is_guarded:
        with untouched_outside_slices(optimizer, [parameter]):
            optimizer.step()
    else:
        optimizer.step()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_step_changes_the_slice_as_a_parameter_of_its_own_would_and_nothing_else(kind):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, 3, generator=generator)
    shared, alone = nn.Parameter(start.clone()), nn.Parameter(start[:2].clone())
    optimizers = [OPTIMIZERS[kind]([p]) for p in (shared, alone)]
    for x in (1.0, -2.0, 3.0):
        step(optimizers[0], shared, slice(0, 2), x)
        step(optimizers[1], alone, ..., x)
    assert torch.equal(shared[2:], start[2:])
    torch.testing.assert_close(shared[:2], alone, rtol=0, atol=0)


def test_without_the_guard_momentum_and_decay_do_move_the_rest():
    shared = nn.Parameter(torch.ones(4))
    step(OPTIMIZERS["sgd"]([shared]), shared, slice(0, 2), 1.0, is_guarded=False)
    assert not torch.equal(shared[2:], torch.ones(2))


def test_momentum_of_one_slice_waits_while_another_is_trained():
    shared = nn.Parameter(torch.ones(4))
    optimizer = OPTIMIZERS["sgd"]([shared])
    step(optimizer, shared, slice(0, 2), 1.0)
    momentum = optimizer.state[shared]["momentum_buffer"].clone()
    step(optimizer, shared, slice(2, 4), 1.0)
    assert torch.equal(optimizer.state[shared]["momentum_buffer"][:2], momentum[:2])
    assert not torch.equal(optimizer.state[shared]["momentum_buffer"][2:], momentum[2:])


def test_slices_of_one_step_are_joined_and_index_tensors_work():
    shared = nn.Parameter(torch.ones(5))
    optimizer = OPTIMIZERS["sgd"]([shared])
    optimizer.zero_grad()
    (
        shared_slice(shared, slice(0, 1)).sum() + shared_slice(shared, torch.tensor([3])).sum()
    ).backward()
    with untouched_outside_slices(optimizer, [shared]):
        optimizer.step()
    assert (shared != 1).tolist() == [True, False, False, True, False]


def test_a_parameter_of_which_no_slice_was_taken_is_left_to_the_optimiser():
    whole = nn.Parameter(torch.ones(3))
    optimizer = OPTIMIZERS["sgd"]([whole])
    whole.sum().backward()
    with untouched_outside_slices(optimizer, [whole]):
        optimizer.step()
    assert bool((whole != 1).all())


def test_drop_path_zeroes_whole_images_and_keeps_the_mean():
    torch.default_generator.manual_seed(0)
    layer = nn.Sequential(DropPath())
    set_drop_path(layer, 0.25)
    x = torch.ones(20_000, 2, 1)
    y = layer.train()(x)
    assert torch.equal(y[:, 0], y[:, 1])
    assert y.unique().tolist() == pytest.approx([0.0, 4 / 3], abs=1e-6, rel=0)
    # 20,000 coins of 1/4: five standard errors of the mean are .021.
    assert abs(float(y.mean()) - 1) < 0.021
    assert torch.equal(layer.eval()(x), x)
