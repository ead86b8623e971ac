"""Exporting a population: every subnet as an ONNX file of its own, in one folder."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsx.errors import ExportError, OptionError, WsxError
from wsx.exporters.batchnorm import Statistics
from wsx.exporters.cost import subnet_cost
from wsx.exporters.emit import subnet_bytes
from wsx.exporters.extract import to_module
from wsx.exporters.folder import ExportFolder, SubnetRow, create_folder
from wsx.exporters.graph import Graph
from wsx.exporters.official import export_official
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import Arch, Cost
from wsx.spaces.loading import space_facts, space_origin
from wsx.version import __version__

EXPORTERS = ("wsx", "torch")


@dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes:
        folder: Where the subnets are.
        n_written: Subnets written now.
        n_skipped: Subnets that were there already.
        failures: Archs that could not be exported, in text form, and why.
        seconds: Time taken to record, calibrate, emit and write.
    """

    folder: ExportFolder
    n_written: int
    n_skipped: int
    failures: dict[str, str]
    seconds: float


def export_subnets(
    recorder: SubnetRecorder,
    archs: Sequence[Arch],
    out: Path,
    *,
    facts: Mapping[str, Any],
    calibrate: Callable[[Graph], Statistics] | None = None,
    exporter: str = "wsx",
    on_subnet: Callable[[SubnetRow, int, int], None] | None = None,
) -> ExportReport:
    """Write subnets into a folder; those that it already holds are skipped.

    Args:
        recorder: The supernet's recorder, in the BatchNorm mode to export.
        archs: Which subnets; repeats are written once.
        out: The folder.
        facts: Goes into the manifest: ``checkpoint_sha256``, and where the data came from.
        calibrate: Measures statistics, for the calibrated mode.
        exporter: ``wsx``, or ``torch`` for PyTorch's own.
        on_subnet: Called with each written row, the number done and the number in all.

    Raises:
        OptionError: There is no such exporter.
        ExportError: The folder holds something else, or the disk is full.
    """
    if exporter not in EXPORTERS:
        raise OptionError(f"exporter {exporter!r} is none of: {', '.join(EXPORTERS)}")
    manifest = {
        "space": recorder.space.name,
        # A product space needs no code to be read again; others say where theirs was.
        **(space_facts(recorder.space) or space_origin(recorder.space)),
        "supernet": recorder.macro,
        "bn": str(recorder.mode),
        "exporter": exporter,
        "wsx_version": __version__,
        **facts,
    }
    folder = create_folder(out, manifest, recorder.weights)
    wanted = list(dict.fromkeys(archs))
    missing = [arch for arch in wanted if arch not in folder.rows]
    failures = {}
    start_s = time.perf_counter()
    for n_done, arch in enumerate(missing, len(wanted) - len(missing) + 1):
        text = recorder.space.format(arch)
        try:
            model, function_key, cost = _export(recorder, arch, calibrate, exporter, manifest)
        except WsxError as error:
            failures[text] = str(error)
            continue
        row = folder.add(arch, model, function_key, cost)
        if on_subnet is not None:
            on_subnet(row, n_done, len(wanted))
    return ExportReport(
        folder,
        len(missing) - len(failures),
        len(wanted) - len(missing),
        failures,
        time.perf_counter() - start_s,
    )


def _export(
    recorder: SubnetRecorder,
    arch: Arch,
    calibrate: Callable[[Graph], Statistics] | None,
    exporter: str,
    manifest: Mapping[str, Any],
) -> tuple[bytes, str, Cost]:
    graph = recorder.record(arch)
    if recorder.mode.kind == "calibrated" and calibrate is None:
        raise ExportError(f"BatchNorm mode {recorder.mode} needs images to calibrate on")
    statistics = None if calibrate is None else calibrate(graph)
    metadata = {
        "wsx.arch": recorder.space.format(arch),
        "wsx.space": recorder.space.name,
        "wsx.function_key": graph.function_key,
        "wsx.checkpoint_sha256": str(manifest["checkpoint_sha256"]),
        "wsx.bn": str(recorder.mode),
        "wsx.version": __version__,
    }
    if exporter == "wsx":
        model = subnet_bytes(graph, recorder.weights, statistics=statistics, metadata=metadata)
    else:
        module = to_module(graph, recorder.weights, statistics)
        official = export_official(module, graph.input_shape[1:], metadata=metadata)
        model = official.SerializeToString()
    return model, graph.function_key, subnet_cost(recorder, arch, graph)
