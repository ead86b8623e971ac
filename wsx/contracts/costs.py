"""Contracts of what a subnet costs."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from wsx.contracts._base import Figures, Subject
from wsx.contracts.cover import BreachError
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.cost import subnet_cost
from wsx.exporters.extract import extract
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import Arch

N_DRAWN, N_EXACT = 200, 5
WITH_BIAS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def n_parameters(module: nn.Module) -> int:
    """Return the number of a module's parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def n_multiply_adds(module: nn.Module, inputs: list[torch.Tensor]) -> tuple[int, int]:
    """Return the multiply-adds of a module, counted while it runs: products by torch, biases by hooks."""
    biases: list[int] = []

    def count(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        if layer.bias is not None:
            biases.append(output.numel())

    layers = [layer for layer in module.modules() if isinstance(layer, WITH_BIAS)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    for hook in hooks:
        hook.remove()
    return int(counter.get_total_flops()) // 2, sum(biases)


def same_cost(subject: Subject) -> Figures:
    """Params are those of the extracted subnet, fresh or trained, and multiply-adds those it makes."""
    archs = _exact_archs(subject)
    recorder = SubnetRecorder(subject.supernet, BatchNormMode("batch"))
    fresh, inputs = subject.make().eval(), [t.float() for t in subject.inputs(1)]
    params, flops = [], []
    for arch in archs:
        with subject.checking(arch):
            said, module = subnet_cost(recorder, arch), extract(subject.supernet, arch)
            n_params, (products, biases) = n_parameters(module), n_multiply_adds(module, inputs)
            n_fresh = n_parameters(extract(fresh, arch))
        # Tables of truth differ in whether a bias counts; a space states what its own does.
        n_flops = products if said.flops == products else products + biases
        _compare(arch, (said.params, said.flops), (n_params, n_flops), n_fresh)
        params.append(said.params)
        flops.append(said.flops)
    return {
        "archs": len(archs),
        "params": [min(params), max(params)],
        "flops": [min(flops), max(flops)],
    }


def _exact_archs(subject: Subject) -> list[Arch]:
    """Return the archs whose cost counts just what reaches the output, with a few that are drawn."""
    space, rng = subject.space, np.random.default_rng([subject.seed, 10])
    measure = next(iter(space.measures))
    drawn = [space.draw(rng=rng, measure=measure) for _ in range(N_DRAWN)]
    exact = [arch for arch in drawn if space.is_cost_exact(arch)][:N_EXACT]
    exact += [arch for arch in subject.archs if space.is_cost_exact(arch)]
    if not exact:
        raise BreachError(f"is_cost_exact holds for none of {N_DRAWN} archs")
    return list(dict.fromkeys(exact))


def _compare(arch: Arch, said: tuple[int, int], found: tuple[int, int], n_fresh: int) -> None:
    for name, expected, counted in zip(("params", "flops"), said, found, strict=True):
        if expected != counted:
            raise BreachError(
                f"its {name} are said to be {expected}, and {counted} are counted", arch
            )
    if n_fresh != found[0]:
        raise BreachError(
            f"extracted from a fresh supernet it has {n_fresh} parameters instead of {found[0]}: equal values of "
            "different parameters were taken for one",
            arch,
        )
