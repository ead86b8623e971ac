"""wsx: train weight-sharing super-nets, score thousands of subnets, measure what the scores are worth.

The names below are what the loop needs; each is loaded when first used, so that ``import wsx`` costs nothing
and analysing scores does not need torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from wsx.version import __version__

if TYPE_CHECKING:
    from wsx.analysis import SummaryOptions, summarise
    from wsx.exporters.extract import extract
    from wsx.spaces import SPACES
    from wsx.spaces.choice import ArchChoice
    from wsx.store import open_store
    from wsx.studies.analyze import compare, report_comparison
    from wsx.studies.evaluate_folder import evaluate_folder
    from wsx.studies.evaluate_run import evaluate_run
    from wsx.studies.export_run import export_run
    from wsx.studies.images import ImageChoice
    from wsx.studies.run_subnets import RunSubnets
    from wsx.supernets import build_supernet
    from wsx.training import RECIPES, DataSpec, RunConfig, open_run, train_supernet
    from wsx.truth import load_truth

_HOMES = {
    "SummaryOptions": "wsx.analysis",
    "summarise": "wsx.analysis",
    "extract": "wsx.exporters.extract",
    "SPACES": "wsx.spaces",
    "ArchChoice": "wsx.spaces.choice",
    "open_store": "wsx.store",
    "compare": "wsx.studies.analyze",
    "report_comparison": "wsx.studies.analyze",
    "evaluate_folder": "wsx.studies.evaluate_folder",
    "RunSubnets": "wsx.studies.run_subnets",
    "evaluate_run": "wsx.studies.evaluate_run",
    "export_run": "wsx.studies.export_run",
    "ImageChoice": "wsx.studies.images",
    "build_supernet": "wsx.supernets",
    "RECIPES": "wsx.training",
    "DataSpec": "wsx.training",
    "RunConfig": "wsx.training",
    "open_run": "wsx.training",
    "train_supernet": "wsx.training",
    "load_truth": "wsx.truth",
}

__all__ = [
    "RECIPES",
    "SPACES",
    "ArchChoice",
    "DataSpec",
    "ImageChoice",
    "RunConfig",
    "RunSubnets",
    "SummaryOptions",
    "__version__",
    "build_supernet",
    "compare",
    "evaluate_folder",
    "evaluate_run",
    "export_run",
    "extract",
    "load_truth",
    "open_run",
    "open_store",
    "report_comparison",
    "summarise",
    "train_supernet",
]


def __getattr__(name: str) -> Any:
    """Return a public name from the module that it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module 'wsx' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
