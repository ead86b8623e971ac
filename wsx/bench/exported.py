"""B8, SpaceEvo's ``evaluate_onnx``: every subnet through PyTorch's own exporter, then a default session.

The TorchScript exporter is measured (``dynamo=False``), about twenty times as fast as today's default one and so
the harder to beat; the default one is ``b8-dynamo``. Statistics of BatchNorm layers are folded in, so there is no
mode ``batch``. An export takes up to seconds: a few archs are enough.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import fx, nn

from wsx.bench.contenders import BASELINES, Contender, NotComparableError
from wsx.bench.pil import pil_batches
from wsx.bench.subject import Subject
from wsx.bench.subnets import extracting_maker
from wsx.evaluators.devices import import_onnxruntime
from wsx.exporters.emit import INPUT
from wsx.exporters.official import export_official
from wsx.spaces import Arch

BATCH_SIZE = 256
N_ARCHS, N_ARCHS_DYNAMO = 8, 2

Exporter = Callable[[fx.GraphModule, tuple[int, ...], Path], None]


def export_torchscript(module: fx.GraphModule, input_shape: tuple[int, ...], path: Path) -> None:
    """Write a subnet as the TorchScript exporter does, weights included."""
    with warnings.catch_warnings():
        # It warns that it is deprecated.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            # It takes a module with a graph of its own for one of TorchScript's.
            nn.Sequential(module),
            (torch.zeros(2, *input_shape),),
            path,
            dynamo=False,
            input_names=[INPUT],
            dynamic_axes={INPUT: {0: "batch"}},
        )


def export_dynamo(module: fx.GraphModule, input_shape: tuple[int, ...], path: Path) -> None:
    """Write a subnet as today's default exporter does, weights included."""
    onnx.save(export_official(module, input_shape, metadata={}), path)


@BASELINES.register("b8")
def b8(subject: Subject) -> list[Contender]:
    """Return the TorchScript exporter and ONNX Runtime as they come."""
    return [_contender("b8", "TorchScript", export_torchscript, N_ARCHS, subject)]


@BASELINES.register("b8-dynamo")
def b8_dynamo(subject: Subject) -> list[Contender]:
    """Return today's default exporter and ONNX Runtime as they come."""
    return [_contender("b8-dynamo", "dynamo", export_dynamo, N_ARCHS_DYNAMO, subject)]


def _contender(
    name: str, exporter_name: str, export: Exporter, n_archs: int, subject: Subject
) -> Contender:
    if subject.mode.kind == "batch":
        raise NotComparableError(f"{name} exports constant statistics; there is no mode batch")
    extract = extracting_maker(subject)
    batches = pil_batches(subject.images, BATCH_SIZE)
    shape = subject.supernet.options.input_shape

    def score_one(arch: Arch) -> int:
        module = extract(arch).cpu()
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "subnet.onnx"
            export(module, shape, path)
            return count_correct(_default_session(path, subject.device.provider), batches)

    def score(archs: Sequence[Arch]) -> list[int]:
        return [score_one(arch) for arch in archs]

    what = f"official exporter ({exporter_name}), default session; PIL images"
    return Contender(name, what, subject.mode, BATCH_SIZE, score, n_archs=n_archs)


def count_correct(session: Any, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> int:
    """Return the correct images of a session, batch by batch through the host's memory."""
    n_correct = 0
    for x, labels in batches:
        (logits,) = session.run(None, {INPUT: x.numpy()})
        n_correct += int((np.argmax(logits, axis=1) == labels.numpy()).sum())
    return n_correct


def _default_session(path: Path, provider: str) -> Any:
    return import_onnxruntime().InferenceSession(path, providers=[provider])
