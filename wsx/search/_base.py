"""What every search has in common: it asks for batches of archs, an objective scores them.

A search is a function of its settings, its seed and the scores. So an interrupted one is done again from the
start: scores that are stored cost nothing, its decisions come out as before, and it goes on where it stopped.
"""

import math
from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from wsx.errors import OptionError
from wsx.registry import Registry
from wsx.search.candidates import Candidates
from wsx.spaces import Arch

Batches = Generator[list[Arch], list[float], None]
"""Yields archs to score, and is sent their values."""

OnProgress = Callable[[int, int, float], None]
"""Gets trials done, trials in all, and the best value so far, nan before there is one."""


@dataclass(frozen=True)
class Trial:
    """One arch that a search asked for.

    Attributes:
        arch: The arch; a search may ask for one again.
        value: What it is worth, larger is better; nan where it could not be scored.
    """

    arch: Arch
    value: float


class Objective(Protocol):
    """What a search maximises; the value of an arch never changes within a search."""

    def score(self, archs: Sequence[Arch], on_scored: Callable[[int], None]) -> list[float]:
        """Return the values of a batch, larger is better, nan for archs that could not be scored.

        Args:
            archs: The batch; repeats are allowed.
            on_scored: Called, as scoring goes on, with how many of the batch are done.
        """

    def identity(self, arch: Arch) -> Hashable:
        """Return what is equal for scored archs that are the same thing in other words."""


class Algorithm(Protocol):
    """Decides what to try next."""

    @property
    def budget(self) -> int:
        """Trials in all; archs that are tried again count again."""

    def batches(self, candidates: Candidates, rng: np.random.Generator) -> Batches:
        """Yield batches of archs, ``budget`` in all, and be sent their values."""

    def as_dict(self) -> dict[str, Any]:
        """Return all that decides the outcome, JSON-clean."""


ALGORITHMS: Registry[Callable[..., Algorithm]] = Registry("search algorithm")


def make_algorithm(name: str, budget: int, **options: float | None) -> Algorithm:
    """Return an algorithm by name; options that are None take their defaults.

    Raises:
        UnknownNameError: There is no such algorithm.
        OptionError: An option is out of range, or the algorithm has none of that name.
    """
    kind: Any = ALGORITHMS[name]
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in {field.name for field in fields(kind)}:
            shown = option.replace("_", "-")
            raise OptionError(f"--{shown} is of no use to {name} search; leave it out")
    algorithm: Algorithm = kind(budget, **given)
    return algorithm


def run_search(
    algorithm: Algorithm,
    candidates: Candidates,
    objective: Objective,
    *,
    seed: int,
    on_progress: OnProgress | None = None,
) -> list[Trial]:
    """Return the trials of a search, in order.

    Args:
        algorithm: Decides what to try next.
        candidates: What may be tried.
        objective: What is maximised.
        seed: Of everything that is drawn.
        on_progress: Called as trials end.

    Raises:
        OptionError: The seed is negative, the budget exceeds the archs there are, or too few are allowed.
    """
    if seed < 0:
        raise OptionError(f"seed is {seed}; it must be at least 0")
    if algorithm.budget > candidates.n_archs:
        raise OptionError(
            f"a budget of {algorithm.budget} exceeds the {candidates.n_archs} archs there are to search among; "
            "choose a smaller one, or score all of them with `wsx evaluate --all`"
        )
    trials: list[Trial] = []
    best = math.nan

    def on_scored(n_done: int) -> None:
        if on_progress is not None:
            on_progress(len(trials) + n_done, algorithm.budget, best)

    batches = algorithm.batches(candidates, np.random.default_rng(seed))
    batch = next(batches)
    while True:
        values = objective.score(batch, on_scored)
        trials += [Trial(arch, value) for arch, value in zip(batch, values, strict=True)]
        # What is no number loses, whichever side it is on.
        best = float(np.fmax.reduce([best, *values]))
        on_scored(0)
        try:
            batch = batches.send(values)
        except StopIteration:
            return trials


def best_trials(
    trials: Sequence[Trial], k: int, identity: Callable[[Arch], Hashable]
) -> list[Trial]:
    """Return the best k trials, best first, ties in the order of the trials; none of an arch that failed.

    Args:
        trials: All trials.
        k: How many, at least 1; there may be fewer.
        identity: Of archs with equal ones only the first is listed.
    """
    scored = [trial for trial in trials if not math.isnan(trial.value)]
    ranked = sorted(scored, key=lambda trial: -trial.value)
    distinct: dict[Hashable, Trial] = {}
    for trial in ranked:
        distinct.setdefault(identity(trial.arch), trial)
    return list(distinct.values())[:k]
