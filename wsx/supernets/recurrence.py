"""A cell applied along time: a loop in PyTorch, one operator where it is recorded."""

from collections.abc import Callable

import torch
from torch.overrides import handle_torch_function, has_torch_function

Cell = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From an input (stream, feature) and a hidden state (stream, unit) to the next hidden state."""


def recurrence(
    cell: Cell, xs: torch.Tensor, hidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the hidden states after each input, and the last of them.

    Recorded, it is one ONNX ``Scan`` whose body is the cell, recorded once.

    Args:
        cell: One step. It may use weights, and nothing else that depends on the input.
        xs: Inputs, shape (stream, time, feature); at least one in time.
        hidden: State before the first input, shape (stream, unit).

    Returns:
        States (stream, time, unit) and the last one (stream, unit).
    """
    if has_torch_function((xs, hidden)):
        recorded: tuple[torch.Tensor, torch.Tensor] = handle_torch_function(
            recurrence, (xs, hidden), cell, xs, hidden
        )
        return recorded
    states = []
    for x in xs.unbind(1):
        hidden = cell(x, hidden)
        states.append(hidden)
    return torch.stack(states, 1), hidden
