"""Blocks whose call can be learnt once: what makes recording thousands of subnets fast."""

import functools
from typing import Any, TypeVar

import torch
from torch import nn

Block = TypeVar("Block", bound=type[nn.Module])


def pure(block: Block) -> Block:
    """Declare that a block's output depends on its arguments, its weights and its mode alone.

    Recording then runs the block once per shape of its inputs and choice of its options, and repeats the nodes
    it added from there on. A block that reads an attribute which changes from arch to arch is not pure: pass
    the value as an argument (numbers, texts and tuples of ints). Tensors pass through as ever.
    """
    forward = block.forward

    @functools.wraps(forward)
    def remembered(self: nn.Module, x: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return forward(self, x, *args, **kwargs)
        # A symbol of a recording, see `wsx.exporters.recorder`.
        return x.trace.call_block(self, forward, (x, *args), kwargs)

    block.forward = remembered
    return block
