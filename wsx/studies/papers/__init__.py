"""The experiments of the three papers, by name in ``STUDIES``; one module each."""

from wsx.studies.papers import instances  # noqa: F401  (registers the study)
from wsx.studies.papers._base import SCALES, STUDIES, Machine, Settings, Step, Study, settings_of
from wsx.studies.papers.runner import PlannedStep, make_plan, report_study, run_study

__all__ = [
    "SCALES",
    "STUDIES",
    "Machine",
    "PlannedStep",
    "Settings",
    "Step",
    "Study",
    "make_plan",
    "report_study",
    "run_study",
    "settings_of",
]
