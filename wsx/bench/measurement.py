"""Interleaved repeats of contenders, every count of which is compared with wsx's."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wsx.bench.agreement import Agreement, Reference
from wsx.bench.contenders import Contender
from wsx.bench.interleave import interleave
from wsx.bench.machine import PeakMemory
from wsx.bench.own import NAME
from wsx.bench.subject import Subject
from wsx.bench.work import Work
from wsx.spaces import Arch

N_WARM = 2
"""Archs that every contender scores, and agrees on, before anything is timed."""


@dataclass(frozen=True)
class BenchListener:
    """Callbacks of a measurement; each gets what is done, what there is in all, and what comes next.

    Attributes:
        on_prepared: Counts baselines made ready, searches for settings included.
        on_warmed: Counts contenders that scored and agreed on a few archs.
        on_measured: Counts seconds of the measurement, as the warm-up foretells them.
    """

    on_prepared: Callable[[int, int, str], None] = lambda done, total, note: None
    on_warmed: Callable[[int, int, str], None] = lambda done, total, note: None
    on_measured: Callable[[int, int, str], None] = lambda done, total, note: None


class Measurement:
    """Measures contenders.

    Args:
        subject: What is scored.
        work: What it costs.
        contenders: wsx first.
        listener: Progress callbacks.

    Attributes:
        archs: What each contender scores in each repeat, by name.
        seconds: Of each repeat, by name.
        peaks: Largest bytes in use, by name and kind.
        agreements: How the counts of the last repeat compare, by name.
    """

    def __init__(
        self,
        subject: Subject,
        work: Work,
        contenders: Sequence[Contender],
        listener: BenchListener,
    ) -> None:
        self.archs = {contender.name: work.spread(contender.n_archs) for contender in contenders}
        self.seconds: dict[str, list[float]] = {}
        self._subject = subject
        self._contenders = {contender.name: contender for contender in contenders}
        self._listener = listener
        self._reference = Reference(subject)
        self._memory = PeakMemory(subject.torch_device)
        self.peaks: dict[str, dict[str, int]] = {name: {} for name in self._contenders}
        self.agreements: dict[str, Agreement] = {}

    def run(self, n_repeats: int) -> None:
        """Warm up, and measure.

        Raises:
            WsxError: A count differs from wsx's by more than its near-ties.
        """
        expected_s = self._warm_up()
        total_s, done_s = max(1, round(n_repeats * sum(expected_s.values()))), 0.0

        def on_lap(name: str, seconds: float, counts: list[int]) -> None:
            nonlocal done_s
            for kind, n in self._memory.read().items():
                self.peaks[name][kind] = max(n, self.peaks[name].get(kind, 0))
            self._compare(name, self.archs[name], counts)
            done_s += expected_s[name]
            self._listener.on_measured(round(done_s), total_s, f"{name} took {seconds:.1f} s")

        jobs = {name: self._job(name) for name in self._contenders}
        self.seconds = interleave(jobs, n_repeats, on_lap)

    def _job(self, name: str) -> Callable[[], list[int]]:
        archs, score = self.archs[name], self._contenders[name].score

        def job() -> list[int]:
            self._memory.reset()
            return score(archs)

        return job

    def _warm_up(self) -> dict[str, float]:
        """Return the seconds that a repeat of each contender will take."""
        few, expected_s = self._subject.archs[:N_WARM], {}
        for n_done, (name, contender) in enumerate(self._contenders.items()):
            self._listener.on_warmed(n_done, len(self._contenders), name)
            start_s = time.perf_counter()
            counts = contender.score(few)
            seconds = time.perf_counter() - start_s
            expected_s[name] = seconds * len(self.archs[name]) / len(few)
            self._compare(name, few, counts)
        self._listener.on_warmed(len(self._contenders), len(self._contenders), "")
        return expected_s

    def _compare(self, name: str, archs: Sequence[Arch], counts: Sequence[int]) -> None:
        contender, found = self._contenders[name], dict(zip(archs, counts, strict=True))
        if name == NAME:
            self._reference.learn(contender, found)
        self.agreements[name] = self._reference.check(contender, found)
