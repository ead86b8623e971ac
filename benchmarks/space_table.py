"""Every image space at a real size: parity, cost of an export, and archs scored per minute against the eager loop.

    python -m benchmarks.space_table [SPACE ...] [--json FILE]

Weights are random, norm layers and their statistics too; images are noise. Per space one line: the largest
difference of a logit between ``supernet(x, arch)``, the extracted module and ONNX Runtime relative to the largest
logit, images whose top-1 differs, milliseconds and bytes per exported subnet, archs scored per minute and the
speed over the eager loop (channels_last, batch 64) in the same run.
"""

import argparse
import dataclasses
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsx.bench.contenders import all_cores
from wsx.bench.interleave import interleave, ratio_rows
from wsx.bench.own import OwnPath
from wsx.bench.subject import Conditions, Subject, random_subject
from wsx.bench.tuned import EagerSettings, TunedLoop
from wsx.data import ImageSet
from wsx.evaluators.devices import CPU, SessionFactory
from wsx.evaluators.eager import EagerOracle
from wsx.evaluators.verify import Agreement, EqualityGate
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.emit import emit_subnet
from wsx.exporters.export import export_subnets
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import Arch
from wsx.supernets import Supernet

MODE = BatchNormMode("running")
N_EXPORTED = 40


@dataclass(frozen=True)
class Size:
    """At which size a space is measured."""

    options: dict[str, Any] = field(default_factory=dict)
    image_size: int = 32
    n_archs: int = 12
    n_images: int = 256


SIZES = {
    "nasbench201": Size({"channels": 16, "cells": 5}),
    "nasbench101": Size({"channels": 64}),
    "nasbench101-1shot1c": Size({"channels": 64}),
    "darts": Size({"channels": 16, "cells": 8}),
    "darts-nds": Size({"channels": 16, "cells": 8}),
    "cell64": Size({"channels": 16}),
    "proxylessnas": Size({}, image_size=64),
    "nasbenchmacro": Size({}),
}


def agreements(net: Supernet, archs: list[Arch], images: ImageSet) -> list[Agreement]:
    """Return how the three paths of each arch agree."""
    recorder = SubnetRecorder(net, MODE)
    factory = SessionFactory(recorder.weights, CPU)
    gate = EqualityGate(EagerOracle(net, MODE, None), recorder, factory, images, None)
    found = []
    for arch in archs:
        model = emit_subnet(recorder.record(arch), recorder.weights)
        found.append(gate.check(arch, model.SerializeToString()))
    return found


def exported(net: Supernet, archs: list[Arch]) -> tuple[float, float, int]:
    """Return milliseconds and bytes per exported subnet, and the bytes of the shared weight file."""
    recorder = SubnetRecorder(net, MODE)
    with tempfile.TemporaryDirectory() as folder:
        facts = {"checkpoint_sha256": "benchmark"}
        report = export_subnets(recorder, archs, Path(folder) / "subnets", facts=facts)
        rows = report.folder.rows.values()
        n_bytes = sum(row.n_bytes for row in rows) / len(rows)
    return 1e3 * report.seconds / len(archs), n_bytes, recorder.weights.n_bytes


def timed(subject: Subject, archs: list[Arch], n_repeats: int) -> dict[str, list[float]]:
    """Return the seconds that wsx, everything included, and the eager loop take."""
    own, eager = OwnPath(subject), TunedLoop(subject, EagerSettings(64))
    jobs = {"wsx": lambda: own.score(archs), "eager": lambda: eager.score(archs)}
    with all_cores(subject.n_cores):
        return interleave(jobs, n_repeats)


def measure(name: str, size: Size, n_repeats: int) -> dict[str, Any]:
    """Return the line of one space."""
    options = {**size.options, "image_size": size.image_size}
    n_archs = max(size.n_archs, N_EXPORTED)
    subject = random_subject(name, options, Conditions(n_archs, size.n_images, MODE))
    net, archs, few = subject.supernet, subject.archs, subject.archs[: size.n_archs]
    gaps = agreements(net, few, subject.images.take(64))
    ms, n_bytes, n_weight_bytes = exported(net, archs)
    rows = ratio_rows(timed(subject, few, n_repeats), len(few), "wsx")
    return {
        "space": name,
        **dataclasses.asdict(size),
        "largest_relative_difference": max(gap.largest_difference / gap.scale for gap in gaps),
        "n_top1_flips": sum(gap.n_wrong + gap.n_near_ties for gap in gaps),
        "n_compared": sum(gap.n_images for gap in gaps),
        "export_ms": ms,
        "export_bytes": n_bytes,
        "weight_file_bytes": n_weight_bytes,
        "archs_per_min": rows[0]["items_per_min"],
        "ratio": rows[1]["ratio"],
        "ratio_min": rows[1]["ratio_min"],
        "ratio_max": rows[1]["ratio_max"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spaces", nargs="*", default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    lines = []
    for name in options.spaces:
        line = measure(name, SIZES[name], options.repeats)
        lines.append(line)
        print(
            f"{name:<20} {line['n_archs']} archs x {line['n_images']} images of {line['image_size']} px: "
            f"difference {line['largest_relative_difference']:.1e}, "
            f"{line['n_top1_flips']} of {line['n_compared']} top-1 differ, "
            f"export {line['export_ms']:.1f} ms {line['export_bytes']:,.0f} bytes "
            f"(weights {line['weight_file_bytes']:,}), "
            f"{line['archs_per_min']:.0f} archs/min, {line['ratio']:.2f} times eager "
            f"({line['ratio_min']:.2f}-{line['ratio_max']:.2f})",
            flush=True,
        )
    if options.json is not None:
        options.json.write_text(json.dumps(lines, indent=2) + "\n")


if __name__ == "__main__":
    main()
