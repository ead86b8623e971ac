"""Subnets in PyTorch as the tuned loop runs them: in the supernet, or extracted, perhaps with norms folded.

BatchNorm layers are calibrated by PyTorch's own fused kernel, whose averages of unbiased variances become those of
biased ones, which the mode is defined with, by a factor.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from wsx.bench.loops import Norm, norms_of, supernet_in
from wsx.bench.pil import tensor_batches
from wsx.bench.subject import Subject
from wsx.data import ImageSet
from wsx.exporters.batchnorm import Statistics, calibrated_nodes
from wsx.exporters.extract import to_module
from wsx.exporters.graph import Graph
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import Arch

Batches = list[tuple[torch.Tensor, torch.Tensor]]
Subnet = Callable[[torch.Tensor], torch.Tensor]
"""From images to logits (image, class)."""

SubnetMaker = Callable[[Arch], Subnet]
PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def in_place_maker(subject: Subject, *, calibrates: bool = True) -> SubnetMaker:
    """Return what runs subnets in a supernet of its own, one at a time, calibrated where the mode says so.

    Args:
        subject: Whose subnets.
        calibrates: Measure the statistics; without, only the time of the rest means anything.
    """
    model = supernet_in(subject, subject.mode)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    train, norms = _train_batches(subject, calibrates=calibrates), norms_of(model)

    def make(arch: Arch) -> Subnet:
        subnet = partial(model, arch=arch)
        if train:
            calibrate(subnet, norms, train)
        return subnet

    return make


def can_run_in_place(subject: Subject) -> bool:
    """Return whether the norm layers of a supernet can be calibrated in it: all those that slice nothing."""
    kinds = {type(norm) for norm in norms_of(subject.supernet)}
    return subject.mode.kind != "calibrated" or kinds <= set(PLAIN_NORMS)


def extracting_maker(
    subject: Subject, *, is_folded: bool = False, calibrates: bool = True
) -> Callable[[Arch], fx.GraphModule]:
    """Return what makes modules of subnets, on the device, calibrated where the mode says so.

    Args:
        subject: Whose subnets.
        is_folded: Fold BatchNorm layers into convolutions.
        calibrates: See ``in_place_maker``.
    """
    recorder = SubnetRecorder(subject.supernet, subject.mode)
    train = _train_batches(subject, calibrates=calibrates)

    def make(arch: Arch) -> fx.GraphModule:
        graph = recorder.record(arch)
        module = to_module(graph, recorder.weights, _unmeasured(graph))
        module.to(subject.torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if train:
            calibrate(module, norms_of(module), train)
        if is_folded:
            fold_norms(module)
        return module

    return make


def resident(images: ImageSet, batch_size: int, device: torch.device) -> Batches:
    """Return normalised batches on a device, in channels_last."""
    return [
        (x.to(device).contiguous(memory_format=torch.channels_last), labels.to(device))
        for x, labels in tensor_batches(images, batch_size)
    ]


def _train_batches(subject: Subject, *, calibrates: bool) -> Batches:
    train = subject.calibration if calibrates else None
    if train is None:
        return []
    return resident(train, subject.mode.batch_size, subject.torch_device)


def _unmeasured(graph: Graph) -> Statistics:
    """Return statistics for layers whose real ones are measured next."""
    return {
        node.digest: (np.zeros(node.shape[1], np.float32), np.ones(node.shape[1], np.float32))
        for node in calibrated_nodes(graph)
    }


def calibrate(subnet: Subnet, norms: list[Norm], batches: Batches) -> None:
    """Set the statistics of every layer that a subnet uses to the mean of those of batches of one size."""
    factors: dict[nn.Module, float] = {}

    def count(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        n = inputs[0].numel() // inputs[0].shape[1]
        factors[norm] = (n - 1) / n

    hooks = [norm.register_forward_pre_hook(count) for norm in norms]
    for norm in norms:
        # Without momentum the averages are plain means over batches.
        norm.momentum = None
        norm.reset_running_stats()
        norm.train()
    with torch.inference_mode():
        for x, _ in batches:
            subnet(x)
    for hook, norm in zip(hooks, norms, strict=True):
        hook.remove()
        norm.eval()
        if norm.running_var is not None and norm in factors:
            norm.running_var *= factors[norm]


def fold_norms(module: fx.GraphModule) -> None:
    """Fold BatchNorm layers with constant statistics into the convolutions that only they read."""
    layers = dict(module.named_modules())
    for node in list(module.graph.nodes):
        norm = layers.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None:
            continue
        source = node.args[0]
        conv = layers.get(str(source.target)) if source.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d) or len(source.users) > 1:
            continue
        name = f"folded_{node.name}"
        module.add_submodule(name, fuse_conv_bn_eval(conv, norm))
        with module.graph.inserting_before(node):
            folded = module.graph.call_module(name, source.args)
        node.replace_all_uses_with(folded)
        module.graph.erase_node(node)
        module.graph.erase_node(source)
    module.recompile()
