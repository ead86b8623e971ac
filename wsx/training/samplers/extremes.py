"""The largest and the smallest arch of a space."""

from collections.abc import Callable, Sequence

from wsx.errors import OptionError
from wsx.spaces import Arch, Space
from wsx.training.samplers._base import CostOf

MOST_ENCODINGS = 4096
"""Encodings that are all looked at; of more, a product space is climbed."""

Size = tuple[int, int]


def extremes(space: Space, listed: Sequence[Arch] | None, cost_of: CostOf) -> tuple[Arch, Arch]:
    """Return the archs with most and with fewest params, ties decided by multiply-adds, then by order.

    Only archs whose output depends on their input count. Where archs are listed, or are few, all are looked at. In
    larger product spaces one decision after another takes its best option until none changes, which is exact where
    the dearer of two options is so whatever the other decisions are.

    Args:
        space: The space.
        listed: The archs to choose from; None for all encodings.
        cost_of: What an arch costs.

    Raises:
        OptionError: All archs are of one size, none depends on its input, or the space is too large to be looked
            through and no product.
    """

    def size(arch: Arch) -> Size:
        cost = cost_of(arch)
        return cost.params, cost.flops

    def smallness(arch: Arch) -> Size:
        params, flops = size(arch)
        return -params, -flops

    if listed is None and space.n_archs > MOST_ENCODINGS:
        largest, smallest = _climb(space, size), _climb(space, smallness)
    else:
        archs = filter(space.is_reachable, space.enumerate() if listed is None else listed)
        sizes = {arch: size(arch) for arch in archs}
        if not sizes:
            raise _none_reachable(space)
        largest, smallest = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
    if size(largest) == size(smallest):
        raise OptionError(
            f"sampler sandwich trains the largest and the smallest arch, and all archs of {space.name} have "
            f"{size(largest)[0]:,} params here; use sampler uniform"
        )
    return largest, smallest


def _climb(space: Space, score: Callable[[Arch], Size]) -> Arch:
    """Return an arch that no single other option improves; an option that is as good changes nothing."""
    if not space.is_product:
        raise OptionError(
            f"sampler sandwich looks for the largest and the smallest of {space.n_archs:,} encodings, and "
            f"{space.name} refuses some combinations of options; choose a measure that lists its archs"
        )
    arch = next(filter(space.is_reachable, space.enumerate()), None)
    if arch is None:
        raise _none_reachable(space)
    while True:
        best = arch
        for place, options in enumerate(space.allowed_options):
            changed = [(*best[:place], option, *best[place + 1 :]) for option in options]
            best = max([best, *filter(space.is_reachable, changed)], key=score)
        if best == arch:
            return arch
        arch = best


def _none_reachable(space: Space) -> OptionError:
    return OptionError(f"no arch of {space.name} has an output that depends on its input")
