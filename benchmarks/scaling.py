"""How long campaigns would take on this machine: a cost model fitted to a score file, and what it predicts.

    python -m benchmarks.scaling SCORES.h5 [--json FILE]

The score file holds the timings of one worker per subnet; score it with as many workers as cores, so that they
compete for memory as they will. Planning and the store are measured here, one thread each.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from wsx.bench.scaling import Campaign, fit_costs
from wsx.bench.subject import random_supernet
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.subnets import SubnetRecorder
from wsx.store import Score, ScoreKey, ScoreTable, open_store

# Mean of the public table over all archs.
NASBENCH201_MEAN_GFLOPS = 0.05497
CAMPAIGNS = {
    "NAS-Bench-201, all, C=16 N=5, 10,000 images": (15_625, 8_196 / 15_625),
    "a million archs of a space without equal functions": (1_000_000, 1.0),
}


def store_seconds(table: ScoreTable, n_rows: int) -> float:
    """Return the time to append and fold one score of so many images, mean over many."""
    n_images = int(table.total[0])
    bits = np.packbits(np.zeros(n_images, dtype=bool)).tobytes()
    key = ScoreKey("x", "0" * 64, "noise", "0" * 64, "running", "", 0, "float32", "none")
    score = table.score(int(np.flatnonzero(table.ok)[0]))
    rows = [_row(score, number, bits) for number in range(n_rows)]
    with tempfile.TemporaryDirectory() as folder:
        start_s = time.perf_counter()
        with open_store(Path(folder) / "scores.h5", "a") as store:
            campaign = store.campaign(key, image_ids=np.arange(n_images), info={})
            for start in range(0, n_rows, 16):
                campaign.append(rows[start : start + 16])
        return (time.perf_counter() - start_s) / n_rows


def _row(score: Score, number: int, bits: bytes) -> Score:
    arch = tuple(number // 10**place % 10 for place in range(len(score.arch)))
    text = f"{number}"
    return dataclasses.replace(score, arch=arch, text=text, function_key=text, correct=0, bits=bits)


def planning_seconds(n_archs: int) -> float:
    """Return the time to find the function of an arch of NAS-Bench-201, mean over many."""
    net = random_supernet("nasbench201", {"channels": 16, "cells": 5}, seed=0)
    recorder = SubnetRecorder(net, BatchNormMode("running"))
    archs = net.space.sample(n_archs, rng=np.random.default_rng(0), measure="encodings")
    start_s = time.perf_counter()
    for arch in archs:
        recorder.record(arch)
    return (time.perf_counter() - start_s) / n_archs


def main() -> None:
    """Fit, predict and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2, 64])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    store = open_store(options.scores)
    key = store.keys()[0]
    table = store.read(key)
    mode = BatchNormMode.parse(key.bn)
    model = fit_costs(table, n_calibration=mode.n_images, rng=np.random.default_rng(0))
    facts = dataclasses.asdict(model)
    for name, fit in facts.items():
        if isinstance(fit, dict):
            print(f"{name:<20} {fit['value']:.3e} s [{fit['low']:.3e}, {fit['high']:.3e}]")
    print(f"explained share of the variance of run times: {model.explained:.3f}")
    per_arch = {"plan": planning_seconds(300), "store": store_seconds(table, 4000)}
    print(f"per arch, not shared by workers: {per_arch}")
    predictions = {}
    for name, (n_archs, share) in CAMPAIGNS.items():
        for n_workers in options.cores:
            campaign = Campaign(n_archs, share, NASBENCH201_MEAN_GFLOPS, 10_000, 1024, n_workers)
            hours = campaign.seconds(model, per_arch=sum(per_arch.values())) / 3600
            predictions[f"{name}, {n_workers} cores"] = hours
            print(f"{name}, calibrated 4x256, {n_workers} cores: {hours:,.1f} h")
    if options.json is not None:
        values = {"model": facts, "per_arch_s": per_arch, "predicted_h": predictions}
        options.json.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
