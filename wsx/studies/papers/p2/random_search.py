"""Is random search with a good supernet enough? P2's last experiment, replayed on the scores of all archs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import average_ranks, surpass_random
from wsx.analysis.uncertainty import Spread, spread
from wsx.errors import StudyError
from wsx.report.findings import Cell, Claim, Findings, Plot, ResultTable, limits
from wsx.search import (
    Algorithm,
    Candidates,
    Evolution,
    RandomSearch,
    Trial,
    TruthLookup,
    best_trials,
    run_search,
)
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.nasbench201 import P2, nasbench201_settings
from wsx.studies.papers.p2.own_truth import OwnTruthSettings
from wsx.studies.papers.seeds import claim_over_seeds, curve
from wsx.studies.papers.variants import Variant, accuracy_of, difference, variant_steps
from wsx.truth import TruthTable

Array = NDArray[np.float64]
ABSTRACT = f"{P2}, abstract"
N_POINTS = 8
MEASURES = {
    "searched": "accuracy with shared weights of the winner",
    "final": "truth of the top K",
    "best": "truth of the best of the top K",
    "surpass_random": "P > random",
}
EDGES = ("0->1", "0->2", "1->2", "0->3", "1->3", "2->3")


@dataclass(frozen=True)
class RandomSearchSettings(OwnTruthSettings):
    """Numbers of the study.

    Attributes:
        budget: Archs that a search scores with shared weights.
        population: Archs alive in evolution.
        tournament: Archs of which the best is a parent.
        n_searches: Searches of each kind with each supernet.
        margin: Truth by which random search may end worse than evolution and still be competitive.
    """

    budget: int = 1000
    population: int = 50
    tournament: int = 10
    n_searches: int = 50
    margin: float = 0.005

    def all_archs(self) -> tuple[str, ...]:
        """Return all archs that may be found: those that are trained and, where a table is given, have a truth.

        Raises:
            StudyError: No truth is given, and the study makes none.
            TruthError: It cannot be read.
        """
        if not self.trains_truth:
            return self.known_archs()[0]
        space = self.run_config(self.recipe, 0).archs
        listed = space.population(self.recipe.measure) or space.enumerate()
        return tuple(space.format(arch) for arch in listed)


class RandomSearchStudy(Study):
    """Random search and evolution on the scores of good supernets, beside picks without a supernet."""

    paper = f"{P2}, its final comparison"
    summary = "is random search enough once the supernet is trained well?"
    starts_from = "p2-nasbench201"

    def settings(self, scale: str) -> RandomSearchSettings:
        """Return the numbers of a scale; population and tournament are those of the paper's code."""
        values = nasbench201_settings(scale, self.starts_from)
        if scale == "tiny":
            values |= {"truth": "", "n_truth_seeds": 1, "restriction": _narrow(n_free=4)}
            return RandomSearchSettings(
                **values, budget=8, population=4, tournament=2, n_searches=10, margin=0.02
            )
        if scale == "small":
            # 8,195 different functions, three times: every image counts.
            values |= {"bn": "calibrated:1x256", "n_images": 500}
            return RandomSearchSettings(**values, budget=300)
        return RandomSearchSettings(**values)

    def steps(self, settings: RandomSearchSettings, folder: Path) -> Sequence[Step]:
        """Train supernets, and score all archs with each; nothing is left to do for a search."""
        texts = settings.all_archs()
        # What no search can do is refused before hours of work.
        _algorithms(settings, len(texts))
        return [
            *variant_steps([_supernets(settings)], settings, texts),
            *settings.truth_steps(texts),
        ]

    def findings(self, settings: RandomSearchSettings, folder: Path) -> Findings:
        """Replay searches, and look up the truth of what they end with."""
        texts = settings.all_archs()
        truth = settings.truth_in(folder).only(texts).goodness
        scores = accuracy_of(_supernets(settings), settings, folder, texts)[:, -1]
        ground = _Ground(settings, texts, truth)
        found = {
            name: np.array([ground.searched(algorithm, row) for row in scores])
            for name, algorithm in _algorithms(settings, len(texts)).items()
        }
        picks = _picks(truth, settings.top_k)
        ends = {name: _ends(values) for name, values in found.items()}
        return Findings(
            "Is random search enough once the supernet is trained well?",
            f"{settings.n_searches} searches of each kind for {settings.budget} of {len(texts)} archs with "
            f"each of {len(settings.seeds)} supernets; the top {settings.top_k} are looked up. "
            f"{settings.space}, {settings.data.spec}.",
            _claims(ends, picks, settings),
            [_table(ends, picks, truth)],
            [_plot(found, ground.points, truth)],
            {**settings.as_dict(), "published": P2},
        )


