"""Merging: how much work subnets have in common in four populations, and what sharing it saves in time.

    python -m benchmarks.merging [--bn MODE] [--no-timing] [--json FILE]

The share of multiply-adds is counted on the recorded graphs. Times are of two ProxylessNAS-like populations,
scored in ONNX Runtime on one core with and without merging, interleaved; scores must be equal.
"""

import argparse
import json
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsx.bench.interleave import Spread, interleave, ratio
from wsx.bench.subject import random_images, random_supernet
from wsx.evaluators.batches import DeviceImages
from wsx.evaluators.calibration import Calibrator
from wsx.evaluators.devices import CPU, SessionFactory
from wsx.evaluators.engines import OnnxEngine
from wsx.evaluators.merging import MergeLimits, MergePlanner, Work
from wsx.evaluators.plan import Bundle, make_plan
from wsx.evaluators.sources import SupernetSource
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES, Arch, Space

BATCH_SIZE = 32
NASBENCH201 = {"channels": 16, "cells": 5}
PROXYLESSNAS = {"width_percent": 50, "image_size": 64, "n_classes": 10}


@dataclass(frozen=True)
class Population:
    """Archs, and the supernet that they are scored with."""

    name: str
    space: str
    options: dict[str, int]
    archs: list[Arch]
    is_timed: bool = False


def children(space: Space, *, n_parents: int, n_children: int, seed: int) -> list[Arch]:
    """Return children of random parents, which differ from theirs in one or two layers."""
    rng = np.random.default_rng(seed)
    parents = space.sample(n_parents, rng=rng, measure="encodings")
    found = []
    for number in range(n_children):
        child = parent = parents[number % n_parents]
        n_changed = int(rng.integers(1, 3))
        while sum(a != b for a, b in zip(child, parent, strict=True)) < n_changed:
            child = space.mutate(child, rng=rng)
        found.append(child)
    return found


def populations(seed: int) -> list[Population]:
    """Return the four populations."""
    rng = np.random.default_rng(seed)
    cells, layers = SPACES["nasbench201"], SPACES["proxylessnas"]
    some_cells = cells.sample(200, rng=rng, measure="encodings")
    some_layers = layers.sample(200, rng=rng, measure="encodings")
    mutants = children(layers, n_parents=10, n_children=200, seed=seed)
    of_cells, of_layers = ("nasbench201", NASBENCH201), ("proxylessnas", PROXYLESSNAS)
    return [
        Population("random NAS-Bench-201", *of_cells, some_cells),
        Population("all of NAS-Bench-201", *of_cells, list(cells.enumerate())),
        Population("random ProxylessNAS", *of_layers, some_layers, is_timed=True),
        Population("children of 10 ProxylessNAS parents", *of_layers, mutants, is_timed=True),
    ]


class Bench:
    """One population under one BatchNorm mode."""

    def __init__(self, population: Population, mode: BatchNormMode, n_images: int) -> None:
        self._population = population
        net = random_supernet(population.space, population.options, seed=0)
        self._recorder = SubnetRecorder(net, mode)
        self._mode = mode
        self._work = Work(n_images, mode.n_images, max(BATCH_SIZE, mode.batch_size))

    def bundles(self, limits: MergeLimits) -> tuple[list[Bundle], float, int]:
        """Return what a planner makes of the population, the seconds it took, and bytes kept per function."""
        archs = self._population.archs
        n_bytes = self._bytes_per_function(archs[:100])
        planner = self._planner(limits)
        start_s = time.perf_counter()
        plan = make_plan(archs, finished=set(), known={}, function_key=planner.function_key)
        bundles = planner.bundles(plan.groups, 1)
        return bundles, time.perf_counter() - start_s, n_bytes

    def _planner(self, limits: MergeLimits) -> MergePlanner:
        return MergePlanner(self._recorder.record, self._recorder.weights, self._work, limits)

    def _bytes_per_function(self, archs: Sequence[Arch]) -> int:
        for arch in archs:
            # What recording learns of the supernet is kept beside the planner.
            self._recorder.record(arch)
        planner = self._planner(MergeLimits())
        tracemalloc.start()
        keys = {planner.function_key(arch) for arch in archs}
        n_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return n_bytes // len(keys)

    def engine(self) -> OnnxEngine:
        """Return the engine that scores the population's subnets on noise."""
        size = self._population.options.get("image_size", 32)
        factory = SessionFactory(self._recorder.weights, CPU)
        calibrator = None
        if self._mode.kind == "calibrated":
            train = random_images(self._mode.n_images, 1, shape=(3, size, size))
            calibrator = Calibrator(factory, self._recorder.weights, train, self._mode)
        source = SupernetSource(self._recorder, "benchmark", CPU, calibrator)
        images = random_images(self._work.n_images, 0, shape=(3, size, size))
        pads = self._mode.kind != "batch"
        return OnnxEngine(source, factory, DeviceImages(images, BATCH_SIZE, CPU, pads=pads))


