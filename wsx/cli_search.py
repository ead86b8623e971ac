"""The ``wsx search`` command: random search or evolution on a run, an exported folder, or a truth table."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from wsx import options as o
from wsx.console import print_json, print_rows, progress_bar, stdout
from wsx.errors import OptionError

if TYPE_CHECKING:
    from wsx.search import OnProgress
    from wsx.studies.search.report import Measured, SearchReport, Winner
    from wsx.studies.search.settings import SearchSettings

Bound = Annotated[float | None, typer.Option(help="Bound on what winners cost, such as 1.5e6.")]


def search(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a run, or of exported subnets; none with --space and --truth."
        ),
    ] = None,
    budget: Annotated[int, typer.Option("--budget", help="Archs to try in all.")] = 500,
    algorithm: Annotated[
        str, typer.Option("--algorithm", help="random, or evolution (ageing).")
    ] = "evolution",
    population: Annotated[
        int | None, typer.Option("--population", help="Evolution: archs alive; default 50.")
    ] = None,
    tournament: Annotated[
        int | None,
        typer.Option("--tournament", help="Evolution: rivals to be a parent; default 10."),
    ] = None,
    mutation_rate: Annotated[
        float | None,
        typer.Option(
            "--mutation-rate", help="Evolution: chance that a child is no copy; default 1."
        ),
    ] = None,
    per_round: Annotated[
        int | None,
        typer.Option(
            "--per-round",
            help="Evolution: children scored together; default 16. Decides the outcome.",
        ),
    ] = None,
    min_params: Bound = None,
    max_params: Bound = None,
    min_flops: Bound = None,
    max_flops: Bound = None,
    measure: o.Measure = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the search.")] = 0,
    by: o.By = "accuracy",
    top: Annotated[int, typer.Option("--top", help="How many winners.")] = 10,
    out: Annotated[
        Path | None, typer.Option("--out", help="Score file; goes on where it stopped.")
    ] = None,
    bn: o.BnOfRun = None,
    checkpoint: o.Checkpoint = "last",
    images: o.Images = None,
    split: o.Split = "valid",
    rescore_split: Annotated[
        str | None,
        typer.Option("--rescore-split", help="Score the winners on this split too, all of it."),
    ] = None,
    standalone: Annotated[
        str | None,
        typer.Option(
            "--standalone", help="Train the winners alone with this recipe, or run: its own."
        ),
    ] = None,
    set_: o.Set = None,
    seeds: Annotated[
        str, typer.Option("--seeds", help="Seeds of each training alone, such as 0,1,2.")
    ] = "0",
    truth: o.Truth = None,
    device: o.Device = "auto",
    workers: o.Workers = None,
    batch_size: o.BatchSize = None,
    merge: o.Merge = None,
    isolate: o.Isolate = False,
    data: o.DataNow = None,
    space: Annotated[
        str | None,
        typer.Option("--space", help="Space of a truth table; or FILE.py:NAME of a run's own."),
    ] = None,
    quiet: o.Quiet = False,
    json_: o.Json = False,
) -> None:
    """Search for the best archs: with shared weights, or on a truth table to study searches."""
    from wsx.evaluators.merging import MergeLimits
    from wsx.exporters.folder import is_folder
    from wsx.search import Limits, make_algorithm
    from wsx.spaces import load_space
    from wsx.studies.images import ImageChoice
    from wsx.studies.scoring import ScoringOptions
    from wsx.studies.search.folder import search_folder
    from wsx.studies.search.settings import SearchSettings
    from wsx.studies.search.table import search_table

    settings = SearchSettings(
        make_algorithm(
            algorithm,
            budget,
            population=population,
            tournament=tournament,
            mutation_rate=mutation_rate,
            per_round=per_round,
        ),
        seed,
        Limits(min_params, max_params, min_flops, max_flops),
        measure,
        by,
        top,
        truth,
        rescore_split,
    )
    own = None if space is None else load_space(space)
    with progress_bar(is_quiet=quiet) as start:
        on_progress = _noting_best(start("search"))
        if source is None:
            unused = {"--out": out, "--bn": bn, "--images": images, "--data": data}
            unused |= {"--rescore-split": rescore_split, "--standalone": standalone}
            _refuse(
                unused | {"--merge": merge, "--set": set_},
                "a search without a run scores no subnet",
            )
            if own is None:
                raise OptionError("name a run or an exported folder; or --space and --truth")
            report = search_table(own, settings, on_progress)
        else:
            if out is None:
                raise OptionError("scores must land somewhere; name a score file with --out")
            train = _trainer(source, out, standalone, set_, seeds, data, workers)
            limits = MergeLimits.parse(merge or "auto")
            shared: dict[str, Any] = {
                "images": ImageChoice(split, images),
                "device": device,
                "options": ScoringOptions(batch_size, workers, is_isolated=isolate, merge=limits),
                "on_progress": on_progress,
            }
            if is_folder(source):
                fixed = {"--bn": bn, "--merge": merge}
                fixed |= {"--checkpoint": None if checkpoint == "last" else checkpoint}
                _refuse(fixed, "the models of a folder are finished")
                report = search_folder(source, out, settings, data=data, **shared)
            else:
                report = _search_run(source, out, settings, (bn, checkpoint, data), shared)
            if train is not None:
                report = train(report, start("train alone"))
    return print_json(report.as_dict()) if json_ else _print_report(report)


def _search_run(
    source: Path,
    out: Path,
    settings: "SearchSettings",
    opened: tuple[str | None, str, str | None],
    shared: dict[str, Any],
) -> "SearchReport":
    from wsx.studies.run_subnets import RunSubnets
    from wsx.studies.search.run import search_run
    from wsx.training import open_run

    bn, checkpoint, data = opened
    subnets = RunSubnets(open_run(source), bn or "calibrated:4x256", checkpoint, data)
    return search_run(subnets, out, settings, **shared)


Train = Callable[["SearchReport", Callable[[int, int], None]], "SearchReport"]


def _trainer(
    source: Path,
    out: Path,
    recipe: str | None,
    set_: list[str] | None,
    seeds: str,
    data: str | None,
    workers: int | None,
) -> Train | None:
    """Return what trains winners alone, None where that is not asked for; mistakes show before the search."""
    if recipe is None:
        _refuse({"--set": set_}, "it changes the recipe of --standalone")
        return None
    from wsx.studies.search.run import standalone_config, train_winners

    config = standalone_config(source, recipe, o.parse_settings(set_), data=data)
    n_workers = (os.cpu_count() or 1) if workers is None else workers
    numbers = o.parse_seeds(seeds)
    return lambda report, on_score: train_winners(
        report, config, numbers, out, n_workers=n_workers, on_score=on_score
    )


def _refuse(options: dict[str, Any], why: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise OptionError(f"leave out {', '.join(given)}: {why}")


def _noting_best(update: Callable[..., None]) -> "OnProgress":
    def on_progress(n_done: int, n_all: int, best: float) -> None:
        update(n_done, n_all, "" if math.isnan(best) else f"best {best:.4f}")

    return on_progress


def _print_report(report: "SearchReport") -> None:
    settings = {name: value for name, value in report.settings.items() if value != {}}
    n = len(report.trials)
    facts = {
        "space": report.space.name,
        "search": ", ".join(f"{name} {value}" for name, value in settings.items()),
        "tried": f"{n} archs, {report.n_different} different",
    }
    if report.key is not None:
        facts |= {
            "campaign": report.key.digest()[:16],
            "run": str(report.n_run),
            "there already": str(report.n_there_already),
            "failed": str(report.n_failed),
        }
    print_rows("searched", facts)
    columns = _columns(report)
    table = Table("", "arch", *columns, title=f"top {len(report.winners)}", title_justify="left")
    table.columns[1].overflow = "fold"
    for place, winner in enumerate(report.winners, 1):
        cells = [str(place), winner.text, *(show(winner) for show in columns.values())]
        table.add_row(*map(escape, cells))
    stdout.print(table)
    for note in report.notes():
        stdout.print(escape(note), highlight=False)


def _columns(report: "SearchReport") -> dict[str, Callable[["Winner"], str]]:
    """Return the columns that a report has something to say in."""
    columns: dict[str, Callable[[Winner], str]] = {}
    if report.key is not None:
        columns["searched"] = lambda w: _measured(w.searched)
    if report.settings["by"] == "loss" and report.key is not None:
        columns["loss"] = lambda w: _number(w.loss)
    if report.rescore_split is not None:
        columns["rescored"] = lambda w: _measured(w.rescored)
    if any(winner.alone for winner in report.winners):
        columns["alone"] = lambda w: _measured(w.alone)
    columns["params"] = lambda w: "" if w.cost is None else f"{w.cost.params:,}"
    columns["FLOPs"] = lambda w: "" if w.cost is None else f"{w.cost.flops:,}"
    if report.truth is not None:
        columns["truth"] = lambda w: "" if w.standing is None else _number(w.standing.truth)
        columns["true rank"] = lambda w: "" if w.standing is None else _number(w.standing.rank, "g")
        columns["regret"] = lambda w: "" if w.standing is None else _number(w.standing.regret)
    return columns


def _measured(found: "Measured | None") -> str:
    if found is None:
        return "failed"
    return f"{found.accuracy:.2%} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _number(value: float | None, form: str = ".4f") -> str:
    return "unknown" if value is None else format(value, form)
