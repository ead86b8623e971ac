"""The contract of a training step: it changes the elements that its arch uses, and no others.

Which elements an arch uses is found without ``shared_slice``: the arch is recorded with gradients on, and random
gradients of the weights that its nodes read are carried back to the parameters they were taken from.
"""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from wsx.contracts._base import Figures, Subject
from wsx.contracts.cover import BreachError
from wsx.contracts.norms import run
from wsx.exporters.recorder import Recorder, weight_file
from wsx.spaces import Arch
from wsx.supernets import Supernet, seeded
from wsx.supernets.slicing import untouched_outside_slices

Elements = dict[str, torch.Tensor]
"""Truth values for each element of a parameter or buffer, by name."""


class _Spy(Recorder):
    """Keeps the tensors that nodes read."""

    def weight_name(self, tensor: torch.Tensor) -> str:
        """Return the name of a weight, and keep it."""
        name = super().weight_name(tensor)
        self.__dict__.setdefault("tensors", {})[name] = tensor
        return name


class _WithGradients(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor, arch: Arch) -> Any:
        with torch.enable_grad():
            return self.net(x, arch)


class UsedElements:
    """Finds which elements of a supernet's parameters and buffers an arch uses.

    Args:
        supernet: Copied; only how weights are taken matters, not what they are.
        generator: Of the random gradients.
    """

    def __init__(self, supernet: Supernet, generator: torch.Generator) -> None:
        net = copy.deepcopy(supernet)
        self._leaves = {name: tensor.requires_grad_() for name, tensor in _state(net).items()}
        self._model = _WithGradients(net).eval()
        self._weights = weight_file(self._model)
        self._shape = supernet.options.input_shape
        self._generator = generator

    def __call__(self, arch: Arch) -> tuple[Elements, Elements]:
        """Return which elements reach the output, and which are read at all, on dead ends too.

        Raises:
            BreachError: A parameter is used where no gradient reaches it.
        """
        spy = _Spy(self._model, self._weights, self._shape)
        live = set(spy.record(arch).weight_names())
        tensors: dict[str, torch.Tensor] = spy.__dict__.get("tensors", {})
        _refuse_detached(arch, tensors.values(), self._leaves)
        return (
            _sources([t for n, t in tensors.items() if n in live], self._leaves, self._generator),
            _sources(list(tensors.values()), self._leaves, self._generator),
        )


def _state(net: nn.Module) -> dict[str, torch.Tensor]:
    state = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


def _refuse_detached(
    arch: Arch, tensors: Iterable[torch.Tensor], leaves: dict[str, torch.Tensor]
) -> None:
    names = {leaf.untyped_storage().data_ptr(): name for name, leaf in leaves.items()}
    for tensor in tensors:
        name = names.get(tensor.untyped_storage().data_ptr())
        if name is not None and not tensor.requires_grad:
            raise BreachError(f"it uses {name} detached, so that no step trains it", arch)


def _sources(
    outputs: list[torch.Tensor], leaves: dict[str, torch.Tensor], generator: torch.Generator
) -> Elements:
    outputs = [t for t in outputs if t.requires_grad]
    gradients = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in outputs]
    found = torch.autograd.grad(
        outputs, list(leaves.values()), gradients, allow_unused=True, retain_graph=True
    )
    return {
        name: torch.zeros_like(leaf, dtype=torch.bool) if g is None else g != 0
        for (name, leaf), g in zip(leaves.items(), found, strict=True)
    }


def one_step_one_arch(subject: Subject) -> Figures:
    """A step of SGD with momentum and weight decay on an arch changes just the weights that the arch uses.

    Running averages may also change where the arch reads them on a dead end.
    """
    net, generator = copy.deepcopy(subject.double).train(), subject.generator()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    used, inputs, shares = UsedElements(net, generator), subject.inputs(), []
    for arch in subject.archs:
        before = {name: tensor.detach().clone() for name, tensor in _state(net).items()}
        with subject.checking(arch):
            live, read = used(arch)
            _step(net, arch, inputs, optimizer, subject.seed)
        moved = {name: tensor != before[name] for name, tensor in _state(net).items()}
        _compare(arch, moved, live, read, trained)
        n_all = sum(mask.numel() for mask in moved.values())
        shares.append(sum(int(mask.sum()) for mask in moved.values()) / n_all)
    return {
        "archs": len(shares),
        "smallest share of elements moved": min(shares),
        "largest": max(shares),
    }


def _step(
    net: Supernet,
    arch: Arch,
    inputs: list[torch.Tensor],
    optimizer: torch.optim.Optimizer,
    seed: int,
) -> None:
    optimizer.zero_grad(set_to_none=True)
    # Dropout, where there is any, draws from torch's own generator.
    with seeded(seed):
        logits = run(net, arch, inputs)
    labels = torch.arange(len(logits)) % logits.shape[1]
    loss = F.cross_entropy(logits, labels)
    if not bool(torch.isfinite(loss)):
        raise BreachError(f"the loss is {loss.item()} after a few steps", arch)
    loss.backward()  # type: ignore[no-untyped-call]
    with untouched_outside_slices(optimizer, net.parameters()):
        optimizer.step()


def _compare(
    arch: Arch, moved: Elements, live: Elements, read: Elements, parameters: set[str]
) -> None:
    for name, mask in moved.items():
        outside = mask & ~(live if name in parameters else read)[name]
        if bool(outside.any()):
            raise BreachError(
                f"a step moves {int(outside.sum())} elements of {name} that the arch does not use; "
                "take slices of shared weights by shared_slice",
                arch,
            )
        left = live[name] & ~mask
        if name in parameters and bool(left.any()):
            raise BreachError(
                f"a step leaves {int(left.sum())} elements of {name} that the arch uses; every use of a "
                "parameter that is sliced anywhere goes through shared_slice, and none is detached",
                arch,
            )
