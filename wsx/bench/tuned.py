"""T1, the strongest loop in eager PyTorch that we know how to write; nobody ships it.

Images are normalised once and stay on the device, in channels_last; the host asks for one number per subnet.
Batch size, thread layout and the form of subnets are those that a search before the measurement found fastest.
bfloat16 is a row of its own, if it is faster here at all.
"""

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue

import torch

from wsx.bench.contenders import BASELINES, Contender
from wsx.bench.subject import Subject
from wsx.bench.subnets import (
    SubnetMaker,
    can_run_in_place,
    extracting_maker,
    in_place_maker,
    resident,
)
from wsx.bench.work import Work
from wsx.spaces import Arch

BATCH_SIZES: dict[str, tuple[int, ...]] = {
    "cpu": (16, 32, 64, 128, 256),
    "cuda": (128, 256, 512, 1024, 2048),
}
IN_PLACE, EXTRACTED, FOLDED = "in the supernet", "extracted", "extracted and folded"
N_SEARCH_IMAGES = 512
N_SEARCH_REPEATS = 3
"""Of each setting the quickest repeat counts."""

N_ARCHS = 16
"""Enough for two cores to be busy to the end; one arch costs what the next does."""

WORTH_IT = 0.95
"""Another precision must take at most this share of the time to get a row."""


@dataclass(frozen=True)
class EagerSettings:
    """How the tuned loop runs.

    Attributes:
        batch_size: Images per batch.
        n_workers: Subnets at once, each on one core; 1 runs one subnet on all cores.
        form: What runs: the supernet itself, a module of the subnet, or that with its norms folded.
        is_bfloat16: Forward passes under bfloat16 autocast; calibration stays in float32.
    """

    batch_size: int
    n_workers: int = 1
    form: str = EXTRACTED
    is_bfloat16: bool = False

    def __str__(self) -> str:
        layout = "one subnet on all cores" if self.n_workers == 1 else "one subnet per core"
        return f"batch {self.batch_size}, {layout}, {self.form}"


class TunedLoop:
    """Scores subnets of a subject under some settings.

    Args:
        subject: What is scored.
        settings: How.
        calibrates: Measure the statistics of calibrated layers; without, only the time of the rest means
            anything.
    """

    def __init__(
        self, subject: Subject, settings: EagerSettings, *, calibrates: bool = True
    ) -> None:
        self._settings = settings
        self._device = subject.torch_device
        self._n_cores = subject.n_cores
        self._batches = resident(subject.images, settings.batch_size, self._device)
        # A supernet holds the statistics of one subnet at a time, so that every thread takes one of its own.
        self._makers: SimpleQueue[SubnetMaker] = SimpleQueue()
        for _ in range(settings.n_workers):
            self._makers.put(_maker(subject, settings.form, calibrates=calibrates))

    def score(self, archs: Sequence[Arch]) -> list[int]:
        """Return the number of images that each arch classifies correctly."""
        n_workers = self._settings.n_workers
        if n_workers == 1:
            return [self._score(arch) for arch in archs]
        try:
            with ThreadPoolExecutor(
                n_workers, initializer=torch.set_num_threads, initargs=(1,)
            ) as pool:
                return list(pool.map(self._score, archs))
        finally:
            # Threads that are made later start with the number that was set last, anywhere.
            torch.set_num_threads(self._n_cores)

    def _score(self, arch: Arch) -> int:
        make = self._makers.get()
        try:
            subnet = make(arch)
            n_correct = torch.zeros((), dtype=torch.int64, device=self._device)
            autocast = torch.autocast(
                self._device.type, torch.bfloat16, enabled=self._settings.is_bfloat16
            )
            with torch.inference_mode(), autocast:
                for x, labels in self._batches:
                    n_correct += (subnet(x).argmax(1) == labels).sum()
            return int(n_correct)
        finally:
            self._makers.put(make)


def _maker(subject: Subject, form: str, *, calibrates: bool) -> SubnetMaker:
    if form == IN_PLACE:
        return in_place_maker(subject, calibrates=calibrates)
    return extracting_maker(subject, is_folded=form == FOLDED, calibrates=calibrates)


@BASELINES.register("t1")
def t1(subject: Subject) -> list[Contender]:
    """Return the tuned loop under the settings found fastest, and in bfloat16 if that is faster still."""
    best = search(subject)
    half = replace(best, is_bfloat16=True)
    contenders = [_contender("t1", subject, best)]
    timed = seconds_per_arch(subject, [best, half])
    if timed[half] < WORTH_IT * timed[best]:
        contenders.append(_contender("t1-bf16", subject, half))
    return contenders


def _contender(name: str, subject: Subject, settings: EagerSettings) -> Contender:
    return Contender(
        name,
        f"tuned eager loop: {settings}",
        subject.mode,
        settings.batch_size,
        TunedLoop(subject, settings).score,
        "bfloat16" if settings.is_bfloat16 else "float32",
        n_archs=N_ARCHS,
    )


def search(subject: Subject) -> EagerSettings:
    """Return the fastest settings on an arch of middling cost and a few images.

    The best batch size of each thread layout is found on forward passes alone; these then compete in every form
    of subnets, with calibration. On a GPU there is one layout. Where batches decide the scores, their size is
    given.
    """
    sizes = BATCH_SIZES[subject.device.kind]
    if subject.mode.kind == "batch" and subject.batch_size:
        sizes = (subject.batch_size,)
    # No batch is larger than there are images.
    sizes = tuple(dict.fromkeys(min(size, len(subject.images)) for size in sizes))
    layouts = {1} if subject.device.kind == "cuda" else {1, subject.n_cores}
    forms = [IN_PLACE] * can_run_in_place(subject) + [EXTRACTED]
    forms += [FOLDED] * (subject.mode.kind != "batch")
    finalists = []
    for n_workers in sorted(layouts):
        settings = [EagerSettings(size, n_workers, forms[0]) for size in sizes]
        timed = seconds_per_arch(subject, settings, calibrates=False)
        best = min(timed, key=timed.__getitem__)
        finalists += [replace(best, form=form) for form in forms]
    timed = seconds_per_arch(subject, finalists)
    return min(timed, key=timed.__getitem__)


def seconds_per_arch(
    subject: Subject, settings: Sequence[EagerSettings], *, calibrates: bool = True
) -> dict[EagerSettings, float]:
    """Return the seconds per arch of some settings on one arch and a few images, measured in turns."""
    n_images = min(N_SEARCH_IMAGES, len(subject.images))
    few = replace(subject, images=subject.images.take(n_images))
    # Cores that work side by side have the same arch, or the slower one would decide between layouts.
    archs = Work(subject).spread(1) * subject.n_cores
    loops = {some: TunedLoop(few, some, calibrates=calibrates) for some in settings}
    for loop in loops.values():
        loop.score(archs[:1])
    timed = dict.fromkeys(settings, math.inf)
    for _ in range(N_SEARCH_REPEATS):
        for some, loop in loops.items():
            timed[some] = min(timed[some], _seconds(loop, archs) / len(archs))
    return timed


def _seconds(loop: TunedLoop, archs: Sequence[Arch]) -> float:
    start_s = time.perf_counter()
    loop.score(archs)
    return time.perf_counter() - start_s
