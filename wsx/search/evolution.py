"""Regularised evolution: tournaments choose parents, mutation makes children, and the oldest die.

Real, Aggarwal, Huang and Le, "Regularized Evolution for Image Classifier Architecture Search" (AAAI 2019,
arXiv 1802.01548), Algorithm 1. Here children come in rounds, all of one round from the same population, so that
a round is scored in parallel; rounds of one child are the published algorithm.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsx.errors import OptionError
from wsx.search._base import ALGORITHMS, Batches
from wsx.search.candidates import MAX_TRIES, Candidates
from wsx.spaces import Arch

N_CHILDREN = 16


@dataclass(frozen=True)
class Evolution:
    """Ageing evolution.

    Attributes:
        budget: Archs tried in all, the first population and archs tried again included, as in the paper.
        population: Archs alive. The first ones are different archs drawn uniformly.
        tournament: Archs drawn from the population, with replacement, of which the best is the parent.
        mutation_rate: Chance that a child is a neighbour of its parent, in (0, 1]; else it is a copy, and its
            parent lives on.
        per_round: Children made before any of them is scored; None takes 16, or the population where that is
            smaller. The outcome depends on it, and not on how many workers share the round.

    Raises:
        OptionError: A value is out of range.
    """

    budget: int
    # Population and tournament of "An Analysis of Super-Net Heuristics in Weight-Sharing NAS".
    population: int = 50
    tournament: int = 10
    mutation_rate: float = 1.0
    per_round: int | None = None

    def __post_init__(self) -> None:
        checks = (
            (self.population >= 1, f"--population is {self.population}; it must be at least 1"),
            (
                self.budget > self.population,
                f"--budget {self.budget} must exceed --population {self.population}, or nothing evolves",
            ),
            (
                1 <= self.tournament <= self.population,
                f"--tournament is {self.tournament}; it must lie in 1..{self.population}, the population",
            ),
            (
                0 < self.mutation_rate <= 1,
                f"--mutation-rate is {self.mutation_rate}; it must lie in (0, 1]",
            ),
            (
                1 <= self.n_children <= self.population,
                f"--per-round is {self.per_round}; it must lie in 1..{self.population}, the population",
            ),
        )
        for is_fine, message in checks:
            if not is_fine:
                raise OptionError(message)

    @property
    def n_children(self) -> int:
        """Children of a round."""
        return min(N_CHILDREN, self.population) if self.per_round is None else self.per_round

    def batches(self, candidates: Candidates, rng: np.random.Generator) -> Batches:
        """Yield the first population, then rounds of children.

        Raises:
            OptionError: Too few archs are allowed, or no child in ``MAX_TRIES`` tries.
        """
        alive: deque[tuple[Arch, float]] = deque(maxlen=self.population)
        batch = candidates.sample(self.population, rng=rng)
        n_tried = 0
        while batch:
            values = yield batch
            # What is full lets go of its oldest.
            alive.extend(zip(batch, map(_fitness, values), strict=True))
            n_tried += len(batch)
            members = list(alive)
            n_children = min(self.n_children, self.budget - n_tried)
            batch = [self._child(members, candidates, rng) for _ in range(n_children)]

    def _child(
        self, members: list[tuple[Arch, float]], candidates: Candidates, rng: np.random.Generator
    ) -> Arch:
        # A refused child costs its parent the turn, so that no corner of the limits is a trap.
        for _ in range(MAX_TRIES):
            drawn = rng.integers(len(members), size=self.tournament)
            parent, _ = max((members[int(i)] for i in drawn), key=lambda member: member[1])
            if rng.random() >= self.mutation_rate:
                return parent
            child = candidates.mutate(parent, rng=rng)
            if child is not None:
                return child
        raise candidates.exhausted(f"no child in {MAX_TRIES} tries")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings."""
        return {
            "algorithm": "evolution",
            "budget": self.budget,
            "population": self.population,
            "tournament": self.tournament,
            "mutation_rate": self.mutation_rate,
            "per_round": self.n_children,
        }


def _fitness(value: float) -> float:
    # Nothing compares with nan; what failed loses to everything.
    return -math.inf if math.isnan(value) else value


ALGORITHMS.register("evolution")(Evolution)
