"""WSBN: BatchNorm layers of their own for every input that an operation can read.

What an operation reads depends on the arch where its weights are shared, and with it the statistics. With this
heuristic of Yu et al. (arXiv 2003.04276) scale, shift and running averages are not shared: there is a layer for
every set of vertices that feed an operation (NAS-Bench-101), or for every node that it may read (cells with
operations on edges).
"""

from collections.abc import Callable, Iterable

from torch import nn


def norm_per_input(make: Callable[[], nn.Module], inputs: Iterable[int] | None) -> nn.Module:
    """Return a BatchNorm layer for each input, or one for all of them.

    Args:
        make: Makes one.
        inputs: Numbers of the inputs; None for a layer that all share.
    """
    return make() if inputs is None else nn.ModuleDict({str(i): make() for i in inputs})


def norm_of(norm: nn.Module, number: int) -> nn.Module:
    """Return the layer of an input, by its number, among those that ``norm_per_input`` made."""
    return norm[str(number)] if isinstance(norm, nn.ModuleDict) else norm
