"""The ``wsx`` command: parse, call one library function, draw progress.

Results go to stdout, bars and logs to stderr. Exit codes: 0 done, 1 a deliberate error in one line, 2 wrong usage.
Torch and the rest are imported inside the commands, so that help is instant.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsx import cli_bench, cli_gradients, cli_inspect, cli_search, cli_study, cli_time, cli_train
from wsx import options as o
from wsx.console import print_json, print_rows, progress_bar, stdout, summary_table
from wsx.errors import OptionError, WsxError
from wsx.version import __version__

if TYPE_CHECKING:
    from wsx.report import ReportFiles

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train weight-sharing super-nets, score thousands of subnets, measure what the scores are worth.",
)
EXIT_INTERRUPTED = 130

app.command()(cli_train.train)
app.command("train-standalone")(cli_train.train_standalone)
app.command()(cli_inspect.spaces)
app.command("check-space")(cli_inspect.check_space_command)
app.command()(cli_inspect.recipes)
app.command()(cli_inspect.doctor)
app.command()(cli_bench.bench)
app.command("bench-training")(cli_bench.bench_training)
app.command()(cli_time.timeline)
app.command()(cli_time.finetune)
app.command()(cli_gradients.gradients)
app.command()(cli_search.search)
app.command()(cli_study.study)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Answer ``wsx --version``."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command("export-subnets")
def export_subnets_command(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to export into.")],
    n: o.N = None,
    archs: o.Archs = None,
    all_: o.All = False,
    seed: o.ArchSeed = 0,
    measure: o.Measure = None,
    bn: o.Bn = "calibrated:4x256",
    checkpoint: o.Checkpoint = "last",
    exporter: o.Exporter = "wsx",
    verify: o.Verify = "4",
    data: o.DataNow = None,
    space: o.OwnSpace = None,
    quiet: o.Quiet = False,
    json_: o.Json = False,
) -> None:
    """Export subnets as ONNX files that share one weight file, and verify a sample."""
    from wsx.spaces import load_space
    from wsx.spaces.choice import ArchChoice
    from wsx.studies.export_run import export_run
    from wsx.studies.run_subnets import RunSubnets
    from wsx.training import open_run

    if verify != "all" and not verify.isdecimal():
        raise OptionError(f"--verify {verify!r} must be all or a number")
    if space is not None:
        load_space(space)
    with progress_bar(is_quiet=quiet) as start:
        update, verified = start("export"), start("verify")
        result = export_run(
            RunSubnets(open_run(run), bn, checkpoint, data),
            out,
            choice=ArchChoice(n, seed, measure, archs, all_),
            exporter=exporter,
            n_verified=None if verify == "all" else int(verify),
            on_subnet=lambda row, n_done, n_all: update(n_done, n_all),
            on_verified=verified,
        )
    if json_:
        print_json({**result.as_dict(), "failures": result.report.failures})
    else:
        print_rows("exported", result.as_dict())
    if problems := result.problems:
        raise WsxError(f"{len(problems)} subnets failed or disagree, first {problems[0]}")


@app.command()
def evaluate(
    source: Annotated[Path, typer.Argument(help="Folder of a run, or of exported subnets.")],
    out: Annotated[Path, typer.Option("--out", help="Score file; goes on where it stopped.")],
    n: o.N = None,
    archs: o.Archs = None,
    all_: o.All = False,
    seed: o.ArchSeed = 0,
    measure: o.Measure = None,
    bn: o.BnOfRun = None,
    checkpoint: o.Checkpoint = "last",
    images: o.Images = None,
    split: o.Split = "test",
    engine: o.Engine = "onnx",
    device: o.Device = "auto",
    workers: o.Workers = None,
    batch_size: o.BatchSize = None,
    merge: o.Merge = None,
    isolate: o.Isolate = False,
    race: Annotated[
        int | None,
        typer.Option("--race", help="Find the top K only, on as few images as it takes."),
    ] = None,
    delta: Annotated[
        float, typer.Option("--race-delta", help="Probability that the top K may be wrong.")
    ] = 0.05,
    tolerance: Annotated[
        float,
        typer.Option("--race-tolerance", help="Percentage points that need not be told apart."),
    ] = 0.2,
    data: o.DataNow = None,
    space: o.OwnSpace = None,
    quiet: o.Quiet = False,
    json_: o.Json = False,
) -> None:
    """Score a population into a score file; what the file holds already is skipped."""
    from wsx.analysis.race import RaceRules
    from wsx.evaluators.merging import MergeLimits
    from wsx.evaluators.race_report import RaceReport
    from wsx.exporters.folder import is_folder
    from wsx.spaces import load_space
    from wsx.spaces.choice import ArchChoice
    from wsx.studies.images import ImageChoice
    from wsx.studies.scoring import Listener, ScoringOptions

    if space is not None:
        load_space(space)
    choice = ArchChoice(n, seed, measure, archs, all_)
    limits = MergeLimits.parse(merge or "auto")
    options = ScoringOptions(batch_size, workers, is_isolated=isolate, merge=limits)
    rules = None if race is None else RaceRules(race, delta, tolerance / 100, seed)
    if race is not None and merge is not None:
        raise OptionError(
            "--merge is of no use to --race, whose subnets run one by one; leave it out"
        )
    with progress_bar(is_quiet=quiet) as start:
        planned, scored = start("plan"), start("score" if race is None else "race")
        shared: dict[str, Any] = {
            "choice": choice,
            "images": ImageChoice(split, images),
            "device": device,
            "options": options,
            "race": rules,
            "listener": Listener(planned, scored, scored),
        }
        if is_folder(source):
            from wsx.studies.evaluate_folder import evaluate_folder

            if bn is not None or engine != "onnx" or checkpoint != "last" or merge is not None:
                raise OptionError(
                    "--bn, --engine, --checkpoint and --merge were fixed when the folder was exported; "
                    "leave them out"
                )
            key, report = evaluate_folder(source, out, data=data, **shared)
        else:
            from wsx.studies.evaluate_run import evaluate_run
            from wsx.studies.run_subnets import RunSubnets
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
        "merged models": report.n_models,
        "multiply-adds saved": report.saved_share if json_ else f"{report.saved_share:.1%}",
        "provider": key.provider,
        "bn": key.bn,
    }
    if isinstance(report, RaceReport):
        facts |= {"eliminated": report.n_eliminated}
        facts |= {"race": report.as_dict()} if json_ else report.facts()
    return print_json(facts) if json_ else print_rows("scored", facts)


@app.command()
def analyze(
    scores: o.Scores,
    truth: o.Truth = None,
    campaign: o.Campaign = None,
    by: o.By = "accuracy",
    level: o.Level = 0.95,
    resamples: o.Resamples = 1000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap.")] = 0,
    panel: o.Panel = False,
    finetuned: o.Finetuned = False,
    window: o.Window = None,
    period: o.Period = None,
    quiet: o.Quiet = False,
    json_: o.Json = False,
) -> None:
    """Compare scores with truth, with intervals; or many campaigns with each other (--panel)."""
    from wsx.analysis import SummaryOptions
    from wsx.cli_panel import PanelChoice, print_panel
    from wsx.studies.analyze import compare, comparison_parts

    chosen = PanelChoice(panel, finetuned, window, period)
    options = SummaryOptions(level=level, n_resamples=resamples, seed=seed)
    if panel:
        together = chosen.analysis(
            scores, options, truth=truth, campaign=campaign, by=by, is_quiet=quiet
        )
        return print_panel(together, as_json=json_)
    with progress_bar(is_quiet=quiet) as start:
        comparison = compare(
            scores,
            truth=truth,
            campaign=campaign,
            by=by,
            options=options,
            on_resample=start("resample"),
        )
        parts = comparison_parts(comparison, start("parts")) if json_ else []
    if json_:
        by_key = {part.key: part.as_dict() for part in parts}
        return print_json({**comparison.as_dict(), "parts": by_key})
    print_rows("campaign", comparison.facts())
    if comparison.summary is not None:
        stdout.print(summary_table(comparison.summary))
    return None


@app.command()
def report(
    scores: o.Scores,
    out: Annotated[Path, typer.Option("--out", help="HTML page; pictures are written beside it.")],
    truth: o.Truth = None,
    campaign: o.Campaign = None,
    by: o.By = "accuracy",
    title: Annotated[str | None, typer.Option("--title", help="Heading of the page.")] = None,
    resamples: o.Resamples = 1000,
    panel: o.Panel = False,
    finetuned: o.Finetuned = False,
    window: o.Window = None,
    period: o.Period = None,
    quiet: o.Quiet = False,
    json_: o.Json = False,
) -> None:
    """Write one self-contained HTML page with plots, tables and provenance, and PNGs beside it."""
    from wsx.analysis import SummaryOptions
    from wsx.cli_panel import PanelChoice
    from wsx.studies.analyze import compare
    from wsx.studies.analyze import report_comparison as write

    chosen = PanelChoice(panel, finetuned, window, period)
    options = SummaryOptions(n_resamples=resamples)
    if panel:
        from wsx.studies.analyze_panel import report_panel

        together = chosen.analysis(
            scores, options, truth=truth, campaign=campaign, by=by, is_quiet=quiet
        )
        heading = title or f"{together.panel.key.space}: {scores.name}"
        return _print_files(report_panel(together, out, title=heading), as_json=json_)
    with progress_bar(is_quiet=quiet) as start:
        comparison = compare(
            scores,
            truth=truth,
            campaign=campaign,
            by=by,
            options=options,
            on_resample=start("resample"),
        )
        heading = title or f"{comparison.table.key.space}: {scores.name}"
        files = write(comparison, out, title=heading, on_part=start("parts"))
    return _print_files(files, as_json=json_)


def _print_files(files: "ReportFiles", *, as_json: bool) -> None:
    paths = {"page": files.page, **files.pictures}
    if as_json:
        return print_json({name: str(path) for name, path in paths.items()})
    return print_rows("report", paths)


@app.command("export-scores")
def export_scores(
    scores: o.Scores,
    out: Annotated[Path, typer.Option("--out", help="Table to write, .csv or .parquet.")],
    campaign: o.Campaign = None,
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
def demo(
    out: o.DemoOut = Path("demo"),
    quiet: o.Quiet = False,
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
