"""Contracts of what a supernet computes: the same alone, interleaved, extracted and in ONNX Runtime."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from wsx.contracts._base import Figures, Subject
from wsx.contracts.cover import BreachError
from wsx.contracts.norms import logits_in, norm_kinds, run
from wsx.evaluators.devices import CPU, SessionFactory
from wsx.exporters.batchnorm import BatchNormMode, Statistics, split_statistics
from wsx.exporters.emit import emit_calibration, emit_subnet
from wsx.exporters.extract import extract, to_module
from wsx.exporters.graph import Graph
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import Arch

FLOAT64_TOLERANCE = 1e-9
FLOAT32_TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest logit."""
N_CALIBRATION = 32


def relative_difference(found: Any, expected: torch.Tensor) -> float:
    """Return the largest difference of logits, relative to the largest expected one; inf if not finite."""
    expected_array = expected.double().numpy()
    found_array = np.asarray(found, dtype=np.float64)
    if found_array.shape != expected_array.shape:
        raise BreachError(
            f"logits have the shape {found_array.shape} instead of {expected_array.shape}"
        )
    gap = np.abs(found_array - expected_array).max()
    scale = np.abs(expected_array).max()
    if not np.isfinite(gap + scale) or scale == 0:
        return float("inf")
    return float(gap / scale)


def _mode(kind: str) -> BatchNormMode:
    return (
        BatchNormMode("calibrated", 1, N_CALIBRATION)
        if kind == "calibrated"
        else BatchNormMode(kind)
    )


@torch.no_grad()
def same_extracted(subject: Subject) -> Figures:
    """An extracted subnet computes in float64 what the supernet does, in evaluation and on batch statistics."""
    supernet, inputs, largest = subject.double, subject.inputs(), 0.0
    recorder = SubnetRecorder(supernet, BatchNormMode("batch"))
    for arch in subject.archs:
        with subject.checking(arch):
            pairs = {"evaluation": (extract(supernet, arch), run(supernet, arch, inputs))}
            if norm_kinds(supernet, arch, inputs):
                module = to_module(recorder.record(arch), recorder.weights)
                pairs["batch"] = module, logits_in("batch", supernet, arch, inputs, ())
            gaps = {k: relative_difference(m(*inputs), e) for k, (m, e) in pairs.items()}
        for kind, gap in gaps.items():
            if not gap <= FLOAT64_TOLERANCE:
                raise BreachError(
                    f"extracted, it is off by {gap:.2g} of the largest logit ({kind})", arch
                )
        largest = max(largest, *gaps.values())
    return {"archs": len(subject.archs), "largest relative difference": largest}


def same_in_onnx_runtime(subject: Subject) -> Figures:
    """ONNX Runtime computes in float32 what the supernet does, in every BatchNorm mode that it has."""
    calibration = subject.inputs(N_CALIBRATION)
    inputs = subject.inputs(skip=N_CALIBRATION)
    largest: dict[str, float] = {}
    kinds = {
        arch: norm_kinds(subject.double, arch, inputs) or ["running"] for arch in subject.archs
    }
    for kind in ("running", "batch", "calibrated"):
        recorder = SubnetRecorder(subject.supernet, _mode(kind))
        factory = SessionFactory(recorder.weights, CPU)
        for arch in (arch for arch in subject.archs if kind in kinds[arch]):
            with subject.checking(arch):
                graph = recorder.record(arch)
                statistics = _calibrated(graph, factory, recorder, calibration)
                model = emit_subnet(graph, recorder.weights, statistics=statistics)
                found = _onnx(factory, model.SerializeToString(), inputs)[0]
                expected = logits_in(kind, subject.double, arch, inputs, calibration)
                gap = relative_difference(found, expected)
            if not gap <= FLOAT32_TOLERANCE:
                raise BreachError(
                    f"in ONNX Runtime it is off by {gap:.2g} of the largest logit ({kind})", arch
                )
            largest[kind] = max(largest.get(kind, 0.0), gap)
    return {"archs": len(subject.archs), "largest relative difference": largest}


