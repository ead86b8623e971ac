"""Running a study: the plan, its steps in order, and the report; repeated, it goes on where it stopped."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsx.errors import StudyError
from wsx.report.findings import Findings
from wsx.report.study import write_study
from wsx.studies.papers._base import Machine, Settings, Step, Study, Update, Work
from wsx.training.run import write_json
from wsx.version import __version__

FORMAT_VERSION = 1


@dataclass(frozen=True)
class PlannedStep:
    """One line of the plan."""

    name: str
    work: Work
    is_done: bool


def make_plan(steps: Sequence[Step], folder: Path) -> list[PlannedStep]:
    """Return what there is to do, and what of it is done."""
    return [PlannedStep(step.name, step.work(), _mark(folder, step).exists()) for step in steps]


def run_study(
    name: str,
    study: Study,
    settings: Settings,
    folder: Path,
    *,
    machine: Machine,
    start: Callable[[str], Update],
) -> Findings:
    """Do all steps that are not done, and write findings and report.

    Args:
        name: Of the study.
        study: What to run.
        settings: Its numbers.
        folder: Where everything goes: runs, scores, truth, ``findings.json``, ``report.html``.
        machine: Where the work is done.
        start: Begins a step, by its name, and returns its progress callback.

    Raises:
        StudyError: The folder holds another study or other settings.
        WsxError: A step failed; what was finished is kept.
    """
    _claim(folder, name, settings)
    for step in study.steps(settings, folder):
        mark = _mark(folder, step)
        if mark.exists():
            continue
        step.run(folder, machine, start(step.name))
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
    return report_study(study, settings, folder)


def report_study(study: Study, settings: Settings, folder: Path) -> Findings:
    """Write findings and report of a study whose steps are done.

    Raises:
        WsxError: Steps are missing.
    """
    findings = study.findings(settings, folder)
    write_json(folder / "findings.json", findings.as_dict())
    write_study(folder / "report.html", findings)
    return findings


def _mark(folder: Path, step: Step) -> Path:
    return folder / "done" / step.name


def _claim(folder: Path, name: str, settings: Settings) -> None:
    """Make the folder this study's, or see that it is."""
    path = folder / "study.json"
    # What goes through JSON and back compares equal to what was read.
    wanted: dict[str, Any] = json.loads(json.dumps({"study": name, "settings": settings.as_dict()}))
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        versions = {"format_version": FORMAT_VERSION, "wsx_version": __version__}
        write_json(path, {**versions, **wanted})
        return
    try:
        found = json.loads(path.read_text())
        version = int(found["format_version"])
        same = {key: found[key] for key in wanted}
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise StudyError(f"{path} is damaged: {error}; choose another --out") from error
    if version > FORMAT_VERSION:
        raise StudyError(
            f"{path} has study format {version}; this wsx reads up to {FORMAT_VERSION}. Upgrade wsx"
        )
    if same != wanted:
        what = ", ".join(sorted(_differences(same, wanted)))
        raise StudyError(f"{folder} holds another study: {what} differ. Choose another --out")


def _differences(old: Any, new: Any, prefix: str = "") -> set[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = [(name, f"{prefix}.{name}" if prefix else name) for name in {*old, *new}]
        return {
            one for name, path in names for one in _differences(old.get(name), new.get(name), path)
        }
    return set() if old == new else {prefix}
