"""Subnets on subsets of the images: each is prepared once, its model kept on disk, and run lap by lap."""

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from wsx.analysis.race import RaceRules
from wsx.analysis.race_estimate import BoolArray, IntArray
from wsx.data import ImageSet
from wsx.data.photos import LazyPixels
from wsx.evaluators.batches import DeviceImages, Tally
from wsx.evaluators.devices import SessionFactory
from wsx.evaluators.engines import Timing
from wsx.evaluators.plan import Group
from wsx.evaluators.sources import SubnetSource


@dataclass(frozen=True)
class RaceEngine:
    """Runs a source's subnets on subsets of the images, for a race.

    Attributes:
        source: Gives the models; not in BatchNorm mode ``batch``, where an outcome hangs on its batch.
        factory: Makes the sessions.
        images: All images of a score.
        batch_size: Images per batch.
        rules: What the race looks for.
        n_calibration_images: Images that preparing a subnet takes.
    """

    source: SubnetSource
    factory: SessionFactory
    images: ImageSet
    batch_size: int
    rules: RaceRules
    n_calibration_images: int

    @property
    def provider(self) -> str:
        """Execution provider of the sessions."""
        return self.factory.device.provider

    def cut(self, indices: IntArray) -> DeviceImages:
        """Return some of the images on the device."""
        images, pixels = self.images, self.images.pixels
        taken = replace(
            images,
            pixels=pixels.take(indices) if isinstance(pixels, LazyPixels) else pixels[indices],
            labels=images.labels[indices],
            ids=images.ids[indices],
        )
        return DeviceImages(taken, self.batch_size, self.factory.device, pads=True)

    def run(self, runner: "Runner", images: DeviceImages) -> Tally:
        """Run one subnet on some images; the first time it is prepared."""
        if not runner.model.exists():
            prepared = self.source.prepare(runner.group.archs[0])
            runner.model.write_bytes(prepared.model)
            runner.timing["record"] += prepared.seconds_record
            runner.timing["calibrate"] += prepared.seconds_calibrate
            runner.timing["build"] += prepared.seconds_build
        start_s = time.perf_counter()
        session = self.factory.session(runner.model.read_bytes())
        built_s = time.perf_counter()
        tally = images.score(session)
        runner.timing["build"] += built_s - start_s
        runner.timing["run"] += time.perf_counter() - built_s
        return tally


@dataclass(eq=False)
class Runner:
    """One function in a race, and what it has done so far.

    Attributes:
        group: The archs that compute it.
        model: Where its model is kept.
        known: Its outcomes on all images if the campaign held them, shape (image,).
        laps: Images seen, by index, and how they went.
        timing: Seconds by phase.
        error: Why it could not be run.
    """

    group: Group
    model: Path
    known: BoolArray | None = None
    laps: list[tuple[IntArray, Tally]] = field(default_factory=list)
    timing: Timing = field(
        default_factory=lambda: Timing(record=0.0, calibrate=0.0, build=0.0, run=0.0)
    )
    error: Exception | None = None

    @property
    def n_seen(self) -> int:
        """Images seen."""
        return sum(len(images) for images, _ in self.laps)

    @property
    def loss_sum(self) -> float:
        """Cross-entropy summed over the images seen, nats."""
        return math.fsum(tally.loss_sum for _, tally in self.laps)

    def tally(self) -> Tally:
        """Return all laps as one, in the order of the images."""
        outcomes = np.zeros(self.n_seen, dtype=bool)
        for images, tally in self.laps:
            outcomes[images] = tally.outcomes
        return Tally(int(outcomes.sum()), self.loss_sum, outcomes)