def _narrow(n_free: int) -> tuple[str, ...]:
    """Return a restriction to a choice of two on the first edges, and of one on the others."""
    return tuple(
        f"{edge}=skip_connect|nor_conv_3x3" if place < n_free else f"{edge}=skip_connect"
        for place, edge in enumerate(EDGES)
    )


def _algorithms(settings: RandomSearchSettings, n_archs: int) -> dict[str, Algorithm]:
    """Return what is compared.

    Raises:
        StudyError: The budget is below the top K, or exceeds the archs.
        OptionError: Evolution cannot do with these numbers.
    """
    if not settings.top_k <= settings.budget <= n_archs:
        raise StudyError(
            f"budget is {settings.budget}; it must lie in {settings.top_k} (top_k)..{n_archs} (all archs)"
        )
    return {
        "random search": RandomSearch(settings.budget),
        "evolution": Evolution(settings.budget, settings.population, settings.tournament),
    }


def _supernets(settings: RandomSearchSettings) -> Variant:
    config = settings.run_config(settings.recipe, settings.seeds[0])
    return Variant("supernet", "supernet", config, settings.bn)


class _Ground:
    """What is searched: archs with scores, and their truth to judge what is found."""

    def __init__(self, settings: RandomSearchSettings, texts: Sequence[str], truth: Array) -> None:
        self._settings, self._texts, self._truths = settings, texts, truth
        self._space = settings.run_config(settings.recipe, 0).archs
        archs = [self._space.parse(text) for text in texts]
        self._candidates = Candidates(self._space, only=archs)
        self._truth = dict(zip(archs, truth.tolist(), strict=True))
        # Archs that compute the same are listed once.
        self._keys = {arch: self._space.function_key(arch) for arch in archs}

    @cached_property
    def points(self) -> list[int]:
        """Numbers of archs tried at which searches are looked at."""
        first, last = self._settings.top_k, self._settings.budget
        return sorted({int(n) for n in np.linspace(first, last, N_POINTS)})

    def searched(self, algorithm: Algorithm, scores: Array) -> Array:
        """Return what searches on scores (arch,) end with, (search, point, measure), by ``MEASURES``."""
        table = TruthTable(
            self._space.name, "", "", "shared weights", tuple(self._texts), np.asarray(scores)
        )
        objective = TruthLookup(table, self._space)
        return np.array(
            [
                self._over_time(run_search(algorithm, self._candidates, objective, seed=seed))
                for seed in range(self._settings.n_searches)
            ]
        )

    def _over_time(self, trials: Sequence[Trial]) -> list[list[float]]:
        points = [n for n in self.points if n < len(trials)]
        return [self._judged(trials[:n]) for n in (*points, len(trials))]

    def _judged(self, trials: Sequence[Trial]) -> list[float]:
        k = self._settings.top_k
        winners = best_trials(trials, k, self._keys.__getitem__)
        truths = [self._truth[winner.arch] for winner in winners]
        best = max(truths)
        # Archs tied in truth share the mean of their ranks.
        n_better, n_tied = (self._truths > best).sum(), (self._truths == best).sum()
        surpassed = surpass_random(n_better + (n_tied + 1) / 2, len(self._texts), k)
        return [winners[0].value, float(np.mean(truths)), best, surpassed]


