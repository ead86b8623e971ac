"""The two ways to score subnets: ONNX Runtime, and the eager oracle."""

import time
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from wsx.data import ImageSet, TextSet
from wsx.evaluators.batches import DeviceImages, Tally
from wsx.evaluators.devices import SessionFactory
from wsx.evaluators.sources import SubnetSource
from wsx.evaluators.text import DeviceText
from wsx.spaces import Arch


class Timing(dict[str, float]):
    """Seconds by phase: ``record``, ``calibrate``, ``build``, ``run``."""


class Engine(Protocol):
    """Scores one subnet at a time; callable from several threads at once if ``n_workers`` is above 1."""

    provider: str

    def score(self, arch: Arch) -> tuple[Tally, Timing]:
        """Return what a subnet did, and where the time went; raises WsxError where it cannot."""


@runtime_checkable
class MergingEngine(Engine, Protocol):
    """Scores several subnets at a time too."""

    def score_together(self, archs: Sequence[Arch]) -> list[tuple[Tally, Timing]]:
        """Return the tallies of ``score``, and each subnet's part of the time; raises what any subnet raises."""


class OnnxEngine:
    """Scores a source's subnets in ONNX Runtime: create a session, run it over the images, drop it.

    Args:
        source: Gives the models.
        factory: Makes the sessions.
        images: The images or the text, on the factory's device.
    """

    def __init__(
        self, source: SubnetSource, factory: SessionFactory, images: DeviceImages | DeviceText
    ) -> None:
        self._source = source
        self._factory = factory
        self._images = images
        self._n_images = 0 if isinstance(images, DeviceText) else images.n_images
        self.provider = factory.device.provider

    def score(self, arch: Arch) -> tuple[Tally, Timing]:
        """Prepare, build and run one subnet."""
        prepared = self._source.prepare(arch, self._n_images)
        start_s = time.perf_counter()
        session = self._factory.session(prepared.model)
        built_s = time.perf_counter()
        tally = self._images.score(session)
        timing = Timing(
            record=prepared.seconds_record,
            calibrate=prepared.seconds_calibrate,
            build=prepared.seconds_build + built_s - start_s,
            run=time.perf_counter() - built_s,
        )
        return tally, timing

    def score_together(self, archs: Sequence[Arch]) -> list[tuple[Tally, Timing]]:
        """Prepare, build and run several subnets as one model.

        Building and running are shared out by multiply-adds, those of a shared node in equal parts.
        """
        images = self._images
        prepared = self._source.prepare_together(archs, self._n_images)
        if prepared is None or isinstance(images, DeviceText):
            return [self.score(arch) for arch in archs]
        start_s = time.perf_counter()
        session = self._factory.session(prepared.model)
        build_s = prepared.seconds_build + time.perf_counter() - start_s
        built_s = time.perf_counter()
        tallies = images.score_merged(session, len(archs))
        run_s = time.perf_counter() - built_s
        parts = zip(
            prepared.shares, prepared.seconds_record, prepared.seconds_calibrate, strict=True
        )
        timings = [
            Timing(record=record_s, calibrate=calibrate_s, build=part * build_s, run=part * run_s)
            for part, record_s, calibrate_s in parts
        ]
        return list(zip(tallies, timings, strict=True))


class EagerEngine:
    """Scores a supernet's subnets with the eager oracle; one thread at a time.

    Args:
        oracle: An ``EagerOracle``, or a ``TextOracle``.
        images: The images, or the text.
        batch_size: Images per batch, or streams.
    """

    provider = "torch-eager"

    def __init__(self, oracle: "Oracle", images: ImageSet | TextSet, batch_size: int) -> None:
        self._oracle = oracle
        self._images = images
        self._batch_size = batch_size

    def score(self, arch: Arch) -> tuple[Tally, Timing]:
        """Calibrate and run one subnet."""
        tally, calibrate_s, run_s = self._oracle.score(
            self._images, arch, batch_size=self._batch_size
        )
        return tally, Timing(record=0.0, calibrate=calibrate_s, build=0.0, run=run_s)


class Oracle(Protocol):
    """What the eager engine needs; kept apart so that this module loads without torch."""

    def score(self, images: Any, arch: Arch, *, batch_size: int) -> tuple[Tally, float, float]:
        """Return a tally, and the seconds taken to calibrate and to run."""
