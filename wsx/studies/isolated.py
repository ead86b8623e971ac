"""Scoring a run in worker processes: what each of them opens, see ``wsx.evaluators.isolated``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from wsx.errors import OptionError
from wsx.evaluators.devices import Device, resolve_device
from wsx.evaluators.engines import Engine
from wsx.evaluators.isolated import IsolatedEngine
from wsx.evaluators.sources import SupernetSource
from wsx.spaces import load_space
from wsx.spaces.loading import space_origin
from wsx.studies.images import ImageChoice
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import ScoringOptions, onnx_engine
from wsx.training.run import open_run


@dataclass(frozen=True)
class OpenRun:
    """Opens the engine of a run in the process that calls it.

    Attributes:
        path: The run.
        bn: BatchNorm mode.
        checkpoint: Name of the checkpoint.
        data: Another place for the dataset than the one in the run.
        images: What is scored on.
        device: Where sessions run.
        options: How.
        space: Where the code of one's own space is, None for a space of wsx.
    """

    path: Path
    bn: str
    checkpoint: str
    data: str | None
    images: ImageChoice
    device: str
    options: ScoringOptions
    space: str | None

    def __call__(self) -> Engine:
        """Load the checkpoint and the images, and return the engine."""
        torch.set_num_threads(1)
        if self.space is not None:
            load_space(self.space)
        subnets = RunSubnets(open_run(self.path), self.bn, self.checkpoint, self.data)
        device = resolve_device(self.device)
        source = SupernetSource(
            subnets.recorder, subnets.checkpoint_sha256, device, subnets.calibrator(device)
        )
        return onnx_engine(source, self.images.images(subnets.dataset), device, self.options)


def resolve_devices(names: str) -> list[Device]:
    """Return the devices of names with commas between, such as ``cuda:0,cuda:1``.

    Raises:
        OptionError: A name is unknown, or they are of several kinds, whose scores do not mix.
        DeviceError: One cannot be used.
    """
    devices = [resolve_device(name.strip()) for name in names.split(",")]
    if len({device.kind for device in devices}) > 1:
        raise OptionError(f"--device {names} names several kinds; scores of two kinds do not mix")
    return devices


def isolated_engine(
    subnets: RunSubnets, images: ImageChoice, devices: Sequence[Device], options: ScoringOptions
) -> IsolatedEngine:
    """Return an engine that scores subnets of a run in worker processes on some devices."""
    origin = space_origin(subnets.recorder.space).get("space_from")
    openers = [
        OpenRun(
            subnets.run.path,
            subnets.bn,
            subnets.checkpoint,
            subnets.data,
            images,
            device.name,
            options,
            origin,
        )
        for device in devices
        for _ in range(options.n_workers_on(device))
    ]
    return IsolatedEngine(openers, devices[0].provider)
