"""The loops that published code scores populations with, each written anew after what that code does.

B1   few-shot-NAS, ``one-shot-supernet_eval.valid_func``: the arch is an argument of the supernet, which normalises
     with the statistics of each batch; images go through PIL one by one, in batches of 48.
P1   arXiv 2010.08219: copy the state, calibrate with hooks, evaluate, put the state back.
B4   Once-for-All, ``build_acc_dataset`` with ``set_running_statistics``: a copy of the supernet measures the
     statistics of each arch; batches of 200 lie in memory.

All of them run ``supernet(x, arch)`` eagerly, in the layout that tensors have by default, and take numbers from
the device several times per batch. What they write to disk after each arch is left out.
"""

import copy
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from wsx.bench.contenders import BASELINES, Contender
from wsx.bench.pil import pil_batches, tensor_batches
from wsx.bench.subject import Subject
from wsx.exporters.batchnorm import BatchNormMode
from wsx.spaces import Arch
from wsx.supernets import Supernet

Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]

B1_BATCH_SIZE, P1_BATCH_SIZE, B4_BATCH_SIZE = 48, 256, 200
N_ARCHS = 8
"""One arch costs what the next does, so that a few of a population are enough."""


@BASELINES.register("b1")
def b1(subject: Subject) -> list[Contender]:
    """Return few-shot-NAS's loop, which scores with batch statistics whatever the subject's mode."""
    mode, batch_size = BatchNormMode("batch"), subject.batch_size_or(B1_BATCH_SIZE)
    model = supernet_in(subject, mode)
    batches = pil_batches(subject.images, batch_size)

    def score(archs: Sequence[Arch]) -> list[int]:
        return [evaluate(model, arch, batches, subject.torch_device) for arch in archs]

    what = "few-shot-NAS: PIL images, a DataLoader in this process"
    return [Contender("b1", what, mode, batch_size, score, n_archs=N_ARCHS)]


@BASELINES.register("p1")
def p1(subject: Subject) -> list[Contender]:
    """Return P1's loop."""
    device, mode = subject.torch_device, subject.mode
    batch_size = subject.batch_size_or(P1_BATCH_SIZE)
    model = supernet_in(subject, mode)
    norms = norms_of(model)
    batches = pil_batches(subject.images, batch_size)
    train = (
        None if subject.calibration is None else pil_batches(subject.calibration, mode.batch_size)
    )

    def score_one(arch: Arch) -> int:
        state = copy.deepcopy(model.state_dict())
        averages = [(norm, norm.running_mean, norm.running_var) for norm in norms]
        if train is not None:
            _calibrate_with_hooks(model, norms, arch, train, device)
        n_correct = evaluate(model, arch, batches, device)
        # Statistics of a narrow subnet have another shape than those of the supernet.
        for norm, mean, variance in averages:
            norm.running_mean, norm.running_var = mean, variance
        model.load_state_dict(state)
        return n_correct

    what = "P1: state copied, calibrated with hooks, restored; PIL images"
    score = _one_by_one(score_one)
    return [Contender("p1", what, mode, batch_size, score, n_archs=N_ARCHS)]


@BASELINES.register("b4")
def b4(subject: Subject) -> list[Contender]:
    """Return Once-for-All's loop."""
    device, mode = subject.torch_device, subject.mode
    batch_size = subject.batch_size_or(B4_BATCH_SIZE)
    model = supernet_in(subject, mode)
    batches = tensor_batches(subject.images, batch_size)
    train = (
        None
        if subject.calibration is None
        else tensor_batches(subject.calibration, mode.batch_size)
    )

    def score_one(arch: Arch) -> int:
        if train is not None:
            _calibrate_a_copy(model, arch, train, device)
        return evaluate(model, arch, batches, device)

    what = "Once-for-All: supernet copied to calibrate, batches in memory"
    score = _one_by_one(score_one)
    return [Contender("b4", what, mode, batch_size, score, n_archs=N_ARCHS)]


def _one_by_one(score_one: Callable[[Arch], int]) -> Callable[[Sequence[Arch]], list[int]]:
    return lambda archs: [score_one(arch) for arch in archs]


