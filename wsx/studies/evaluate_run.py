"""Scoring and exporting the subnets of a run."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsx.data import Dataset, ImageSet, TextDataset
from wsx.errors import OptionError
from wsx.evaluators.calibration import Calibrator, calibration_images
from wsx.evaluators.devices import CPU, Device, SessionFactory, resolve_device
from wsx.evaluators.eager import EagerOracle
from wsx.evaluators.engines import EagerEngine, Engine
from wsx.evaluators.population import PopulationReport
from wsx.evaluators.sources import SupernetSource
from wsx.evaluators.text_eager import TextGate, TextOracle
from wsx.evaluators.verify import Agreement, EqualityGate
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.export import ExportReport, export_subnets
from wsx.exporters.folder import SubnetRow
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import Arch
from wsx.spaces.files import ArchChoice
from wsx.store import ScoreKey
from wsx.studies.images import ImageChoice
from wsx.studies.scoring import ENGINES, Listener, ScoringOptions, onnx_engine, score_into
from wsx.supernets import Supernet
from wsx.supernets.checkpoint import Checkpoint
from wsx.supernets.text import TextSupernet
from wsx.training.run import Run
from wsx.training.text_data import copy_vocabulary, run_vocabulary

N_GATE_IMAGES = 64


@dataclass(frozen=True)
class RunSubnets:
    """A checkpoint of a run, opened to score or export its subnets in one BatchNorm mode.

    Attributes:
        run: The run.
        bn: BatchNorm mode, in text form.
        checkpoint: Name of the checkpoint.
        data: Another place for the dataset than the one in the run.
    """

    run: Run
    bn: str
    checkpoint: str = "last"
    data: str | None = None

    @cached_property
    def mode(self) -> BatchNormMode:
        """The BatchNorm mode; ``none`` for text, whose supernets have no such layers."""
        mode = BatchNormMode.parse(self.bn)
        return BatchNormMode("none") if self._loaded[0].reads_text else mode

    @cached_property
    def _loaded(self) -> tuple[Supernet, Checkpoint]:
        return self.run.load(self.checkpoint)

    @cached_property
    def recorder(self) -> SubnetRecorder:
        """Records the subnets."""
        return SubnetRecorder(self._loaded[0], self.mode)

    @property
    def checkpoint_sha256(self) -> str:
        """Digest of the checkpoint."""
        return self._loaded[1].sha256

    @cached_property
    def dataset(self) -> Dataset | TextDataset:
        """The run's data."""
        spec = self.run.config.data
        spec = spec if self.data is None else replace(spec, spec=self.data)
        if not self._loaded[0].reads_text:
            return spec.load()
        return spec.load_text(run_vocabulary(self.run.path, self._loaded[1].facts))

    @cached_property
    def calibration(self) -> ImageSet | None:
        """The training images that BatchNorm statistics come from; None unless calibrated."""
        if self.mode.kind != "calibrated" or isinstance(self.dataset, TextDataset):
            return None
        return calibration_images(self.dataset.train, self.mode)

    def calibrator(self, device: Device) -> Calibrator | None:
        """Return what measures statistics on a device; None unless calibrated."""
        if self.calibration is None:
            return None
        factory = SessionFactory(self.recorder.weights, device)
        return Calibrator(factory, self.recorder.weights, self.calibration, self.mode)

    def oracle(self) -> EagerOracle | TextOracle:
        """Return the eager oracle of the checkpoint."""
        supernet = self._loaded[0]
        if isinstance(supernet, TextSupernet):
            return TextOracle(supernet)
        return EagerOracle(supernet, self.mode, self.calibration)

    def gate(
        self, factory: SessionFactory, calibrate: Calibrator | None
    ) -> EqualityGate | TextGate:
        """Return what compares exported subnets with PyTorch, on the first test images or test tokens."""
        supernet, dataset, oracle = self._loaded[0], self.dataset, self.oracle()
        if isinstance(supernet, TextSupernet) and isinstance(dataset, TextDataset):
            return TextGate(supernet, factory, dataset.test)
        assert isinstance(dataset, Dataset)
        assert isinstance(oracle, EagerOracle)
        test = dataset.test
        images = test.take(min(N_GATE_IMAGES, len(test)))
        return EqualityGate(oracle, self.recorder, factory, images, calibrate)

    @property
    def bn_images_sha256(self) -> str:
        """Digest of the calibration images; empty where there are none."""
        return "" if self.calibration is None else self.calibration.digest


