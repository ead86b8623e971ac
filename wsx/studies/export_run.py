"""Exporting the subnets of a run."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsx.data import TextDataset
from wsx.errors import OptionError
from wsx.evaluators.calibration import Calibrator
from wsx.evaluators.devices import CPU, SessionFactory
from wsx.evaluators.verify import Agreement
from wsx.exporters.export import ExportReport, export_subnets
from wsx.exporters.folder import SubnetRow
from wsx.spaces import Arch
from wsx.spaces.choice import ArchChoice
from wsx.studies.run_subnets import RunSubnets
from wsx.training.text_data import copy_vocabulary


@dataclass(frozen=True)
class VerifiedExport:
    """An export, and how a sample of it agrees with PyTorch."""

    report: ExportReport
    agreements: list[Agreement]

    @property
    def wrong(self) -> list[Agreement]:
        """Subnets that do not agree."""
        return [agreement for agreement in self.agreements if not agreement.is_equal]

    @property
    def problems(self) -> list[str]:
        """One sentence per subnet that failed or does not agree."""
        failed = [f"{text}: {error}" for text, error in self.report.failures.items()]
        return failed + [
            f"{a.arch}: top-1 differs on {a.n_wrong} of {a.n_images} images, largest difference "
            f"{a.largest_difference:.3g} of {a.scale:.3g}"
            for a in self.wrong
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the export in numbers, JSON-clean."""
        report, n_written = self.report, self.report.n_written
        largest = [a.largest_difference / a.scale for a in self.agreements if a.scale]
        return {
            "folder": str(report.folder.path),
            "written": n_written,
            "there already": report.n_skipped,
            "failed": len(report.failures),
            "subnets/s": round(n_written / report.seconds, 1) if n_written else None,
            "bytes": report.folder.n_bytes,
            "bytes per subnet": report.folder.n_bytes // max(1, len(report.folder.rows)),
            "verified": len(self.agreements),
            "disagreeing": len(self.wrong),
            "near-ties": sum(a.n_near_ties for a in self.agreements),
            "largest relative difference": max(largest, default=None),
        }


def export_run(
    subnets: RunSubnets,
    out: Path,
    *,
    choice: ArchChoice,
    exporter: str = "wsx",
    n_verified: int | None = 4,
    on_subnet: Callable[[SubnetRow, int, int], None] | None = None,
    on_verified: Callable[[int, int], None] | None = None,
) -> VerifiedExport:
    """Export subnets of a run, and compare a sample of them with PyTorch.

    Args:
        subnets: The run's checkpoint and BatchNorm mode.
        out: The folder to export into.
        choice: Which archs.
        exporter: ``wsx`` or ``torch``.
        n_verified: How many subnets the equality gate compares, drawn among those asked for; None takes all.
        on_subnet: Called with each written row, the number done and the number in all.
        on_verified: Called with the number compared and the number to compare.

    Raises:
        OptionError: An option is unknown or out of range.
        ExportError: The folder holds something else.
    """
    archs = choice.archs(subnets.recorder.space)
    if exporter == "torch" and isinstance(subnets.dataset, TextDataset):
        raise OptionError("exporter torch takes subnets of images; leave --exporter out")
    calibrator = subnets.calibrator(CPU)
    facts = {
        "checkpoint_sha256": subnets.checkpoint_sha256,
        "data": asdict(subnets.run.config.data),
        "dataset": subnets.dataset.name,
        "bn_images_sha256": subnets.bn_images_sha256,
    }
    report = export_subnets(
        subnets.recorder,
        archs,
        out,
        facts=facts,
        calibrate=calibrator,
        exporter=exporter,
        on_subnet=on_subnet,
    )
    if isinstance(subnets.dataset, TextDataset):
        copy_vocabulary(subnets.run.path, out)
    exported = [arch for arch in dict.fromkeys(archs) if arch in report.folder.rows]
    return VerifiedExport(
        report, _verify(subnets, report, exported, calibrator, n_verified, on_verified)
    )


def _verify(
    subnets: RunSubnets,
    report: ExportReport,
    archs: list[Arch],
    calibrator: Calibrator | None,
    n_verified: int | None,
    on_verified: Callable[[int, int], None] | None,
) -> list[Agreement]:
    n = len(archs) if n_verified is None else min(n_verified, len(archs))
    if n < 0:
        raise OptionError(f"--verify is {n_verified}; it must be all or at least 0")
    if n == 0:
        return []
    gate = subnets.gate(SessionFactory(report.folder.weights, CPU), calibrator)
    agreements = []
    # The sample is spread over the export by a fixed seed, so that a repeated command repeats it.
    for n_done, i in enumerate(np.random.default_rng(0).permutation(len(archs))[:n], 1):
        agreements.append(gate.check(archs[i], report.folder.read(archs[i])))
        if on_verified is not None:
            on_verified(n_done, n)
    return agreements