def run(engine: OnnxEngine, bundles: Sequence[Bundle]) -> dict[Arch, tuple[int, float]]:
    """Score bundles; return counts and losses."""
    scores: dict[Arch, tuple[int, float]] = {}
    for bundle in bundles:
        archs = [group.archs[0] for group in bundle.groups]
        together = len(archs) > 1
        found = engine.score_together(archs) if together else [engine.score(archs[0])]
        scores |= {
            arch: (tally.correct, tally.loss_sum)
            for arch, (tally, _) in zip(archs, found, strict=True)
        }
    return scores


def time_ratio(
    bench: Bench, bundles: list[Bundle], n_bundles: int | None, n_repeats: int
) -> Spread:
    """Return the time one by one over the time of bundles; of some of them, evenly spaced, if asked."""
    places = np.linspace(0, len(bundles) - 1, min(n_bundles or len(bundles), len(bundles)))
    some = [bundles[place] for place in dict.fromkeys(places.astype(int).tolist())]
    alone = [Bundle([group]) for bundle in some for group in bundle.groups]
    engine = bench.engine()
    if run(engine, some) != run(engine, alone):
        raise SystemExit("merging changed a score")
    seconds = interleave(
        {"together": lambda: run(engine, some), "alone": lambda: run(engine, alone)}, n_repeats
    )
    return ratio(seconds["alone"], seconds["together"])


def measure(population: Population, options: argparse.Namespace) -> dict[str, float | str]:
    """Return one row of the table."""
    bench = Bench(population, BatchNormMode.parse(options.bn), options.images)
    bundles, seconds, n_bytes = bench.bundles(MergeLimits(n_subnets=options.subnets))
    apart = sum(bundle.cost_apart for bundle in bundles)
    together = sum(bundle.cost_together for bundle in bundles)
    n_merged = [len(bundle.groups) for bundle in bundles if len(bundle.groups) > 1]
    row: dict[str, float | str] = {
        "population": population.name,
        "archs": len(population.archs),
        "functions": sum(len(bundle.groups) for bundle in bundles),
        "merged": sum(n_merged),
        "models": len(bundles),
        "saved": 1 - together / apart,
        "plan_ms_per_arch": 1e3 * seconds / len(population.archs),
        "plan_bytes_per_function": n_bytes,
    }
    if population.is_timed and not options.no_timing:
        found = time_ratio(bench, bundles, options.bundles, options.repeats)
        row |= {"ratio": found.median, "ratio_min": found.low, "ratio_max": found.high}
    return row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bn", default="calibrated:2x128")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--subnets", type=int, default=MergeLimits().n_subnets)
    parser.add_argument("--bundles", type=int, help="how many are timed; default all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-timing", action="store_true")
    parser.add_argument("--only", type=int, help="number of one population, from 0")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chosen = populations(0)
    rows = []
    for population in chosen if options.only is None else [chosen[options.only]]:
        row = measure(population, options)
        rows.append(row)
        print(
            f"{row['population']:<36} {row['archs']:>6} archs {row['functions']:>6} functions "
            f"{row['models']:>6} models  saved {row['saved']:.1%}  planned in "
            f"{row['plan_ms_per_arch']:.2f} ms/arch, {row['plan_bytes_per_function']} bytes/function",
            flush=True,
        )
        if "ratio" in row:
            print(
                f"  time ratio {row['ratio']:.2f} ({row['ratio_min']:.2f}-{row['ratio_max']:.2f})"
            )
    if options.json is not None:
        options.json.write_text(json.dumps({"bn": options.bn, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
