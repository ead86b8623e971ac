"""What scoring a run and scoring an exported folder have in common; needs no torch."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsx.data import ImageSet, TextSet
from wsx.errors import OptionError
from wsx.evaluators.batches import DeviceImages
from wsx.evaluators.devices import Device, import_onnxruntime, installed_distributions
from wsx.evaluators.engines import Engine, OnnxEngine
from wsx.evaluators.population import PopulationReport, score_population
from wsx.evaluators.sources import SubnetSource, session_factory
from wsx.evaluators.text import N_STREAMS, DeviceText
from wsx.exporters.batchnorm import BatchNormMode
from wsx.spaces import Arch
from wsx.store import ScoreKey, open_store
from wsx.version import __version__

DEFAULT_BATCH_SIZE = {"cpu": 32, "cuda": 1000}
ENGINES = ("onnx", "torch")


@dataclass(frozen=True)
class ScoringOptions:
    """How scores are computed.

    Attributes:
        batch_size: Images per batch; None takes what suits the device. In BatchNorm mode ``batch`` it is part of
            the score, and must be given. Of text, streams side by side; part of the score, None takes 10.
        n_workers: Subnets scored at once; None takes the number of cores, or two on CUDA.
    """

    batch_size: int | None = None
    n_workers: int | None = None

    def batch_size_on(self, device: Device, mode: BatchNormMode) -> int:
        """Return the batch size for a device.

        Raises:
            OptionError: It is below one, or decides the score and was not given.
        """
        if self.batch_size is not None and self.batch_size < 1:
            raise OptionError(f"--batch-size is {self.batch_size}; it must be at least 1")
        if self.batch_size is None and mode.kind == "batch":
            raise OptionError(
                "BatchNorm mode 'batch' scores depend on the batch size; choose it with --batch-size"
            )
        default = N_STREAMS if mode.kind == "none" else DEFAULT_BATCH_SIZE[device.kind]
        return self.batch_size or default

    def n_workers_on(self, device: Device) -> int:
        """Return the number of workers for a device.

        Raises:
            OptionError: It is below one.
        """
        if self.n_workers is not None and self.n_workers < 1:
            raise OptionError(f"--workers is {self.n_workers}; it must be at least 1")
        return self.n_workers or (2 if device.kind == "cuda" else os.cpu_count() or 1)


@dataclass(frozen=True)
class Listener:
    """Callbacks of long work; each gets the number done and the number in all."""

    on_planned: Callable[[int, int], None] | None = None
    on_scored: Callable[[int, int], None] | None = None


def onnx_engine(
    source: SubnetSource, images: ImageSet | TextSet, device: Device, options: ScoringOptions
) -> OnnxEngine:
    """Return the engine that scores a source's subnets in ONNX Runtime."""
    batch_size = options.batch_size_on(device, source.mode)
    if isinstance(images, TextSet):
        text = DeviceText(images, batch_size, source.macro["hidden_size"], device)
        return OnnxEngine(source, session_factory(source, device), text)
    pads = source.mode.kind != "batch"
    on_device = DeviceImages(images, batch_size, device, pads=pads)
    return OnnxEngine(source, session_factory(source, device), on_device)


def score_into(
    out: Path,
    archs: list[Arch],
    source: SubnetSource,
    engine: Engine,
    images: ImageSet | TextSet,
    *,
    bn_images_sha256: str,
    batch_size: int,
    n_workers: int,
    info: Mapping[str, Any],
    listener: Listener,
) -> tuple[ScoreKey, PopulationReport]:
    """Score archs into a file; what its campaign holds already is skipped.

    Returns:
        The campaign's key, and what was done.

    Raises:
        StoreError: The file is locked, foreign, damaged or cannot be written.
    """
    decides = source.mode.kind == "batch" or isinstance(images, TextSet)
    key = ScoreKey(
        space=source.space.name,
        checkpoint_sha256=source.checkpoint_sha256,
        dataset=images.dataset,
        images_sha256=images.digest,
        bn=str(source.mode),
        bn_images_sha256=bn_images_sha256,
        batch_size=batch_size if decides else 0,
        precision="float32",
        provider=engine.provider,
    )
    with open_store(out, "a") as store, ThreadPoolExecutor(n_workers) as executor:
        campaign = store.campaign(key, image_ids=images.ids, info={**versions(), **info})
        report = score_population(
            archs,
            campaign=campaign,
            engine=engine,
            space=source.space,
            cost=source.cost,
            function_key=source.function_key,
            executor=executor,
            n_workers=n_workers,
            on_planned=listener.on_planned,
            on_scored=listener.on_scored,
        )
    return key, report


def versions() -> dict[str, Any]:
    """Return the versions of what computes scores."""
    return {
        "wsx_version": __version__,
        "onnxruntime": installed_distributions() and import_onnxruntime().__version__,
    }