def _picks(truth: Array, k: int) -> dict[str, float]:
    """Return what k different archs drawn at random end with on average, exactly."""
    n = truth.size
    ascending, ranks = np.sort(truth), np.sort(average_ranks(truth))
    chances = np.array([math.comb(n - place, k - 1) / math.comb(n, k) for place in range(1, n + 1)])
    surpassed = [surpass_random(rank, n, k) for rank in ranks]
    return {
        "final": float(truth.mean()),
        "best": float(chances @ ascending[::-1]),
        "surpass_random": float(chances @ surpassed),
    }


def _ends(values: Array) -> dict[str, Spread]:
    """Return what searches (supernet, search, point, measure) end with, means of searches over supernets."""
    last = values[:, :, -1].mean(axis=1)
    return {name: spread(last[:, i], label) for i, (name, label) in enumerate(MEASURES.items())}


def _claims(
    ends: Mapping[str, Mapping[str, Spread]],
    picks: Mapping[str, float],
    settings: RandomSearchSettings,
) -> list[Claim]:
    random, evolution = ends["random search"], ends["evolution"]
    gain = random["final"].values - evolution["final"].values
    return [
        claim_over_seeds(
            "Random search with a supernet beats as many archs drawn at random.",
            ABSTRACT,
            spread(random["surpass_random"].values - picks["surpass_random"], "P above chance"),
            f"P > random {random['surpass_random'].mean:.3f}, {picks['surpass_random']:.3f} by chance; truth "
            f"of the top {settings.top_k} {random['final'].mean:.4f}, {picks['final']:.4f} by chance: P above "
            "chance",
        ),
        claim_over_seeds(
            f"Random search is competitive: with the same scores it ends at most {settings.margin:g} below "
            "evolution.",
            ABSTRACT,
            spread(gain + settings.margin, "room"),
            f"truth of the top {settings.top_k} {random['final'].mean:.4f}, of evolution "
            f"{evolution['final'].mean:.4f}: random less evolution, plus {settings.margin:g},",
        ),
    ]


def _table(
    ends: Mapping[str, Mapping[str, Spread]], picks: Mapping[str, float], truth: Array
) -> ResultTable:
    random, evolution = ends["random search"], ends["evolution"]
    gaps = {name: difference(random[name], evolution[name]) for name in MEASURES}
    rows: list[list[Cell]] = []
    for name, found in {**ends, "random search less evolution": gaps}.items():
        row: list[Cell] = [name]
        for one in found.values():
            row += [100 * one.mean, limits(100 * one.low, 100 * one.high, 2)]
        rows.append(row)
    without: dict[str, Mapping[str, float]] = {
        "archs drawn at random, no supernet": picks,
        "best of all archs": {"best": float(truth.max())},
    }
    for name, known in without.items():
        shares = (known.get(measure) for measure in MEASURES)
        rows.append(
            [name, *(c for one in shares for c in (None if one is None else 100 * one, ""))]
        )
    heads = [head for name in MEASURES.values() for head in (f"{name}, %", "95 % over supernets")]
    return ResultTable(
        "What searches end with",
        ["search", *heads],
        rows,
        "Means over searches; archs drawn at random are as many as the top K, and are looked up all. The paper's "
        "own figures are not known to us.",
    )


def _plot(found: Mapping[str, Array], points: Sequence[int], truth: Array) -> Plot:
    column = list(MEASURES).index("final")
    lines = [
        curve(name, points, values[..., column].mean(axis=1)) for name, values in found.items()
    ]
    chance = curve("drawn at random", points, np.full((1, len(points)), truth.mean()))
    return Plot(
        "truth",
        "Truth of the top K, over the archs tried",
        "archs scored with shared weights",
        MEASURES["final"],
        "lines",
        [*lines, chance],
        "Means over searches and supernets, with 95 % limits over supernets.",
    )


STUDIES.register("random-search")(RandomSearchStudy())