def evaluate(model: nn.Module, arch: Arch, batches: Batches, device: torch.device) -> int:
    """Return the correct images of an arch, with loss, top-1 and top-5 taken from the device batch by batch."""
    totals = np.zeros(3)
    with torch.no_grad():
        for x, labels in batches:
            x, labels = x.to(device), labels.to(device)
            logits = model(x, arch)
            loss = F.cross_entropy(logits, labels, reduction="sum")
            is_hit = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
            totals += [loss.item(), is_hit[:, 0].sum().item(), is_hit.sum().item()]
    return int(totals[1])


def norms_of(model: nn.Module) -> list[Norm]:
    """Return the BatchNorm layers of a module."""
    return [module for module in model.modules() if isinstance(module, Norm)]


def supernet_in(subject: Subject, mode: BatchNormMode) -> Supernet:
    """Return a copy of the supernet on the device, its norm layers as a mode wants them."""
    model = copy.deepcopy(subject.supernet).eval().to(subject.torch_device)
    for norm in norms_of(model):
        if mode.kind == "batch":
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
        elif mode.kind == "calibrated" and norm.running_mean is None:
            norm.track_running_stats = True
            norm.running_mean = torch.zeros(norm.num_features, device=subject.torch_device)
            norm.running_var = torch.ones(norm.num_features, device=subject.torch_device)
            norm.num_batches_tracked = torch.tensor(0)
    return model


def _calibrate_with_hooks(
    model: nn.Module, norms: list[Norm], arch: Arch, batches: Batches, device: torch.device
) -> None:
    """Set the running averages of the layers that an arch uses to those of some batches."""
    meters: dict[Norm, Meter] = {}

    def collect(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(norm, Norm)
        meters.setdefault(norm, Meter()).add(_moments(inputs[0]), len(inputs[0]))

    hooks = [norm.register_forward_pre_hook(collect) for norm in norms]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.train()
    with torch.no_grad():
        for x, _ in batches:
            model(x.to(device), arch)
    for hook, norm, momentum in zip(hooks, norms, momenta, strict=True):
        hook.remove()
        norm.momentum = momentum
        norm.eval()
    for norm, meter in meters.items():
        meter.write(norm)


def _calibrate_a_copy(model: Supernet, arch: Arch, batches: Batches, device: torch.device) -> None:
    """Set the running averages of the layers that an arch uses, measured on a copy of the supernet."""
    twin = copy.deepcopy(model)
    norms, twins = norms_of(model), norms_of(twin)
    meters = [Meter() for _ in twins]
    for other, meter in zip(twins, meters, strict=True):
        other.forward = _measuring(other, meter)  # type: ignore[method-assign]
    with torch.no_grad():
        for x, _ in batches:
            twin(x.to(device), arch)
    for norm, meter in zip(norms, meters, strict=True):
        meter.write(norm)


def _measuring(norm: Norm, meter: "Meter") -> Callable[..., torch.Tensor]:
    forward = type(norm).forward

    def measured(x: torch.Tensor, *arguments: object) -> torch.Tensor:
        norm.running_mean, norm.running_var = moments = _moments(x)
        meter.add(moments, len(x))
        y: torch.Tensor = forward(norm, x, *arguments)
        return y

    return measured


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and biased variance (channel,) of a batch (image, channel, ...)."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    return x.mean(axes), x.var(axes, unbiased=False)


class Meter:
    """Moments of a layer's inputs, averaged over batches weighted by their images."""

    def __init__(self) -> None:
        self._sums: list[torch.Tensor] = []
        self._n_images = 0

    def add(self, moments: tuple[torch.Tensor, torch.Tensor], n_images: int) -> None:
        """Count the moments of a batch of so many images."""
        batch = [moment * n_images for moment in moments]
        self._sums = (
            [a + b for a, b in zip(self._sums, batch, strict=True)] if self._sums else batch
        )
        self._n_images += n_images

    def write(self, norm: Norm) -> None:
        """Make what was counted, if anything was, the statistics of a layer."""
        if self._sums:
            norm.running_mean, norm.running_var = (total / self._n_images for total in self._sums)
