"""The command that repeats a paper's experiment."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from wsx import options as o
from wsx.console import print_json, progress_bar, stdout

if TYPE_CHECKING:
    from wsx.report.findings import Findings
    from wsx.studies.papers.runner import PlannedStep

Name = Annotated[str | None, typer.Argument(help="Study; left out, all are listed.")]
Scale = Annotated[str, typer.Option("--scale", help="tiny, small or paper.")]
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder of the study; default study-NAME-SCALE.")
]
SetStudy = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting, KEY=VALUE, recipe.KEY or data.KEY."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan with estimated times, and stop.")
]


def study(
    name: Name = None,
    scale: Scale = "tiny",
    out: Out = None,
    set_: SetStudy = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Images instead of the study's own, as for train.")
    ] = None,
    dry_run: DryRun = False,
    device: o.Device = "auto",
    torch_device: Annotated[
        str, typer.Option("--torch-device", help="Where supernets are trained, such as cuda.")
    ] = "cpu",
    workers: o.Workers = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
) -> None:
    """Repeat an experiment of the papers: train, score, compare, and write a report; resumes where it stopped."""
    from wsx.studies.papers import STUDIES, Machine, make_plan, run_study, settings_of

    if name is None:
        _list_studies(as_json=json)
        return
    found = STUDIES[name]
    values = o.parse_settings(set_) | ({} if data is None else {"data.spec": data})
    settings = settings_of(found, scale, values)
    folder = out or Path(f"study-{name}-{scale}")
    # A plan takes measurements: only where somebody sees it.
    if dry_run or not (json or quiet):
        _print_plan(make_plan(found.steps(settings, folder), folder), as_json=json)
    if dry_run:
        return
    machine = Machine(torch_device, device, workers)
    with progress_bar(is_quiet=quiet) as start:
        findings = run_study(name, found, settings, folder, machine=machine, start=start)
    if json:
        print_json(findings.as_dict())
    else:
        _print_findings(findings, folder / "report.html")


def _list_studies(*, as_json: bool) -> None:
    from wsx.studies.papers import STUDIES

    rows = [(name, found.paper, found.summary) for name, found in sorted(STUDIES.items())]
    if as_json:
        print_json([dict(zip(("name", "paper", "summary"), row, strict=True)) for row in rows])
        return
    table = Table("study", "of", "asks")
    for row in rows:
        table.add_row(*map(escape, row))
    stdout.print(table)


def _print_plan(plan: "list[PlannedStep]", *, as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "step": step.name,
            "trainings": step.work.n_trainings,
            "train_images": step.work.n_train_images,
            "scores": step.work.n_scores,
            "scored_images": step.work.n_scored_images,
            "seconds": 0.0 if step.is_done else step.work.seconds,
            "is_done": step.is_done,
        }
        for step in plan
    ]
    if as_json:
        print_json(rows)
        return
    total_s = sum(row["seconds"] for row in rows)
    table = Table("step", "trainings", "images trained on", "scores", "estimated", title="plan")
    for row in rows:
        numbers = (f"{row[key]:,}" for key in ("trainings", "train_images", "scores"))
        when = "done" if row["is_done"] else _duration(row["seconds"])
        table.add_row(escape(row["step"]), *numbers, when)
    table.add_row("all", "", "", "", _duration(total_s))
    stdout.print(table)


def _print_findings(findings: "Findings", page: Path) -> None:
    table = Table("verdict", "claim", "evidence", title=escape(findings.title))
    for claim in findings.claims:
        table.add_row(claim.verdict, escape(claim.text), escape(claim.evidence))
    stdout.print(table)
    stdout.print(f"report: {escape(str(page))}")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
