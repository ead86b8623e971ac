"""What a campaign costs: a model of the time per subnet, fitted to the timings in a score file.

One worker spends on a subnet ``record + build`` seconds, and on each image that it calibrates on or is scored on
``fixed + per_flop * FLOPs``. FLOPs are multiply-adds. Everything else (planning, the store) is per arch.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from wsx.errors import OptionError
from wsx.store import ScoreTable

LEVEL = 0.95
N_RESAMPLES = 1000
MIN_SUBNETS = 8


@dataclass(frozen=True)
class Fit:
    """A cost with its bootstrap interval over subnets, at the 95 % level."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CostModel:
    """Seconds of one worker.

    Attributes:
        record: Per subnet, to record its graph.
        build: Per subnet, to write the model and create the session.
        run_fixed: Per image, whatever the subnet.
        run_per_gflop: Per image and billion multiply-adds.
        calibrate_fixed: Per calibration image, whatever the subnet.
        calibrate_per_gflop: Per calibration image and billion multiply-adds.
        explained: Share of the variance of run times that the model explains.
    """

    record: Fit
    build: Fit
    run_fixed: Fit
    run_per_gflop: Fit
    calibrate_fixed: Fit
    calibrate_per_gflop: Fit
    explained: float

    def seconds(self, gflops: float, n_images: int, n_calibration: int) -> float:
        """Return the time of one subnet on one worker."""
        run = self.run_fixed.value + self.run_per_gflop.value * gflops
        calibrate = self.calibrate_fixed.value + self.calibrate_per_gflop.value * gflops
        once = self.record.value + self.build.value
        return once + n_images * run + n_calibration * calibrate


@dataclass(frozen=True)
class Campaign:
    """Work to be predicted.

    Attributes:
        n_archs: Archs asked for.
        share_run: Share of them that are run, the others taking the score of an equal function.
        gflops: Billion multiply-adds of the mean subnet.
        n_images: Images scored on.
        n_calibration: Images calibrated on.
        n_workers: Subnets scored at once, each as fast as one alone.
    """

    n_archs: int
    share_run: float
    gflops: float
    n_images: int
    n_calibration: int
    n_workers: int

    def seconds(self, model: CostModel, *, per_arch: float) -> float:
        """Return the predicted time.

        Args:
            model: What a subnet costs.
            per_arch: Seconds per arch that no worker shares: planning and the store.
        """
        one = model.seconds(self.gflops, self.n_images, self.n_calibration)
        return self.n_archs * (per_arch + self.share_run * one / self.n_workers)


def fit_costs(table: ScoreTable, *, n_calibration: int, rng: np.random.Generator) -> CostModel:
    """Return the model that fits the subnets of a table that were run.

    Args:
        table: Scores of one campaign; copied scores cost nothing and are left out.
        n_calibration: Images that each subnet was calibrated on, 0 for none.
        rng: Of the bootstrap.

    Raises:
        OptionError: Fewer than eight subnets were run, or their FLOPs are all the same or unknown.
    """
    rows = np.flatnonzero(table.ok & (table.seconds_run > 0) & (table.flops > 0))
    if len(rows) < MIN_SUBNETS:
        raise OptionError(
            f"{len(rows)} subnets were run with known FLOPs; {MIN_SUBNETS} are needed"
        )
    gflops = table.flops[rows] / 1e9
    if np.ptp(gflops) == 0:
        raise OptionError(
            f"all {len(rows)} subnets have {gflops[0]:g} GFLOPs; nothing can be fitted"
        )
    run = table.seconds_run[rows] / table.total[rows]
    calibrate = table.seconds_calibrate[rows] / max(n_calibration, 1)
    columns = [table.seconds_record[rows], table.seconds_build[rows]]

    def costs(pick: NDArray[np.int64]) -> list[float]:
        return [
            *(float(np.median(column[pick])) for column in columns),
            *_line(gflops[pick], run[pick]),
            *_line(gflops[pick], calibrate[pick]),
        ]

    n = len(rows)
    values = costs(np.arange(n))
    drawn = np.array([costs(rng.integers(n, size=n)) for _ in range(N_RESAMPLES)])
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    names = [field.name for field in fields(CostModel)][:-1]
    fits = {
        name: Fit(*map(float, triple))
        for name, *triple in zip(names, values, low, high, strict=True)
    }
    rest = run - (fits["run_fixed"].value + fits["run_per_gflop"].value * gflops)
    explained = 1 - float(rest.var() / run.var()) if run.var() else 1.0
    return CostModel(explained=explained, **fits)


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    # No cost is negative; without that, noise in one trades against the other.
    solution, _ = nnls(np.column_stack([np.ones_like(x), x]), y)
    return float(solution[0]), float(solution[1])
