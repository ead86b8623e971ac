"""Slices of shared weights, and a training step that changes nothing outside them.

An optimiser moves every element of a parameter that has a gradient: where an arch uses a slice, momentum and
weight decay would go on moving the rest. Slices taken by ``shared_slice`` note on the parameter which elements
the backward pass reached, and ``untouched_outside_slices`` puts all others back after the step.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

_REACHED = "_wsx_reached"
_SOURCE = "_wsx_source"


def shared_slice(weight: torch.Tensor, index: Any) -> torch.Tensor:
    """Return ``weight[index]`` as the part of a shared parameter that an arch uses.

    Every use of a parameter that some archs slice goes through here, also those that take all of it.

    Args:
        weight: A parameter of a supernet.
        index: Anything that indexes a tensor: slices, index tensors, tuples of them; ``...`` takes all.
    """
    part = weight[index]
    if part.requires_grad:
        part.register_hook(partial(_note, weight, index))  # type: ignore[no-untyped-call]
    return part


def computed_from(weight: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """Return what was computed from a shared parameter alone, with a note of which one.

    A slice lies in its parameter's memory; means of fresh norms are ones in memory of their own, and would be one
    weight for all layers of a recorded subnet.
    """
    setattr(part, _SOURCE, weight)
    return part


def source_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return the parameter that a tensor was noted to be computed from, otherwise the tensor."""
    source: torch.Tensor = getattr(tensor, _SOURCE, tensor)
    return source


def take_reached(parameter: torch.Tensor) -> torch.Tensor | None:
    """Return which elements backward passes reached through slices, and forget it; None if no slice was taken."""
    reached: torch.Tensor | None = getattr(parameter, _REACHED, None)
    if reached is not None:
        delattr(parameter, _REACHED)
    return reached


def _note(weight: torch.Tensor, index: Any, gradient: torch.Tensor) -> None:
    reached = getattr(weight, _REACHED, None)
    if reached is None:
        reached = torch.zeros_like(weight, dtype=torch.bool)
        setattr(weight, _REACHED, reached)
    reached[index] = True


@contextmanager
def untouched_outside_slices(
    optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]
) -> Iterator[None]:
    """Undo, after the optimiser's step inside the block, what it did outside the slices in use.

    Parameters of which no slice was taken are left to the optimiser. Restores values and the optimiser's own
    state (momentum) alike, and forgets the slices.
    """
    sliced = [
        (parameter, reached)
        for parameter in parameters
        if (reached := getattr(parameter, _REACHED, None)) is not None
    ]
    saved = [
        [(tensor, tensor.detach().clone()) for tensor in _state(optimizer, parameter)]
        for parameter, _ in sliced
    ]
    yield
    for (parameter, reached), before in zip(sliced, saved, strict=True):
        delattr(parameter, _REACHED)
        known = {id(tensor) for tensor, _ in before}
        with torch.no_grad():
            for tensor, old in before:
                tensor.copy_(torch.where(reached, tensor, old))
            for tensor in _state(optimizer, parameter):
                if id(tensor) not in known:
                    # Momentum that the step created: nothing came before it.
                    tensor.mul_(reached)


def _state(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> list[torch.Tensor]:
    state = optimizer.state.get(parameter, {}).values()
    elementwise = [t for t in state if isinstance(t, torch.Tensor) and t.shape == parameter.shape]
    return [parameter, *elementwise]
