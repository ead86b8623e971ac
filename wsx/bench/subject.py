"""What is measured: one supernet, some archs, images and a BatchNorm mode, random or of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from wsx.data import ImageSet
from wsx.errors import OptionError
from wsx.evaluators.calibration import calibration_images
from wsx.evaluators.devices import CPU, Device
from wsx.evaluators.layout import n_cores
from wsx.exporters.batchnorm import BatchNormMode
from wsx.spaces import Arch, Space
from wsx.studies.scoring import ScoringOptions
from wsx.supernets import Supernet, build_supernet
from wsx.training.run import open_run


@dataclass(frozen=True, eq=False)
class Subject:
    """What every way to score is given.

    Attributes:
        supernet: In evaluation mode, on the CPU.
        archs: The population.
        images: What it is scored on.
        train: Training images; calibration takes the first ones.
        mode: BatchNorm mode.
        device: Where everybody computes.
        batch_size: Images per batch of wsx, and in BatchNorm mode ``batch``, where it decides the score, of
            everybody; None takes what ``wsx evaluate`` takes.
        n_workers: Subnets that wsx scores at once, and cores that PyTorch may use; None takes all cores.
        checkpoint_sha256: Digest of the checkpoint, or a word where there is none.

    Raises:
        OptionError: There is no arch, or mode ``batch`` comes without a batch size,
            or a number is below one.
        DataError: There are too few images to calibrate on.
    """

    supernet: Supernet
    archs: list[Arch]
    images: ImageSet
    train: ImageSet
    mode: BatchNormMode
    device: Device = CPU
    batch_size: int | None = None
    n_workers: int | None = None
    checkpoint_sha256: str = "random"

    def __post_init__(self) -> None:
        if not self.archs:
            raise OptionError("there is no arch to score; ask for at least 1 with --archs")
        self.options.batch_size_on(self.device, self.mode)
        self.options.n_workers_on(self.device)
        if self.mode.kind == "calibrated":
            calibration_images(self.train, self.mode)

    @property
    def options(self) -> ScoringOptions:
        """The options that wsx scores with."""
        return ScoringOptions(self.batch_size, self.n_workers)

    @property
    def n_cores(self) -> int:
        """Cores that PyTorch may use."""
        return self.n_workers or n_cores()

    @property
    def torch_device(self) -> torch.device:
        """The device, as PyTorch calls it."""
        return torch.device(self.device.kind)

    @property
    def calibration(self) -> ImageSet | None:
        """The images that statistics come from; None unless calibrated."""
        if self.mode.kind != "calibrated":
            return None
        return calibration_images(self.train, self.mode)

    def batch_size_or(self, own: int) -> int:
        """Return a loop's own batch size, or the one that decides the scores of mode ``batch``."""
        return self.batch_size if self.mode.kind == "batch" and self.batch_size else own


@dataclass(frozen=True)
class Conditions:
    """How much is scored, and how.

    Attributes:
        n_archs: Archs to draw.
        n_images: Images to score on.
        mode: BatchNorm mode.
        measure: What the draw is uniform over; None takes ``reachable`` where the space has it.
        seed: Of the draw, and of everything else that is random.
        device: Where everybody computes.
        batch_size: See ``Subject``.
        n_workers: See ``Subject``.
    """

    n_archs: int
    n_images: int
    mode: BatchNormMode
    measure: str | None = None
    seed: int = 0
    device: Device = CPU
    batch_size: int | None = None
    n_workers: int | None = None

    def archs(self, space: Space) -> list[Arch]:
        """Return the archs, all different.

        Raises:
            OptionError: None are asked for, or more than there are.
            UnknownNameError: The space has no such measure.
        """
        if self.n_archs < 1:
            raise OptionError(f"--archs is {self.n_archs}; it must be at least 1")
        names = list(space.measures)
        usual = "reachable" if "reachable" in names else names[0]
        rng = np.random.default_rng(self.seed)
        return space.sample(self.n_archs, rng=rng, measure=self.measure or usual)


def random_subject(space: str, options: Mapping[str, Any], conditions: Conditions) -> Subject:
    """Return a random supernet and images of noise, which cost what any cost.

    Args:
        space: Name of the space.
        options: Macro options of the supernet.
        conditions: How much is scored, and how.

    Raises:
        UnknownNameError: There is no such space, option or measure.
        OptionError: A number is out of range, or an option has the wrong type.
    """
    seed = conditions.seed
    supernet = random_supernet(space, options, seed=seed)
    shape, n_classes = supernet.options.input_shape, supernet.macro().get("n_classes", 2)
    if supernet.reads_text:
        raise OptionError(f"{space} reads text; bench measures supernets of images")
    n_train = max(1, conditions.mode.n_images)
    return Subject(
        supernet,
        conditions.archs(supernet.space),
        random_images(conditions.n_images, seed, shape=shape, n_classes=n_classes),
        random_images(n_train, seed + 1, shape=shape, n_classes=n_classes),
        conditions.mode,
        conditions.device,
        conditions.batch_size,
        conditions.n_workers,
    )


def run_subject(
    path: Path, conditions: Conditions, *, checkpoint: str = "last", data: str | None = None
) -> Subject:
    """Return a run's supernet and the first images of its test split.

    Args:
        path: Folder of the run.
        conditions: How much is scored, and how.
        checkpoint: Name of a checkpoint.
        data: Where the run's data lies now, if not where it was.

    Raises:
        CheckpointError: The run or the checkpoint is missing or unusable.
        DataError: The data is missing, or has too few images.
        OptionError: A number is out of range, or the run is of text.
    """
    run = open_run(path)
    supernet, found = run.load(checkpoint)
    if supernet.reads_text:
        raise OptionError(f"{path} is a run of text; bench measures supernets of images")
    spec = run.config.data if data is None else replace(run.config.data, spec=data)
    dataset = spec.load()
    return Subject(
        supernet.eval(),
        conditions.archs(supernet.space),
        dataset.test.take(conditions.n_images),
        dataset.train,
        conditions.mode,
        conditions.device,
        conditions.batch_size,
        conditions.n_workers,
        found.sha256,
    )


def random_supernet(space: str, options: Mapping[str, Any], *, seed: int) -> Supernet:
    """Return a supernet whose norm layers are not ones and zeros, in evaluation mode."""
    net = build_supernet(space, options, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if not hasattr(module, "running_mean"):
            continue
        for name in ("weight", "bias", "running_mean"):
            if (tensor := getattr(module, name, None)) is not None:
                nn.init.normal_(tensor, generator=generator)
        if isinstance(module.running_var, torch.Tensor):
            nn.init.uniform_(module.running_var, 0.5, 2.0, generator=generator)
    return net.eval()


def random_images(
    n: int, seed: int, *, shape: tuple[int, ...] = (3, 32, 32), n_classes: int = 10
) -> ImageSet:
    """Return images of noise of one shape (channel, height, width).

    Raises:
        OptionError: None are asked for.
    """
    if n < 1:
        raise OptionError(f"--images is {n}; it must be at least 1")
    rng = np.random.default_rng(seed)
    return ImageSet(
        dataset="noise",
        split="test",
        pixels=rng.integers(256, size=(n, *shape), dtype=np.uint8),
        labels=rng.integers(n_classes, size=n),
        ids=np.arange(n),
        source="all",
        class_names=tuple(map(str, range(n_classes))),
        mean=(0.5,) * shape[0],
        std=(0.25,) * shape[0],
    )
