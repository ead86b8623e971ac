"""Where the subnets of a population come from: a supernet, or a folder of exported ones.

Both answer the same questions: which function does an arch compute, and what model scores it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import onnx

from wsx.evaluators.blocks import target_of
from wsx.evaluators.calibration import Calibrator
from wsx.evaluators.devices import Device, SessionFactory
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.cost import formula_cost, node_multiply_adds, subnet_cost
from wsx.exporters.emit import attach_scoring_head, emit_merged, emit_subnet
from wsx.exporters.folder import ExportFolder
from wsx.exporters.graph import Graph
from wsx.exporters.merge import MergedGraph, merge_calibration, merge_graphs
from wsx.exporters.weights import WeightFile
from wsx.spaces import Arch, Cost, Space

if TYPE_CHECKING:
    # Loads torch, which folders of exported subnets do without.
    from wsx.exporters.subnets import SubnetRecorder


@dataclass(frozen=True)
class Prepared:
    """A model ready to score, and what it took to make it.

    Attributes:
        model: Serialised, with the scoring head.
        seconds_record: Time to record the graph.
        seconds_calibrate: Time for BatchNorm statistics.
        seconds_build: Time to write the model.
    """

    model: bytes
    seconds_record: float
    seconds_calibrate: float
    seconds_build: float


@dataclass(frozen=True)
class PreparedTogether:
    """One model ready to score several subnets, and what it took to make it.

    Attributes:
        model: Serialised, with a scoring head for each subnet.
        seconds_record: Time to record each graph.
        seconds_calibrate: Each subnet's part of the time for BatchNorm statistics.
        seconds_build: Time to merge the graphs and write the model.
        shares: Each subnet's part of what the model computes; they add up to 1.
    """

    model: bytes
    seconds_record: list[float]
    seconds_calibrate: list[float]
    seconds_build: float
    shares: list[float]


class SubnetSource(Protocol):
    """A population's subnets.

    **Threads.** All methods may be called from several threads at once.
    """

    @property
    def space(self) -> Space:
        """The space of the archs."""

    @property
    def checkpoint_sha256(self) -> str:
        """Digest of the checkpoint."""

    @property
    def mode(self) -> BatchNormMode:
        """BatchNorm mode of the models."""

    @property
    def macro(self) -> Mapping[str, int]:
        """The supernet's macro options."""

    @property
    def weights(self) -> WeightFile:
        """The weights that models refer to."""

    def function_key(self, arch: Arch) -> str:
        """Return the function key of an arch; raises ExportError where it cannot be exported."""

    def cost(self, arch: Arch) -> Cost:
        """Return params and multiply-adds of an arch; raises WsxError where they cannot be measured."""

    def prepare(self, arch: Arch, n_images: int = 0) -> Prepared:
        """Return the scoring model of an arch, made for so many images; raises WsxError where there is none."""

    def prepare_together(
        self, archs: Sequence[Arch], n_images: int = 0
    ) -> PreparedTogether | None:
        """Return one scoring model of several archs, None where the source has only one for each."""


class SupernetSource:
    """Subnets recorded from a supernet as they are needed.

    Args:
        recorder: Records graphs in the BatchNorm mode wanted.
        checkpoint_sha256: Digest of the checkpoint that the supernet was loaded from.
        device: Where models will run.
        calibrator: Needed in calibrated mode.
    """

    def __init__(
        self,
        recorder: "SubnetRecorder",
        checkpoint_sha256: str,
        device: Device,
        calibrator: Calibrator | None,
    ) -> None:
        self.space = recorder.space
        self.checkpoint_sha256 = checkpoint_sha256
        self.mode = recorder.mode
        self.macro = recorder.macro
        self.weights = recorder.weights
        self._recorder = recorder
        self._device = device
        self._calibrator = calibrator

    def function_key(self, arch: Arch) -> str:
        """Return the digest of the subnet's graph."""
        return self._recorder.record(arch).function_key

    def cost(self, arch: Arch) -> Cost:
        """Return what the space says, or what is measured on the recorded subnet."""
        return subnet_cost(self._recorder, arch)

    def prepare(self, arch: Arch, n_images: int = 0) -> Prepared:
        """Record, calibrate and emit one subnet."""
        start_s = time.perf_counter()
        graph = self._recorder.record(arch)
        recorded_s = time.perf_counter()
        statistics = None if self._calibrator is None else self._calibrator(graph)
        calibrated_s = time.perf_counter()
        target = target_of(self._device, n_images)
        model = emit_subnet(graph, self.weights, statistics=statistics, target=target)
        attach_scoring_head(model)
        return Prepared(
            model.SerializeToString(),
            recorded_s - start_s,
            calibrated_s - recorded_s,
            time.perf_counter() - calibrated_s,
        )

    def prepare_together(self, archs: Sequence[Arch], n_images: int = 0) -> PreparedTogether:
        """Record, calibrate and emit several subnets as one model.

        Raises:
            ExportError: One of them cannot be recorded or calibrated.
        """
        graphs, seconds_record = [], []
        for arch in archs:
            start_s = time.perf_counter()
            graphs.append(self._recorder.record(arch))
            seconds_record.append(time.perf_counter() - start_s)
        recorded_s = time.perf_counter()
        statistics, seconds_calibrate = None, [0.0] * len(graphs)
        if self._calibrator is not None:
            calibration = merge_calibration(graphs)
            statistics = self._calibrator(calibration.graph)
            seconds = time.perf_counter() - recorded_s
            seconds_calibrate = [part * seconds for part in self._shares(calibration)]
        calibrated_s = time.perf_counter()
        merged = merge_graphs(graphs)
        target = target_of(self._device, n_images)
        model = emit_merged(merged, self.weights, statistics=statistics, target=target)
        attach_scoring_head(model)
        return PreparedTogether(
            model.SerializeToString(),
            seconds_record,
            seconds_calibrate,
            time.perf_counter() - calibrated_s,
            self._shares(merged),
        )

    def _shares(self, merged: MergedGraph) -> list[float]:
        return merged.shares(node_multiply_adds(merged.graph, self.weights))


class FolderSource:
    """Subnets read from a folder that ``wsx export-subnets`` wrote; needs no torch.

    Args:
        folder: The folder, its weights loaded.
    """

    def __init__(self, folder: ExportFolder) -> None:
        self.space = folder.space
        self.checkpoint_sha256 = folder.facts["checkpoint_sha256"]
        self.mode = BatchNormMode.parse(folder.facts["bn"])
        self.macro = folder.facts["supernet"]
        self.weights = folder.weights
        self._folder = folder

    def function_key(self, arch: Arch) -> str:
        """Return the function key that was stored at export."""
        return self._folder.row(arch).function_key

    def cost(self, arch: Arch) -> Cost:
        """Return what the space says, or what was measured at export."""
        row = self._folder.row(arch)
        return formula_cost(self.space, arch, self.macro) or Cost(row.params, row.flops)

    def prepare(self, arch: Arch, n_images: int = 0) -> Prepared:
        """Read one model and add the scoring head."""
        start_s = time.perf_counter()
        model = onnx.load_model_from_string(self._folder.read(arch))
        attach_scoring_head(model)
        return Prepared(model.SerializeToString(), 0.0, 0.0, time.perf_counter() - start_s)

    def prepare_together(self, archs: Sequence[Arch], n_images: int = 0) -> None:
        """Return None: models on disk are finished."""


def session_factory(source: SubnetSource, device: Device, *, n_threads: int = 1) -> SessionFactory:
    """Return the factory that makes the sessions of a source's models."""
    return SessionFactory(source.weights, device, n_threads=n_threads)
