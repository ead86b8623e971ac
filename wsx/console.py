"""What the command line draws with: bars and log lines on stderr, tables and JSON on stdout."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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

# A pipe has no width of its own; 80 columns would fold every table.
stdout = Console(width=None if sys.stdout.isatty() else 140)
stderr = Console(stderr=True)
SECONDS_PER_LOG_LINE = 30


@contextmanager
def progress_bar(*, is_quiet: bool) -> Iterator[Callable[[str], Callable[..., None]]]:
    """Give a function that starts a bar on stderr and returns its ``(done, total)`` callback."""
    if is_quiet or not stderr.is_terminal:
        yield _silent if is_quiet else _log_lines
        return
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
    )

    def start(description: str) -> Callable[..., None]:
        task = bar.add_task(description, total=None, note="")

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        return update

    with bar:
        yield start


def _silent(description: str) -> Callable[..., None]:
    return lambda done, total, note="": None


def _log_lines(description: str) -> Callable[..., None]:
    """Return a callback that writes a line now and then, for logs of batch jobs."""
    start_s = last_s = time.monotonic()

    def update(done: int, total: int, note: str = "") -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s < SECONDS_PER_LOG_LINE or not done:
            return
        last_s = now_s
        left_s = (now_s - start_s) * (total - done) / done
        stderr.print(f"{description} {done}/{total}, {left_s:.0f} s left {note}", highlight=False)

    return update


def print_json(values: Any) -> None:
    """Print values as JSON on stdout."""
    sys.stdout.write(json.dumps(values, indent=2, allow_nan=False) + "\n")


def print_rows(title: str, rows: dict[str, Any]) -> None:
    """Print names and values as a table on stdout."""
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, escape(str(value)))
    stdout.print(table)


def summary_table(summary: Any) -> Table:
    """Return a table of a summary's measures and baselines, and of what one training of the truth reaches."""
    alone = summary.seed_against_others
    heads = ["measure", "value", "archs", "images", "both"]
    table = Table(*heads, *(["one training alone"] if alone else []), title=_title(summary))
    rows = [("", summary.metrics), *((f"{n}: ", m) for n, m in summary.baselines.items())]
    for prefix, estimates in rows:
        for name, estimate in estimates.items():
            value = estimate.reason or f"{estimate.value:.4g}"
            intervals = [estimate.intervals.get(source) for source in ("archs", "images", "both")]
            cells = [f"[{i.low:.3g}, {i.high:.3g}]" if i else "" for i in intervals]
            if alone:
                cells.append("" if prefix else _seed_text(alone[name]))
            table.add_row(*(escape(cell) for cell in (prefix + estimate.label, value, *cells)))
    for name, measure in summary.seed_against_seed.items():
        label = f"{measure.label}: {summary.metrics[name].label}"
        table.add_row(label, _seed_text(measure), "", "", "", "")
    return table


def result_table(found: Any) -> Table:
    """Return a table of results, numbers with four digits."""
    table = Table(*(escape(column) for column in found.columns), title=escape(found.title))
    for row in found.rows:
        cells = (f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row)
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in cells))
    return table


def _seed_text(measure: Any) -> str:
    return measure.reason or f"{measure.value:.4g}"


def _title(summary: Any) -> str:
    alone = summary.seed_against_others.values()
    n_twice = max((measure.n_archs for measure in alone), default=0)
    return f"{summary.n_archs} archs" + (
        f", {n_twice} trained alone twice or more" if alone else ""
    )