def evaluate_run(
    subnets: RunSubnets,
    out: Path,
    *,
    choice: ArchChoice,
    images: ImageChoice | None = None,
    engine: str = "onnx",
    device: str = "auto",
    options: ScoringOptions | None = None,
    listener: Listener | None = None,
) -> tuple[ScoreKey, PopulationReport]:
    """Score subnets of a run into a file; what it holds already is skipped.

    Args:
        subnets: The run's checkpoint and BatchNorm mode.
        out: The score file.
        choice: Which archs.
        images: Which images; None takes the whole test split.
        engine: ``onnx`` for ONNX Runtime, ``torch`` for the eager oracle.
        device: ``auto``, ``cpu`` or ``cuda``; the oracle runs on the CPU.
        options: Batch size and workers.
        listener: Progress callbacks.

    Raises:
        OptionError: An option is unknown or out of range.
        CheckpointError: The checkpoint is missing or unusable.
        DataError: The run's data is missing.
        DeviceError: The device cannot be used.
        StoreError: The score file cannot be used.
    """
    options, listener = options or ScoringOptions(), listener or Listener()
    if engine not in ENGINES:
        raise OptionError(f"engine {engine!r} is none of: {', '.join(ENGINES)}")
    found = resolve_device(device) if engine == "onnx" else CPU
    archs = choice.archs(subnets.recorder.space)
    image_set = (images or ImageChoice()).images(subnets.dataset)
    batch_size = options.batch_size_on(found, subnets.mode)
    n_workers = options.n_workers_on(found) if engine == "onnx" else 1
    calibrator = subnets.calibrator(found) if engine == "onnx" else None
    source = SupernetSource(subnets.recorder, subnets.checkpoint_sha256, found, calibrator)
    scorer: Engine
    if engine == "onnx":
        scorer = onnx_engine(source, image_set, found, options)
    else:
        scorer = EagerEngine(subnets.oracle(), image_set, batch_size)
    facts = {
        "run_seed": subnets.run.config.seed,
        "checkpoint": subnets.run.checkpoint_path(subnets.checkpoint).stem,
        "split": image_set.split,
        "torch": torch.__version__,
        **choice.facts(subnets.recorder.space),
    }
    return score_into(
        out,
        archs,
        source,
        scorer,
        image_set,
        bn_images_sha256=subnets.bn_images_sha256,
        batch_size=batch_size,
        n_workers=n_workers,
        info=facts,
        listener=listener,
    )


@dataclass(frozen=True)
class VerifiedExport:
    """An export, and how a sample of it agrees with PyTorch."""

    report: ExportReport
    agreements: list[Agreement]

    @property
    def wrong(self) -> list[Agreement]:
        """Subnets that do not agree."""
        return [agreement for agreement in self.agreements if not agreement.is_equal]

    @property
    def problems(self) -> list[str]:
        """One sentence per subnet that failed or does not agree."""
        failed = [f"{text}: {error}" for text, error in self.report.failures.items()]
        return failed + [
            f"{a.arch}: top-1 differs on {a.n_wrong} of {a.n_images} images, largest difference "
            f"{a.largest_difference:.3g} of {a.scale:.3g}"
            for a in self.wrong
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the export in numbers, JSON-clean."""
        report, n_written = self.report, self.report.n_written
        largest = [a.largest_difference / a.scale for a in self.agreements if a.scale]
        return {
            "folder": str(report.folder.path),
            "written": n_written,
            "there already": report.n_skipped,
            "failed": len(report.failures),
            "subnets/s": round(n_written / report.seconds, 1) if n_written else None,
            "bytes": report.folder.n_bytes,
            "bytes per subnet": report.folder.n_bytes // max(1, len(report.folder.rows)),
            "verified": len(self.agreements),
            "disagreeing": len(self.wrong),
            "near-ties": sum(a.n_near_ties for a in self.agreements),
            "largest relative difference": max(largest, default=None),
        }


def export_run(
    subnets: RunSubnets,
    out: Path,
    *,
    choice: ArchChoice,
    exporter: str = "wsx",
    n_verified: int | None = 4,
    on_subnet: Callable[[SubnetRow, int, int], None] | None = None,
    on_verified: Callable[[int, int], None] | None = None,
) -> VerifiedExport:
    """Export subnets of a run, and compare a sample of them with PyTorch.

    Args:
        subnets: The run's checkpoint and BatchNorm mode.
        out: The folder to export into.
        choice: Which archs.
        exporter: ``wsx`` or ``torch``.
        n_verified: How many subnets the equality gate compares, drawn among those asked for; None takes all.
        on_subnet: Called with each written row, the number done and the number in all.
        on_verified: Called with the number compared and the number to compare.

    Raises:
        OptionError: An option is unknown or out of range.
        ExportError: The folder holds something else.
    """
    archs = choice.archs(subnets.recorder.space)
    if exporter == "torch" and isinstance(subnets.dataset, TextDataset):
        raise OptionError("exporter torch takes subnets of images; leave --exporter out")
    calibrator = subnets.calibrator(CPU)
    facts = {
        "checkpoint_sha256": subnets.checkpoint_sha256,
        "data": asdict(subnets.run.config.data),
        "dataset": subnets.dataset.name,
        "bn_images_sha256": subnets.bn_images_sha256,
    }
    report = export_subnets(
        subnets.recorder,
        archs,
        out,
        facts=facts,
        calibrate=calibrator,
        exporter=exporter,
        on_subnet=on_subnet,
    )
    if isinstance(subnets.dataset, TextDataset):
        copy_vocabulary(subnets.run.path, out)
    exported = [arch for arch in dict.fromkeys(archs) if arch in report.folder.rows]
    return VerifiedExport(
        report, _verify(subnets, report, exported, calibrator, n_verified, on_verified)
    )


def _verify(
    subnets: RunSubnets,
    report: ExportReport,
    archs: list[Arch],
    calibrator: Calibrator | None,
    n_verified: int | None,
    on_verified: Callable[[int, int], None] | None,
) -> list[Agreement]:
    n = len(archs) if n_verified is None else min(n_verified, len(archs))
    if n < 0:
        raise OptionError(f"--verify is {n_verified}; it must be all or at least 0")
    if n == 0:
        return []
    gate = subnets.gate(SessionFactory(report.folder.weights, CPU), calibrator)
    agreements = []
    # The sample is spread over the export by a fixed seed, so that a repeated command repeats it.
    for n_done, i in enumerate(np.random.default_rng(0).permutation(len(archs))[:n], 1):
        agreements.append(gate.check(archs[i], report.folder.read(archs[i])))
        if on_verified is not None:
            on_verified(n_done, n)
    return agreements
