"""``wsx bench``: wsx beside the baselines, one subject, one process, interleaved."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from wsx.bench import exported, loops, tuned  # noqa: F401  (registers the baselines)
from wsx.bench.agreement import Agreement
from wsx.bench.contenders import BASELINES, Contender, NotComparableError, all_cores
from wsx.bench.interleave import Spread, ratio
from wsx.bench.machine import gemm_gflops, machine_facts, usable_device
from wsx.bench.measurement import BenchListener, Measurement
from wsx.bench.own import NAME, OwnPath, Split
from wsx.bench.subject import Subject
from wsx.bench.work import Work
from wsx.errors import OptionError

DEFAULT_BASELINES = ("b1", "p1", "b4", "b8", "t1")
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Row:
    """What was measured of one contender.

    Attributes:
        name: Of the contender.
        what: What it is, its settings included.
        bn: BatchNorm mode that it scored in.
        batch_size: Images per batch.
        precision: Of its forward passes.
        n_archs: Archs that it scored in each repeat; where not all, some whose costs are spread like theirs.
        seconds: Of each repeat.
        archs_per_min: Archs scored per minute, over the repeats.
        ratio: How many times as long it took per arch as wsx, within each repeat.
        agreement: How its counts compare with wsx's.
        gflops: 1e9 floating-point operations a second, of the median repeat: two for each multiply-add of the
            subnets' forward passes, those of calibration included. Of wsx what it computed: equal functions and
            shared nodes once.
        peak_share: The same as a share of the machine's fastest matrix product.
        peak_memory: Largest bytes in use during it.
    """

    name: str
    what: str
    bn: str
    batch_size: int
    precision: str
    n_archs: int
    seconds: list[float]
    archs_per_min: Spread
    ratio: Spread
    agreement: Agreement
    gflops: float
    peak_share: float
    peak_memory: Mapping[str, int]


@dataclass(frozen=True)
class Report:
    """All rows, wsx first, and what they were measured under.

    Attributes:
        conditions: What was scored.
        machine: What it was scored on.
        gemm_gflops: The machine's fastest float32 matrix product of the run.
        rows: One per contender.
        split: Where wsx's time went.
        left_out: Baselines without a row, and why.
    """

    conditions: Mapping[str, Any]
    machine: Mapping[str, Any]
    gemm_gflops: float
    rows: list[Row]
    split: Split
    left_out: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return everything, JSON-clean."""
        return {"format": "wsx-bench", "format_version": FORMAT_VERSION, **asdict(self)}


def run_bench(
    subject: Subject,
    baselines: Sequence[str] = DEFAULT_BASELINES,
    *,
    n_repeats: int = 5,
    listener: BenchListener | None = None,
) -> Report:
    """Measure wsx and baselines side by side.

    Args:
        subject: What is scored.
        baselines: Names among ``BASELINES``; each once.
        n_repeats: Interleaved repeats.
        listener: Progress callbacks.

    Raises:
        UnknownNameError: There is no such baseline.
        OptionError: A baseline is named twice, or there are no repeats.
        DeviceError: PyTorch cannot use the device.
        WsxError: A baseline counts other images than wsx does.
    """
    factories = {name: BASELINES[name] for name in baselines}
    if len(factories) < len(baselines):
        raise OptionError(f"--baselines {','.join(baselines)} names one twice")
    if n_repeats < 1:
        raise OptionError(f"--repeats is {n_repeats}; it must be at least 1")
    listener, device = listener or BenchListener(), usable_device(subject.device.kind)
    machine = machine_facts(device)
    with all_cores(subject.n_cores):
        own, left_out = OwnPath(subject), dict[str, str]()
        contenders = [own.contender()]
        for n_done, (name, make) in enumerate(factories.items()):
            listener.on_prepared(n_done, len(factories), name)
            try:
                contenders += make(subject)
            except NotComparableError as reason:
                left_out[name] = str(reason)
        listener.on_prepared(len(factories), len(factories), "")
        work = Work(subject)
        measurement = Measurement(subject, work, contenders, listener)
        peak = gemm_gflops(device)
        measurement.run(n_repeats)
        peak = max(peak, gemm_gflops(device))
        split = own.split()
    rows = [
        _row(
            measurement,
            contender,
            own.flops
            if contender.name == NAME
            else work.flops(measurement.archs[contender.name], contender.mode),
            peak,
        )
        for contender in contenders
    ]
    return Report(_conditions(subject, work, n_repeats), machine, peak, rows, split, left_out)


def _row(measurement: Measurement, contender: Contender, flops: int, peak_gflops: float) -> Row:
    name = contender.name
    seconds, n_archs = measurement.seconds[name], len(measurement.archs[name])
    per_arch = [s / n_archs for s in seconds]
    reference = [s / len(measurement.archs[NAME]) for s in measurement.seconds[NAME]]
    gflops = 1e-9 * flops / statistics.median(seconds)
    return Row(
        name=name,
        what=contender.what,
        bn=str(contender.mode),
        batch_size=contender.batch_size,
        precision=contender.precision,
        n_archs=n_archs,
        seconds=seconds,
        archs_per_min=Spread.of([60 / s for s in per_arch]),
        ratio=ratio(per_arch, reference),
        agreement=measurement.agreements[name],
        gflops=gflops,
        peak_share=gflops / peak_gflops,
        peak_memory=measurement.peaks[name],
    )


def _conditions(subject: Subject, work: Work, n_repeats: int) -> dict[str, Any]:
    images, calibration = subject.images, subject.calibration
    return {
        "space": subject.supernet.space.name,
        "supernet": asdict(subject.supernet.options),
        "checkpoint": subject.checkpoint_sha256,
        "n_archs": len(subject.archs),
        "n_functions": work.n_functions,
        "dataset": images.dataset,
        "n_images": len(images),
        "n_calibration_images": 0 if calibration is None else len(calibration),
        "image_shape": list(images.pixels.shape[1:]),
        "bn": str(subject.mode),
        "provider": subject.device.provider,
        "n_cores": subject.n_cores,
        "n_repeats": n_repeats,
    }
