"""What scoring a run and scoring an exported folder have in common; needs no torch."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from wsx.data import ImageSet, TextSet
from wsx.errors import OptionError
from wsx.evaluators.batches import DeviceImages
from wsx.evaluators.devices import Device, import_onnxruntime, installed_distributions
from wsx.evaluators.engines import Engine, OnnxEngine
from wsx.evaluators.layout import LayoutCache, default_layout, measured_layout
from wsx.evaluators.merging import MergeLimits, MergePlanner
from wsx.evaluators.population import PopulationReport, score_population
from wsx.evaluators.race import OnRaced, race_population
from wsx.evaluators.race_engine import RaceEngine
from wsx.evaluators.sources import SubnetSource, session_factory
from wsx.evaluators.text import N_STREAMS, DeviceText
from wsx.exporters.batchnorm import BatchNormMode
from wsx.spaces import Arch, Space
from wsx.store import ScoreKey, open_store
from wsx.version import __version__

ENGINES = ("onnx", "torch")


@dataclass(frozen=True)
class ScoringOptions:
    """How scores are computed.

    Attributes:
        batch_size: Images per batch; None takes what suits the device. In BatchNorm mode ``batch`` it is part of
            the score, and must be given. Of text, streams side by side; part of the score, None takes 10.
        n_workers: Subnets scored at once; None takes the number of cores, or two on CUDA.
        n_threads: Threads of each; changes no score.
        is_isolated: Score in worker processes, which are replaced when they grow old or die.
        merge: When one model scores several subnets of a run, see ``MergeLimits``; changes no score.
    """

    batch_size: int | None = None
    n_workers: int | None = None
    n_threads: int = 1
    is_isolated: bool = False
    merge: MergeLimits = field(default_factory=MergeLimits)

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
        return self.batch_size or (
            N_STREAMS if mode.kind == "none" else default_layout(device).batch_size
        )

    def n_workers_on(self, device: Device) -> int:
        """Return the number of workers for a device.

        Raises:
            OptionError: It is below one.
        """
        if self.n_workers is not None and self.n_workers < 1:
            raise OptionError(f"--workers is {self.n_workers}; it must be at least 1")
        return self.n_workers or default_layout(device).n_workers


@dataclass(frozen=True)
class Listener:
    """Callbacks of long work; each gets the number done and the number in all.

    ``on_raced`` gets images run, the most that may have to be run, and a note.
    """

    on_planned: Callable[[int, int], None] | None = None
    on_scored: Callable[[int, int], None] | None = None
    on_raced: OnRaced | None = None


def settled(
    options: ScoringOptions,
    source: SubnetSource,
    images: ImageSet | TextSet,
    archs: Sequence[Arch],
    device: Device,
) -> ScoringOptions:
    """Return options in which nothing is left open: what was, suits this machine and changes no score.

    Raises:
        OptionError: The batch size decides the score and was not given, or a value is below one.
    """
    batch_size = options.batch_size_on(device, source.mode)
    n_workers = options.n_workers_on(device)
    is_free = options.batch_size is None or options.n_workers is None
    if isinstance(images, TextSet) or options.is_isolated or not is_free:
        return replace(options, batch_size=batch_size, n_workers=n_workers)
    layout = measured_layout(
        source, device, images, archs, batch_size=options.batch_size, cache=LayoutCache.of_user()
    )
    if options.n_workers is not None:
        return replace(options, batch_size=layout.batch_size)
    return replace(options, **asdict(layout))


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
    factory = session_factory(source, device, n_threads=options.n_threads)
    return OnnxEngine(source, factory, on_device)


def score_into(
    out: Path,
    archs: list[Arch],
    source: SubnetSource,
    engine: Engine | RaceEngine,
    images: ImageSet | TextSet,
    *,
    bn_images_sha256: str,
    batch_size: int,
    n_workers: int,
    info: Mapping[str, Any],
    listener: Listener,
    merging: MergePlanner | None = None,
) -> tuple[ScoreKey, PopulationReport]:
    """Score archs into a file, or race them; what its campaign holds already is skipped.

    Returns:
        The campaign's key, and what was done; of a race, a ``RaceReport`` that is also written beside the file.

    Raises:
        StoreError: The file is locked, foreign, damaged or cannot be written.
    """
    key = score_key(
        source,
        images,
        bn_images_sha256=bn_images_sha256,
        batch_size=batch_size,
        provider=engine.provider,
    )
    with open_store(out, "a") as store, ThreadPoolExecutor(n_workers) as executor:
        campaign = store.campaign(key, image_ids=images.ids, info={**versions(), **info})
        shared: dict[str, Any] = {
            "campaign": campaign,
            "space": source.space,
            "cost": source.cost,
            "function_key": source.function_key,
            "executor": executor,
            "n_workers": n_workers,
            "on_planned": listener.on_planned,
        }
        if not isinstance(engine, RaceEngine):
            return key, score_population(
                archs, engine=engine, merging=merging, on_scored=listener.on_scored, **shared
            )
        report = race_population(archs, engine=engine, on_raced=listener.on_raced, **shared)
    report.write(out.with_suffix(".race.json"))
    return key, report


class Scored(Protocol):
    """What scores are of: a source of subnets, or a run's checkpoint opened to make one."""

    @property
    def space(self) -> Space:
        """The space of the archs."""

    @property
    def checkpoint_sha256(self) -> str:
        """Digest of the checkpoint."""

    @property
    def mode(self) -> BatchNormMode:
        """BatchNorm mode."""


def score_key(
    source: Scored,
    images: ImageSet | TextSet,
    *,
    bn_images_sha256: str,
    batch_size: int,
    provider: str,
) -> ScoreKey:
    """Return the key of a source's scores on some images; the batch size is in it where it decides them."""
    decides = source.mode.kind == "batch" or isinstance(images, TextSet)
    return ScoreKey(
        space=source.space.name,
        checkpoint_sha256=source.checkpoint_sha256,
        dataset=images.dataset,
        images_sha256=images.digest,
        bn=str(source.mode),
        bn_images_sha256=bn_images_sha256,
        batch_size=batch_size if decides else 0,
        precision="float32",
        provider=provider,
    )


def versions() -> dict[str, Any]:
    """Return the versions of what computes scores."""
    return {
        "wsx_version": __version__,
        "onnxruntime": installed_distributions() and import_onnxruntime().__version__,
    }
