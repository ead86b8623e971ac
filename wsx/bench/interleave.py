"""Interleaved repeats and the ratios of their times."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsx.errors import OptionError

Lap = Callable[[str, float, Any], None]
"""Called after each repeat of a job with its name, its seconds and what it returned."""


@dataclass(frozen=True)
class Spread:
    """Median, least and largest of a number over the repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of some values."""
        return cls(statistics.median(values), min(values), max(values))


def interleave(
    jobs: Mapping[str, Callable[[], object]], n_repeats: int, on_lap: Lap | None = None
) -> dict[str, list[float]]:
    """Return the seconds of every repeat of every job; repeat by repeat, each job once.

    Interleaving spreads whatever else the machine does over all jobs alike. What ``on_lap`` does is not timed.

    Raises:
        OptionError: There are no repeats.
    """
    if n_repeats < 1:
        raise OptionError(f"--repeats is {n_repeats}; it must be at least 1")
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(n_repeats):
        for name, job in jobs.items():
            start_s = time.perf_counter()
            result = job()
            seconds[name].append(time.perf_counter() - start_s)
            if on_lap is not None:
                on_lap(name, seconds[name][-1], result)
    return seconds


def ratio(seconds: Sequence[float], reference: Sequence[float]) -> Spread:
    """Return how many times as long something takes as the reference, taken within each repeat."""
    return Spread.of([mine / its for mine, its in zip(seconds, reference, strict=True)])


def ratio_rows(
    seconds: Mapping[str, list[float]], n_items: int, reference: str
) -> list[dict[str, float | str]]:
    """Return per job the median items per minute, and the reference's speed over its, with its spread."""
    rows: list[dict[str, float | str]] = []
    for name, times in seconds.items():
        spread = ratio(times, seconds[reference])
        rows.append(
            {
                "job": name,
                "items_per_min": 60 * n_items / statistics.median(times),
                "ms_per_item": 1e3 * statistics.median(times) / n_items,
                "ratio": spread.median,
                "ratio_min": spread.low,
                "ratio_max": spread.high,
            }
        )
    return rows
