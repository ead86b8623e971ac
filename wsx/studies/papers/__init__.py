"""The experiments of the three papers, by name in ``STUDIES``: a folder for a paper, a module for a study."""

from wsx.studies.papers import p1, p2, p3  # noqa: F401  (they register their studies)
from wsx.studies.papers._base import SCALES, STUDIES, Machine, Settings, Step, Study
from wsx.studies.papers.other_space import settings_of
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