def _calibrated(
    graph: Graph,
    factory: SessionFactory,
    recorder: SubnetRecorder,
    calibration: Sequence[torch.Tensor],
) -> Statistics | None:
    if recorder.mode.kind != "calibrated":
        return None
    model = emit_calibration(graph, recorder.weights).SerializeToString()
    means, variances = _onnx(factory, model, calibration)
    return split_statistics(graph, means, variances)


def _onnx(
    factory: SessionFactory, model: bytes, inputs: Sequence[torch.Tensor]
) -> list[np.ndarray]:
    session = factory.session(model)
    arrays = [t.float().numpy() if t.is_floating_point() else t.numpy() for t in inputs]
    names = [entry.name for entry in session.get_inputs()]
    outputs: list[np.ndarray] = session.run(None, dict(zip(names, arrays, strict=True)))
    return outputs


class _Interrupted(TorchFunctionMode):
    """Does something else in the middle: before the torch function with a given number."""

    def __init__(self, at: int, action: Callable[[], Any]) -> None:
        super().__init__()
        self.n_calls = 0
        self._at = at
        self._action = action

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a torch function."""
        if self.n_calls == self._at:
            self._action()
        self.n_calls += 1
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def stateless(subject: Subject) -> Figures:
    """What an arch computes depends on no other arch, run before it or while it runs, and changes no weight."""
    supernet, inputs = copy.deepcopy(subject.double), subject.inputs()
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    alone = {}
    for arch in subject.archs:
        with subject.checking(arch):
            alone[arch] = run(copy.deepcopy(subject.double), arch, inputs)
    for arch, other in zip(subject.archs, [*subject.archs[1:], *subject.archs[:1]], strict=True):
        with subject.checking(arch):
            again = run(supernet, arch, inputs)
        if not torch.equal(again, alone[arch]):
            raise BreachError(
                "after other archs it gives other logits than on a fresh supernet", arch
            )
        with _Interrupted(-1, lambda: None) as counted:
            run(supernet, arch, inputs)
        for at in {counted.n_calls * part // 4 for part in (1, 2, 3)}:
            with _Interrupted(at, partial(run, supernet, other, inputs)):
                again = run(supernet, arch, inputs)
            if not torch.equal(again, alone[arch]):
                raise BreachError(f"it gives other logits while {other} runs as well", arch)
    after = supernet.state_dict()
    changed = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
    if changed:
        raise BreachError(f"running archs in evaluation mode changes {', '.join(changed[:5])}")
    return {"archs": len(subject.archs)}


@torch.no_grad()
def decisions_matter(subject: Subject) -> Figures:
    """Every decision changes what some arch computes; one that the module forgets to read does not."""
    space, inputs = subject.space, subject.inputs()
    idle: dict[str, int] = {}
    n_alone = 0
    for place, decision in enumerate(space.decisions):
        pairs = [
            (arch, other) for arch in subject.archs for other in _changed_at(subject, arch, place)
        ]
        n_alone += not pairs
        for arch, other in pairs:
            with subject.checking(arch):
                logits = [run(subject.double, which, inputs) for which in (arch, other)]
            if not torch.equal(*logits):
                break
        else:
            if pairs:
                idle[decision.name] = len(pairs)
    if idle:
        named = ", ".join(f"{name} ({n} pairs of archs)" for name, n in idle.items())
        raise BreachError(f"changing a decision alone changes no logit: {named}")
    return {"decisions": len(space.decisions), "never changed alone": n_alone}


def _changed_at(subject: Subject, arch: Arch, place: int) -> list[Arch]:
    """Return neighbours that differ in one decision."""
    found = subject.space.neighbours(arch)
    return [
        other for other in found if [i for i, o in enumerate(other) if o != arch[i]] == [place]
    ][:2]
