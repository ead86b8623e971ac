import time

import pytest

from wsx.bench.interleave import Spread, interleave, ratio, ratio_rows
from wsx.errors import OptionError


class Clock:
    """A clock that only jobs advance."""

    def __init__(self, monkeypatch):
        self.now_s = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now_s)

    def job(self, *durations_s):
        durations = iter(durations_s)

        def run():
            took_s = next(durations)
            self.now_s += took_s
            return took_s

        return run


def test_every_repeat_does_each_job_once_in_order(monkeypatch):
    clock, laps = Clock(monkeypatch), []
    jobs = {"a": clock.job(1.0, 2.0), "b": clock.job(4.0, 5.0)}

    def on_lap(name, seconds, result):
        clock.now_s += 100.0  # what a listener does is nobody's time
        laps.append((name, seconds, result))

    assert interleave(jobs, 2, on_lap) == {"a": [1.0, 2.0], "b": [4.0, 5.0]}
    assert laps == [("a", 1.0, 1.0), ("b", 4.0, 4.0), ("a", 2.0, 2.0), ("b", 5.0, 5.0)]


def test_ratios_are_taken_within_repeats():
    # The machine was half as fast in the second repeat; within it nothing changed.
    assert ratio([6.0, 12.0, 9.0], [2.0, 4.0, 2.0]) == Spread(3.0, 3.0, 4.5)


def test_rows_of_known_times():
    rows = ratio_rows({"mine": [2.0, 3.0, 4.0], "other": [8.0, 9.0, 40.0]}, 6, "mine")
    assert rows[0] == {
        "job": "mine",
        "items_per_min": 120.0,
        "ms_per_item": 500.0,
        "ratio": 1.0,
        "ratio_min": 1.0,
        "ratio_max": 1.0,
    }
    assert rows[1]["items_per_min"] == 40.0
    assert (rows[1]["ratio"], rows[1]["ratio_min"], rows[1]["ratio_max"]) == (4.0, 3.0, 10.0)


def test_unequal_numbers_of_repeats_are_refused():
    with pytest.raises(ValueError, match="argument 2"):
        ratio([1.0, 2.0], [1.0])


@pytest.mark.parametrize("n", [0, -1])
def test_no_repeats_are_refused(n):
    with pytest.raises(OptionError, match="--repeats"):
        interleave({"a": lambda: None}, n)
