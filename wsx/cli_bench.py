"""Commands that measure this machine: wsx beside the loops that it would replace, all in one run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from wsx import options as o
from wsx.console import print_json, print_rows, progress_bar, stdout
from wsx.errors import OptionError

if TYPE_CHECKING:
    from wsx.bench.interleave import Spread
    from wsx.bench.scoring import Report
    from wsx.bench.training import TrainingReport

FULL = {"archs": 64, "images": 2048, "repeats": 5, "steps": 10}
QUICK = {"archs": 2, "images": 128, "repeats": 2, "steps": 2}
BN, QUICK_BN = "calibrated:4x256", "calibrated:1x128"
BASELINES = "b1,p1,b4,b8,t1"

Space = Annotated[
    str | None, typer.Option("--space", help="Space of a random supernet; default nasbench201.")
]
RunOption = Annotated[
    Path | None, typer.Option("--run", help="A run's supernet and images instead of random ones.")
]
Repeats = Annotated[
    int | None, typer.Option("--repeats", help=f"Interleaved repeats; default {FULL['repeats']}.")
]
Quick = Annotated[bool, typer.Option("--quick", help="A smoke test in small numbers.")]
Out = Annotated[Path | None, typer.Option("--out", help="JSON file to write.")]


def bench(
    space: Space = None,
    set_: o.SetSupernet = None,
    run: RunOption = None,
    data: o.DataNow = None,
    archs: Annotated[
        int | None, typer.Option("--archs", help=f"Archs to draw; default {FULL['archs']}.")
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", help=f"Images; default {FULL['images']}.")
    ] = None,
    bn: Annotated[
        str | None,
        typer.Option("--bn", help=f"batch, running or calibrated:STEPSxBATCH; default {BN}."),
    ] = None,
    baselines: Annotated[
        str, typer.Option("--baselines", help="Any of b1, p1, b4, b8, b8-dynamo, t1; or none.")
    ] = BASELINES,
    measure: o.Measure = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of archs, weights and noise.")] = 0,
    batch_size: o.BatchSize = None,
    workers: o.Workers = None,
    repeats: Repeats = None,
    device: o.Device = "auto",
    quick: Quick = False,
    out: Out = None,
    quiet: o.Quiet = False,
    json_: o.Json = False,
) -> None:
    """Measure how fast populations are scored: wsx beside published loops and a tuned eager one."""
    from wsx.bench.measurement import BenchListener
    from wsx.bench.scoring import run_bench
    from wsx.bench.subject import Conditions, random_subject, run_subject
    from wsx.evaluators.devices import resolve_device
    from wsx.exporters.batchnorm import BatchNormMode

    sizes = QUICK if quick else FULL
    conditions = Conditions(
        sizes["archs"] if archs is None else archs,
        sizes["images"] if images is None else images,
        BatchNormMode.parse(bn or (QUICK_BN if quick else BN)),
        measure,
        seed,
        resolve_device(device),
        batch_size,
        workers,
    )
    options = _supernet(space, set_, run, data)
    if run is None:
        subject = random_subject(space or "nasbench201", options, conditions)
    else:
        subject = run_subject(run, conditions, data=data)
    with progress_bar(is_quiet=quiet) as start:
        report = run_bench(
            subject,
            [] if baselines == "none" else baselines.split(","),
            n_repeats=sizes["repeats"] if repeats is None else repeats,
            listener=BenchListener(start("prepare"), start("warm up"), start("measure, s")),
        )
    _write(report.as_dict(), out)
    return print_json(report.as_dict()) if json_ else _print_scoring(report)


def bench_training(
    space: Space = None,
    set_: o.SetSupernet = None,
    run: RunOption = None,
    data: o.DataNow = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help=f"Steps a repeat; default {FULL['steps']}.")
    ] = None,
    batch_size: o.BatchSize = None,
    workers: o.Workers = None,
    repeats: Repeats = None,
    device: o.TorchDevice = "cpu",
    quick: Quick = False,
    out: Out = None,
    quiet: o.Quiet = False,
    json_: o.Json = False,
) -> None:
    """Measure steps of single-path training: wsx's trainer beside the plain loop that users write."""
    from wsx.bench.training import run_training_bench
    from wsx.bench.training_subject import TrainingConditions, random_training, run_training

    sizes = QUICK if quick else FULL
    conditions = TrainingConditions(device, batch_size, workers)
    options = _supernet(space, set_, run, data)
    if run is None:
        subject = random_training(space or "nasbench201", options, conditions)
    else:
        subject = run_training(run, conditions, data=data)
    with progress_bar(is_quiet=quiet) as start:
        report = run_training_bench(
            subject,
            n_steps=sizes["steps"] if steps is None else steps,
            n_repeats=sizes["repeats"] if repeats is None else repeats,
            on_lap=start("measure"),
        )
    _write(report.as_dict(), out)
    return print_json(report.as_dict()) if json_ else _print_training(report)


def _supernet(
    space: str | None, set_: list[str] | None, run: Path | None, data: str | None
) -> dict[str, Any]:
    """Return the options of a random supernet, and refuse what a run decides."""
    from wsx.training.recipes import parse_macro

    if run is not None and (space is not None or set_):
        raise OptionError("--run brings its own supernet; leave --space and --set out")
    if run is None and data is not None:
        raise OptionError("--data says where a run's images lie; name the run with --run")
    return {name: parse_macro(text) for name, text in o.parse_settings(set_).items()}


def _write(values: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        out.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")


def _print_scoring(report: "Report") -> None:
    table = Table(
        *("", "BatchNorm", "batch", "archs", "arch/min", "time / wsx's", "counts agree"),
        *("GFLOP/s", "of peak", "memory"),
    )
    for row in report.rows:
        cells = (
            row.name,
            row.bn,
            str(row.batch_size),
            str(row.n_archs),
            f"{row.archs_per_min.median:.1f}",
            _spread(row.ratio),
            str(row.agreement),
            f"{row.gflops:.1f}",
            f"{row.peak_share:.0%}",
            f"{max(row.peak_memory.values()) / 2**20:,.0f} MiB",
        )
        table.add_row(*map(escape, cells))
    stdout.print(table)
    print_rows("rows", {row.name: f"{row.what}; {row.precision}" for row in report.rows})
    for name, reason in report.left_out.items():
        stdout.print(f"left out: {name}, {reason}")
    split = {f"{name}, ms": f"{ms:.1f}" for name, ms in vars(report.split).items()}
    print_rows("one subnet of wsx on one worker", split)
    peak = {"float32 matrix product, GFLOP/s": f"{report.gemm_gflops:.0f}"}
    print_rows("measured under", {**report.conditions, **report.machine, **peak})


def _print_training(report: "TrainingReport") -> None:
    table = Table("", "steps/s", "time / wsx's", "what")
    for row in report.rows:
        cells = (row.name, f"{row.steps_per_s.median:.2f}", _spread(row.ratio), row.what)
        table.add_row(*map(escape, cells))
    stdout.print(table)
    print_rows("measured under", {**report.conditions, **report.machine})


def _spread(spread: "Spread") -> str:
    return f"{spread.median:.2f} ({spread.low:.2f}-{spread.high:.2f})"
