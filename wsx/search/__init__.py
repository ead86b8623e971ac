"""Searching a space: random or by evolution, over anything that scores archs."""

from wsx.search._base import (
    ALGORITHMS,
    Algorithm,
    Objective,
    OnProgress,
    Trial,
    best_trials,
    make_algorithm,
    run_search,
)
from wsx.search.candidates import Candidates, Limits
from wsx.search.evolution import Evolution
from wsx.search.random_search import RandomSearch
from wsx.search.shared_weights import SharedWeights
from wsx.search.truth import Standing, TruthLookup

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Candidates",
    "Evolution",
    "Limits",
    "Objective",
    "OnProgress",
    "RandomSearch",
    "SharedWeights",
    "Standing",
    "Trial",
    "TruthLookup",
    "best_trials",
    "make_algorithm",
    "run_search",
]
