"""Interleaved repeats, medians and ratios: how every benchmark here measures and prints."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from wsx.supernets import Supernet, build_supernet


def interleave(jobs: Mapping[str, Callable[[], object]], n_repeats: int) -> dict[str, list[float]]:
    """Return the seconds of every repeat of every job; repeat by repeat, each job once.

    Interleaving spreads whatever else the machine does over all jobs alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(n_repeats):
        for name, job in jobs.items():
            start_s = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - start_s)
    return seconds


def ratio_rows(
    seconds: Mapping[str, list[float]], n_items: int, reference: str
) -> list[dict[str, float | str]]:
    """Return per job the median items per minute, and the reference's speed over its, with its spread.

    The ratio is taken within each repeat; its median, least and largest over repeats are given.
    """
    rows: list[dict[str, float | str]] = []
    for name, times in seconds.items():
        ratios = [t / r for t, r in zip(times, seconds[reference], strict=True)]
        rows.append(
            {
                "job": name,
                "items_per_min": 60 * n_items / statistics.median(times),
                "ms_per_item": 1e3 * statistics.median(times) / n_items,
                "ratio": statistics.median(ratios),
                "ratio_min": min(ratios),
                "ratio_max": max(ratios),
            }
        )
    return rows


def print_rows(title: str, rows: list[dict[str, float | str]], out: Path | None) -> None:
    """Print rows as a table, and write them as JSON if a path is given."""
    print(title)
    for row in rows:
        print(
            f"  {row['job']:<44} {row['items_per_min']:>10.1f} /min {row['ms_per_item']:>10.2f} ms"
            f"   ratio {row['ratio']:.2f} ({row['ratio_min']:.2f}-{row['ratio_max']:.2f})"
        )
    if out is not None:
        out.write_text(json.dumps({"title": title, "rows": rows}, indent=2) + "\n")


def random_supernet(*, channels: int, cells: int, seed: int) -> Supernet:
    """Return a NAS-Bench-201 supernet whose norm layers are not ones and zeros, in evaluation mode."""
    net = build_supernet("nasbench201", {"channels": channels, "cells": cells}, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                if tensor is not None:
                    nn.init.normal_(tensor, generator=generator)
            if module.running_var is not None:
                nn.init.uniform_(module.running_var, 0.5, 2.0, generator=generator)
    return net.eval()
