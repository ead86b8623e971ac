"""The ``wsx`` command: parse, call one library function, draw progress.

Results go to stdout, bars and logs to stderr. Exit codes: 0 done, 1 a deliberate error in one line, 2 wrong usage.
Torch and the rest are imported inside the commands, so that help is instant.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from wsx.errors import OptionError, WsxError
from wsx.version import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train weight-sharing super-nets, score thousands of subnets, measure what the scores are worth.",
)
# A pipe has no width of its own; 80 columns would fold every table.
stdout = Console(width=None if sys.stdout.isatty() else 140)
stderr = Console(stderr=True)
EXIT_INTERRUPTED = 130

SpaceOption = Annotated[str, typer.Option("--space", help="Space, see `wsx spaces`.")]
DataOption = Annotated[str, typer.Option("--data", help="digits, NAME=PATH, or a name on the Hugging Face hub.")]
NOption = Annotated[int | None, typer.Option("--n", help="How many archs to draw.")]
ArchsOption = Annotated[Path | None, typer.Option("--archs", help="File with one arch, or index, a line.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every arch of the measure.")]
ArchSeedOption = Annotated[int, typer.Option("--seed", help="Seed of the draw.")]
MeasureOption = Annotated[
    str | None, typer.Option("--measure", help="What the draw is uniform over, see `wsx spaces NAME`.")
]
BnOption = Annotated[str, typer.Option("--bn", help="batch, running, or calibrated:STEPSxBATCH.")]
CheckpointOption = Annotated[str, typer.Option("--checkpoint", help="Name of a checkpoint, or last.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override a value, KEY=VALUE; repeatable.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
TruthOption = Annotated[
    str | None,
    typer.Option("--truth", help="PATH:COLUMN, a NATS-Bench folder, or a packaged table."),
]
ByOption = Annotated[str, typer.Option("--by", help="Rank archs by accuracy or loss.")]
CampaignOption = Annotated[
    str | None, typer.Option("--campaign", help="Beginning of a campaign's digest.")
]


@contextmanager
def progress_bar(*, is_quiet: bool) -> Iterator[Callable[[str], Callable[..., None]]]:
    """Give a function that starts a bar on stderr and returns its ``(done, total)`` callback."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=stderr,
        disable=is_quiet or not stderr.is_terminal,
    )

    def start(description: str) -> Callable[..., None]:
        task = bar.add_task(description, total=None, note="")

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        return update

    with bar:
        yield start


def print_json(values: Any) -> None:
    """Print values as JSON on stdout."""
    sys.stdout.write(json.dumps(values, indent=2, allow_nan=False) + "\n")


def print_rows(title: str, rows: dict[str, Any]) -> None:
    """Print names and values as a table on stdout."""
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, escape(str(value)))
    stdout.print(table)


def parse_settings(settings: list[str] | None) -> dict[str, str]:
    """Return ``KEY=VALUE`` texts as a mapping.

    Raises:
        OptionError: A text has no ``=``.
    """
    pairs = {}
    for text in settings or []:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise OptionError(f"--set {text!r} must read KEY=VALUE, such as lr=0.05")
        pairs[name] = value
    return pairs


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Answer ``wsx --version``."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def spaces(
    name: Annotated[str | None, typer.Argument(help="One space in detail.")] = None,
    json_: JsonOption = False,
) -> None:
    """List the spaces, or show one: size, decisions, measures, an example."""
    from wsx.studies.describe import describe_space, list_spaces

    if name is None:
        rows = list_spaces()
        if json_:
            return print_json(rows)
        table = Table("space", "encodings", "decisions", "what")
        for row in rows:
            table.add_row(row["name"], f"{row['n_archs']:,}", str(row["n_decisions"]), row["summary"])
        return stdout.print(table)
    facts = describe_space(name)
    return print_json(facts) if json_ else print_rows(name, facts)


@app.command()
def recipes(json_: JsonOption = False) -> None:
    """List the training recipes with all their values."""
    from wsx.training.recipes import RECIPES

    values = {name: recipe.as_dict() for name, recipe in RECIPES.items()}
    if json_:
        return print_json(values)
    table = Table("value", *values)
    for field in next(iter(values.values())):
        table.add_row(field, *(str(recipe[field]) for recipe in values.values()))
    return stdout.print(table)


