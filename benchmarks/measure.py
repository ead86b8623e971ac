"""Interleaved repeats, medians and ratios: how every benchmark here measures and prints."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from wsx.data import ImageSet
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


def random_supernet(space: str, options: Mapping[str, Any], *, seed: int) -> Supernet:
    """Return a supernet whose norm layers are not ones and zeros, in evaluation mode."""
    net = build_supernet(space, options, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if not hasattr(module, "running_mean"):
            continue
        for name in ("weight", "bias", "running_mean"):
            if (tensor := getattr(module, name, None)) is not None:
                nn.init.normal_(tensor, generator=generator)
        if isinstance(module.running_var, torch.Tensor):
            nn.init.uniform_(module.running_var, 0.5, 2.0, generator=generator)
    return net.eval()


def random_images(n: int, seed: int, *, size: int = 32) -> ImageSet:
    """Return images of noise, which cost what any images cost."""
    rng = np.random.default_rng(seed)
    return ImageSet(
        dataset="noise",
        split="test",
        pixels=rng.integers(256, size=(n, 3, size, size), dtype=np.uint8),
        labels=rng.integers(10, size=n),
        ids=np.arange(n),
        source="all",
        class_names=tuple("0123456789"),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
