"""The forward passes of a training step, one for each arch that it visits."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch

from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.cost import subnet_cost
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import Arch, Cost
from wsx.supernets import Supernet
from wsx.training.sampling import ArchSampler

Pass = Callable[[torch.Tensor], torch.Tensor | tuple[torch.Tensor, torch.Tensor]]
"""From images (image, channel, height, width) to logits (image, class), or those and an auxiliary head's."""


@dataclass(frozen=True)
class Teacher:
    """A pass that learns from labels and from whose logits the passes after it learn, on the same images."""

    forward: Pass

    def __call__(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return what the pass returns."""
        return self.forward(x)


def arch_passes(supernet: Supernet, sampler: ArchSampler) -> Callable[[int], list[Pass]]:
    """Return the passes of a supernet by step, rank by rank.

    Where the recipe distils, the first pass of each rank is a teacher.
    """
    recipe = sampler.recipe

    def passes(step: int) -> list[Pass]:
        found: list[Pass] = []
        for rank in range(recipe.n_ranks):
            first, *others = (partial(supernet, arch=a) for a in sampler.archs(step, rank=rank))
            found += [Teacher(first) if recipe.distills else first, *others]
        return found

    return passes


def cost_of_archs(supernet: Supernet) -> Callable[[Arch], Cost]:
    """Return what archs cost: by the space's formula, or measured on subnets recorded in evaluation mode."""
    recorder = cache(lambda: SubnetRecorder(supernet.eval(), BatchNormMode("batch")))

    def cost_of(arch: Arch) -> Cost:
        known = supernet.space.cost(arch, supernet.macro())
        return subnet_cost(recorder(), arch) if known is None else known

    return cost_of