@app.command()
def train(
    space: SpaceOption,
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; an interrupted run goes on.")],
    recipe: Annotated[str, typer.Option("--recipe", help="Recipe, see `wsx recipes`.")] = "default",
    set_: SetOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the training.")] = 0,
    data_seed: Annotated[int, typer.Option("--data-seed", help="Seed of the splits.")] = 0,
    n_train: Annotated[int | None, typer.Option("--n-train", help="Training images kept.")] = None,
    n_valid: Annotated[int | None, typer.Option("--n-valid", help="Validation images.")] = None,
    n_test: Annotated[int | None, typer.Option("--n-test", help="Test images.")] = None,
    image_size: Annotated[int | None, typer.Option("--image-size", help="Resize images to so many pixels a side.")] = None,
    device: Annotated[str, typer.Option("--device", help="Torch device, such as cpu or cuda.")] = "cpu",
    quiet: QuietOption = False,
    json_: JsonOption = False,
) -> None:
    """Train a supernet, with checkpoints and a log; a repeated command goes on where it stopped."""
    from wsx.training import RECIPES, DataSpec, RunConfig, train_supernet

    config = RunConfig(
        space,
        RECIPES[recipe].override(parse_settings(set_)),
        DataSpec(data, data_seed, n_train, n_valid, n_test, image_size),
        seed,
    )
    with progress_bar(is_quiet=quiet) as start:
        update = start(f"train {space}")
        last = None

        def on_progress(progress: Any) -> None:
            nonlocal last
            last = progress
            update(
                progress.step,
                progress.n_steps,
                f"epoch {progress.epoch} loss {progress.loss:.3f} acc {progress.accuracy:.1%} "
                f"lr {progress.lr:.3g} {progress.images_per_s:,.0f} images/s",
            )

        run = train_supernet(config, out, device=device, on_progress=on_progress)
    facts = {
        "run": str(out),
        "checkpoint": run.checkpoint_path().stem,
        "loss": last and round(last.loss, 4),
        "training accuracy": last and round(last.accuracy, 4),
        "steps done now": last.n_steps if last else "none, the run was finished",
    }
    return print_json(facts) if json_ else print_rows("trained", facts)


@app.command("train-standalone")
def train_standalone_command(
    space: SpaceOption,
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Truth table to write, .parquet or .csv.")],
    recipe: Annotated[str, typer.Option("--recipe", help="Recipe, see `wsx recipes`.")] = "default",
    set_: SetOption = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Training seeds, such as 0,1,2.")] = "0",
    n: NOption = None,
    archs: ArchsOption = None,
    all_: AllOption = False,
    seed: ArchSeedOption = 0,
    measure: MeasureOption = None,
    split: Annotated[str, typer.Option("--split", help="Split the truth is measured on: valid or test.")] = "test",
    data_seed: Annotated[int, typer.Option("--data-seed", help="Seed of the splits.")] = 0,
    n_train: Annotated[int | None, typer.Option("--n-train", help="Training images kept.")] = None,
    n_valid: Annotated[int | None, typer.Option("--n-valid", help="Validation images.")] = None,
    n_test: Annotated[int | None, typer.Option("--n-test", help="Test images.")] = None,
    image_size: Annotated[int | None, typer.Option("--image-size", help="Resize images to so many pixels a side.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Trainings at once; default all cores.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Make truth: train archs alone, each from scratch; a repeated command does what is missing."""
    from wsx.spaces.files import ArchChoice
    from wsx.studies.truth import make_truth
    from wsx.training import RECIPES, DataSpec, RunConfig

    config = RunConfig(
        space,
        RECIPES[recipe].override(parse_settings(set_)),
        DataSpec(data, data_seed, n_train, n_valid, n_test, image_size),
        0,
    )
    with progress_bar(is_quiet=quiet) as start:
        update = start("train alone")
        table = make_truth(
            config,
            ArchChoice(n, seed, measure, archs, all_),
            parse_seeds(seeds),
            out,
            split=split,
            n_workers=(os.cpu_count() or 1) if workers is None else workers,
            on_score=update,
        )
    agreement = table.seed_agreement()
    print_rows(
        "truth",
        {
            "table": str(out),
            "archs": len(table),
            "trainings": len(table) * len(parse_seeds(seeds)),
            "mean accuracy": f"{table.accuracy.mean():.4f}",
            "agreement of seeds": "one seed" if agreement is None else f"tau {agreement.kendall:.3f}",
        },
    )


def parse_seeds(text: str) -> list[int]:
    """Return comma-separated seeds.

    Raises:
        OptionError: A part is no integer of at least 0, or one is named twice.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise OptionError(f"--seeds {text!r} must be integers separated by commas, such as 0,1,2")
    seeds = [int(part) for part in parts]
    if len(set(seeds)) < len(seeds):
        raise OptionError(f"--seeds {text!r} names a seed twice")
    return seeds


@app.command("export-subnets")
def export_subnets_command(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to export into.")],
    n: NOption = None,
    archs: ArchsOption = None,
    all_: AllOption = False,
    seed: ArchSeedOption = 0,
    measure: MeasureOption = None,
    bn: BnOption = "calibrated:4x256",
    checkpoint: CheckpointOption = "last",
    exporter: Annotated[str, typer.Option("--exporter", help="wsx, or torch for the official one.")] = "wsx",
    verify: Annotated[str, typer.Option("--verify", help="How many subnets to compare with PyTorch, or all.")] = "4",
    data: Annotated[str | None, typer.Option("--data", help="Where the run's data lies now.")] = None,
    quiet: QuietOption = False,
    json_: JsonOption = False,
) -> None:
    """Export subnets as ONNX files that share one weight file, and verify a sample."""
    import time

    from wsx.spaces.files import ArchChoice
    from wsx.studies.evaluate_run import RunSubnets, export_run
    from wsx.training import open_run

    if verify != "all" and not verify.isdecimal():
        raise OptionError(f"--verify {verify!r} must be all or a number")
    with progress_bar(is_quiet=quiet) as start:
        update, verified = start("export"), start("verify")
        start_s = time.perf_counter()
        seconds = [0.0]

        def on_subnet(row: Any, n_done: int, n_all: int) -> None:
            seconds[0] = time.perf_counter() - start_s
            update(n_done, n_all)

        result = export_run(
            RunSubnets(open_run(run), bn, checkpoint, data),
            out,
            choice=ArchChoice(n, seed, measure, archs, all_),
            exporter=exporter,
            n_verified=None if verify == "all" else int(verify),
            on_subnet=on_subnet,
            on_verified=verified,
        )
    report = result.report
    largest = [a.largest_difference / a.scale for a in result.agreements]
    facts = {
        "folder": str(out),
        "written": report.n_written,
        "there already": report.n_skipped,
        "failed": len(report.failures),
        "subnets/s": round(report.n_written / seconds[0], 1) if report.n_written else None,
        "bytes": report.folder.n_bytes,
        "bytes per subnet": report.folder.n_bytes // max(1, len(report.folder.rows)),
        "verified": len(result.agreements),
        "disagreeing": len(result.wrong),
        "near-ties": sum(a.n_near_ties for a in result.agreements),
        "largest relative difference": max(largest, default=None),
    }
    if json_:
        print_json({**facts, "failures": report.failures})
    else:
        print_rows("exported", facts)
    problems = [f"{text}: {error}" for text, error in report.failures.items()]
    problems += [f"{a.arch}: top-1 differs on {a.n_wrong} of {a.n_images} images, largest difference "
                 f"{a.largest_difference:.3g}" for a in result.wrong]
    if problems:
        raise WsxError(f"{len(problems)} subnets failed or disagree, first {problems[0]}")


@app.command()
def evaluate(
    source: Annotated[Path, typer.Argument(help="Folder of a run, or of exported subnets.")],
    out: Annotated[Path, typer.Option("--out", help="Score file; goes on where it stopped.")],
    n: NOption = None,
    archs: ArchsOption = None,
    all_: AllOption = False,
    seed: ArchSeedOption = 0,
    measure: MeasureOption = None,
    bn: Annotated[str | None, typer.Option("--bn", help="For runs: batch, running, or calibrated:STEPSxBATCH.")] = None,
    checkpoint: CheckpointOption = "last",
    images: Annotated[int | None, typer.Option("--images", help="Score on so many images; default all.")] = None,
    split: Annotated[str, typer.Option("--split", help="valid or test.")] = "test",
    engine: Annotated[str, typer.Option("--engine", help="onnx, or torch for the eager oracle.")] = "onnx",
    device: DeviceOption = "auto",
    workers: Annotated[int | None, typer.Option("--workers", help="Subnets scored at once.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images per batch.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Where the data lies now.")] = None,
    quiet: QuietOption = False,
    json_: JsonOption = False,
) -> None:
    """Score a population into a score file; what the file holds already is skipped."""
    from wsx.exporters.folder import is_folder
    from wsx.spaces.files import ArchChoice
    from wsx.studies.images import ImageChoice
    from wsx.studies.scoring import Listener, ScoringOptions

    choice = ArchChoice(n, seed, measure, archs, all_)
    options = ScoringOptions(batch_size, workers)
    with progress_bar(is_quiet=quiet) as start:
        shared: dict[str, Any] = {
            "choice": choice,
            "images": ImageChoice(split, images),
            "device": device,
            "options": options,
            "listener": Listener(start("plan"), start("score")),
        }
        if is_folder(source):
            from wsx.studies.evaluate_folder import evaluate_folder

            if bn is not None or engine != "onnx" or checkpoint != "last":
                raise OptionError(
                    "--bn, --engine and --checkpoint were fixed when the folder was exported; leave them out"
                )
            key, report = evaluate_folder(source, out, data=data, **shared)
        else:
            from wsx.studies.evaluate_run import RunSubnets, evaluate_run
            from wsx.training import open_run

            subnets = RunSubnets(open_run(source), bn or "calibrated:4x256", checkpoint, data)
            key, report = evaluate_run(subnets, out, engine=engine, **shared)
    facts = {
        "scores": str(out),
        "campaign": key.digest()[:16],
        "run": report.n_run,
        "shared a function": report.n_shared,
        "there already": report.n_finished,
        "asked for twice": report.n_repeated,
        "failed": report.n_failed,
        "provider": key.provider,
        "bn": key.bn,
    }
    return print_json(facts) if json_ else print_rows("scored", facts)


@app.command()
def analyze(
    scores: Annotated[Path, typer.Argument(help="Score file.")],
    truth: TruthOption = None,
    campaign: CampaignOption = None,
    by: ByOption = "accuracy",
    level: Annotated[float, typer.Option("--level", help="Level of the intervals.")] = 0.95,
    resamples: Annotated[int, typer.Option("--resamples", help="Bootstrap resamples.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap.")] = 0,
    json_: JsonOption = False,
) -> None:
    """Compare scores with truth: correlations, overlaps, regret, baselines, with intervals."""
    from wsx.analysis import SummaryOptions
    from wsx.studies.analyze import compare

    options = SummaryOptions(level=level, n_resamples=resamples, seed=seed)
    comparison = compare(scores, truth=truth, campaign=campaign, by=by, options=options)
    if json_:
        return print_json(comparison.as_dict())
    facts = comparison.as_dict()
    print_rows(
        "campaign",
        {
            "digest": facts["campaign"][:16],
            **facts["key"],
            "scored": facts["n_scored"],
            "failed": facts["n_failed"],
            "without truth": facts["n_without_truth"],
            "mean accuracy": f"{facts['accuracy']['mean']:.2%}",
        },
    )
    if comparison.summary is not None:
        stdout.print(summary_table(comparison.summary))
    return None


def summary_table(summary: Any) -> Table:
    """Return a table of a summary's measures, baselines and noise ceiling."""
    table = Table("measure", "value", "archs", "images", "both", title=f"{summary.n_archs} archs")
    rows = [("", summary.metrics), *((f"{n}: ", m) for n, m in summary.baselines.items())]
    for prefix, estimates in rows:
        for estimate in estimates.values():
            value = estimate.reason or f"{estimate.value:.4g}"
            intervals = [estimate.intervals.get(name) for name in ("archs", "images", "both")]
            cells = [f"[{i.low:.3g}, {i.high:.3g}]" if i else "" for i in intervals]
            table.add_row(*(escape(cell) for cell in (prefix + estimate.label, value, *cells)))
    for name, value in summary.noise_ceiling.items():
        table.add_row(f"noise ceiling: {name}", f"{value:.4g}", "", "", "")
    return table


@app.command()
def report(
    scores: Annotated[Path, typer.Argument(help="Score file.")],
    out: Annotated[Path, typer.Option("--out", help="HTML page; pictures are written beside it.")],
    truth: TruthOption = None,
    campaign: CampaignOption = None,
    by: ByOption = "accuracy",
    title: Annotated[str | None, typer.Option("--title", help="Heading of the page.")] = None,
    resamples: Annotated[int, typer.Option("--resamples", help="Bootstrap resamples.")] = 1000,
) -> None:
    """Write one self-contained HTML page with plots, tables and provenance, and PNGs beside it."""
    from wsx.analysis import SummaryOptions
    from wsx.studies.analyze import compare
    from wsx.studies.analyze import report as write

    options = SummaryOptions(n_resamples=resamples)
    comparison = compare(scores, truth=truth, campaign=campaign, by=by, options=options)
    files = write(comparison, out, title=title or f"{comparison.table.key.space}: {scores.name}")
    print_rows("report", {"page": files.page, **files.pictures})


@app.command("export-scores")
def export_scores(
    scores: Annotated[Path, typer.Argument(help="Score file.")],
    out: Annotated[Path, typer.Option("--out", help="Table to write, .csv or .parquet.")],
    campaign: CampaignOption = None,
) -> None:
    """Write one campaign as a CSV or parquet table, one row per arch."""
    from wsx.store import open_store, write_csv, write_parquet

    writers = {".csv": write_csv, ".parquet": write_parquet}
    if out.suffix not in writers:
        raise OptionError(f"--out {out} must end in .csv or .parquet")
    with open_store(scores, "r") as store:
        table = store.read(campaign)
    writers[out.suffix](table, out)
    print_rows("table", {"path": out, "rows": len(table)})


@app.command()
def doctor(json_: JsonOption = False) -> None:
    """Say what is installed, what works, and how to repair what does not."""
    from wsx.studies.doctor import diagnose

    diagnosis = diagnose()
    if json_:
        print_json(diagnosis.as_dict())
    else:
        print_rows("installation", diagnosis.facts)
    if diagnosis.problems:
        raise WsxError("; ".join(diagnosis.problems))


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the run, scores and report.")] = Path("demo"),
    quiet: QuietOption = False,
) -> None:
    """Run the whole loop on embedded digits: train, export, score, compare with truth, report."""
    from wsx.studies.demo import run_demo

    with progress_bar(is_quiet=quiet) as start:
        result = run_demo(out, start=start)
    print_rows("demo", result.facts)
    stdout.print(result.verdict)
    stdout.print(f"Report: {result.page}", soft_wrap=True)


def main() -> None:
    """Run the command line; a deliberate error is one line on stderr and exit code 1."""
    try:
        app()
    except (WsxError, OSError, ModuleNotFoundError) as error:
        # Full disks, forbidden folders and a missing torch are the machine's affair, as deliberate errors are.
        if os.environ.get("WSX_DEBUG"):
            raise
        # One line, whatever the message holds.
        sys.stderr.write(f"wsx: {' '.join(str(error).split())}\n")
        sys.exit(1)
    except SystemExit as end:
        # Typer turns an interrupt into this exit code, without a word.
        if end.code == EXIT_INTERRUPTED:
            sys.stderr.write("wsx: interrupted; repeat the command to go on\n")
        raise


if __name__ == "__main__":
    main()
