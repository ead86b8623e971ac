"""Searching with shared weights into a score file, or on a truth table; needs no torch."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from wsx.data import ImageSet, TextSet
from wsx.errors import OptionError, WsxError
from wsx.evaluators.engines import Engine
from wsx.evaluators.merging import MergePlanner
from wsx.evaluators.population import UNKNOWN_COST
from wsx.evaluators.sources import SubnetSource
from wsx.search import (
    Algorithm,
    Candidates,
    Limits,
    OnProgress,
    SharedWeights,
    Trial,
    TruthLookup,
    best_trials,
    run_search,
)
from wsx.spaces import Arch, Cost, Space
from wsx.spaces.lists import pinned
from wsx.store import Campaign, ScoreKey, ScoreStore, open_store
from wsx.studies.images import SPLITS, ImageChoice
from wsx.studies.scoring import versions
from wsx.studies.search_report import Measured, SearchReport, Winner
from wsx.truth import load_truth


@dataclass(frozen=True)
class SearchSettings:
    """What to look for, and how.

    Attributes:
        algorithm: Decides what to try next.
        seed: Of everything that is drawn.
        limits: Bounds on costs.
        measure: What random archs are drawn uniformly over, as for ``Space.population``; None takes the space's
            first.
        by: What archs are ranked by with shared weights, ``accuracy`` or ``loss``.
        top: How many winners.
        truth: What ``load_truth`` takes; None compares with no truth.
        rescore_split: The split that winners are scored on again, whole; None for none.
    """

    algorithm: Algorithm
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    measure: str | None = None
    by: str = "accuracy"
    top: int = 10
    truth: str | None = None
    rescore_split: str | None = None

    def __post_init__(self) -> None:
        """Refuse before the search what would be refused after it.

        Raises:
            OptionError: There is no winner to be, no such split, or a seed that no generator takes.
        """
        if self.top < 1:
            raise OptionError(f"--top is {self.top}; it must be at least 1")
        if self.seed < 0:
            raise OptionError(f"--seed is {self.seed}; it must be at least 0")
        if self.rescore_split is not None and self.rescore_split not in SPLITS:
            raise OptionError(f"split {self.rescore_split!r} is none of: {', '.join(SPLITS)}")

    def facts(self, candidates: Candidates) -> dict[str, Any]:
        """Return all that decides the outcome besides the scores, JSON-clean."""
        return {
            **self.algorithm.as_dict(),
            "seed": self.seed,
            "limits": self.limits.as_dict(),
            "by": self.by,
            **(
                {"measure": pinned(candidates.measure)}
                if candidates.only is None
                else {"n_archs": len(candidates.only)}
            ),
        }


@dataclass(frozen=True)
class Scorer:
    """All that scoring one population after another takes.

    Attributes:
        key: Of the scores.
        source: Of the subnets.
        engine: Scores them.
        images: What they are scored on.
        n_workers: Subnets at once.
        merging: Decides which subnets one model scores.
        info: Provenance.
    """

    key: ScoreKey
    source: SubnetSource
    engine: Engine
    images: ImageSet | TextSet
    n_workers: int
    merging: MergePlanner | None
    info: dict[str, Any]

    def campaign(self, store: ScoreStore, facts: dict[str, Any]) -> Campaign:
        """Return the campaign of the scores in a store."""
        info = {**versions(), **self.info, "split": self.images.split, **facts}
        return store.campaign(self.key, image_ids=self.images.ids, info=info)

    def objective(self, campaign: Campaign, executor: ThreadPoolExecutor, by: str) -> SharedWeights:
        """Return the objective that scores into a campaign."""
        return SharedWeights(
            campaign,
            self.source,
            self.engine,
            executor=executor,
            n_workers=self.n_workers,
            merging=self.merging,
            by=by,
        )


OpenScorer = Callable[[ImageChoice], Scorer]


def search_scored(
    open_scorer: OpenScorer,
    candidates: Candidates,
    images: ImageChoice,
    out: Path,
    settings: SearchSettings,
    on_progress: OnProgress | None = None,
) -> SearchReport:
    """Search with shared weights; every score lands in a file, and those that it holds already cost nothing.

    Args:
        open_scorer: Gives what scores on some images.
        candidates: What may be tried.
        images: What is searched on.
        out: The score file.
        settings: What to look for, and how.
        on_progress: Called as trials end.

    Raises:
        OptionError: A setting is out of range, or too few archs are allowed.
        TruthError: The truth cannot be read.
        StoreError: The score file cannot be used.
        WsxError: No arch could be scored.
    """
    if settings.rescore_split == images.split:
        raise OptionError(
            f"--rescore-split {images.split} is the split of the search; name the other one"
        )
    space, truth = candidates.space, settings.truth
    lookup = None if truth is None else TruthLookup(load_truth(truth), space)
    scorer, facts = open_scorer(images), settings.facts(candidates)
    with open_store(out, "a") as store, ThreadPoolExecutor(scorer.n_workers) as executor:
        campaign = scorer.campaign(store, {"search": facts})
        objective = scorer.objective(campaign, executor, settings.by)
        trials = run_search(
            settings.algorithm, candidates, objective, seed=settings.seed, on_progress=on_progress
        )
        winners = _winners(trials, objective, settings.top)
        if settings.rescore_split is not None:
            other = open_scorer(ImageChoice(settings.rescore_split))
            again = other.objective(
                other.campaign(store, {"rescored": facts}), executor, settings.by
            )
            winners = _rescored(winners, again)
    return SearchReport(
        space,
        facts,
        trials,
        _judged(winners, lookup, candidates),
        scorer.key,
        images.split,
        settings.rescore_split,
        None if lookup is None else lookup.table,
        objective.n_run,
        objective.n_there_already,
        objective.n_failed,
    )


def search_table(
    space: Space, settings: SearchSettings, on_progress: OnProgress | None = None
) -> SearchReport:
    """Search on a truth table, to study the search itself: an arch is worth what the table says.

    Args:
        space: Of the archs.
        settings: What to look for, and how; draws are uniform over the table.
        on_progress: Called as trials end.

    Raises:
        OptionError: There is no table, a setting is out of range, or too few archs are allowed.
        TruthError: The table cannot be read.
    """
    if settings.truth is None:
        raise OptionError(
            "a search without a run needs the truth to search on; name it with --truth"
        )
    lookup = TruthLookup(load_truth(settings.truth), space)

    def cost(arch: Arch) -> Cost:
        return _table_cost(arch, space, lookup)

    # Otherwise every arch would be refused, one by one.
    if not settings.limits.is_free and UNKNOWN_COST in map(cost, islice(lookup.archs, 1)):
        raise OptionError(
            f"the limits need costs, but {space.name} has no formula and the table "
            f"{lookup.table.source} has no columns of them"
        )
    candidates = Candidates(
        space,
        measure=settings.measure,
        # A table under names of its own, such as hashes, is drawn from the space instead.
        only=list(lookup.archs) or None,
        contains=lambda arch: lookup.row(arch) is not None,
        limits=settings.limits,
        cost=cost,
    )
    trials = run_search(
        settings.algorithm, candidates, lookup, seed=settings.seed, on_progress=on_progress
    )
    winners = [
        Winner(trial.arch, space.format(trial.arch), trial.value, _known(cost(trial.arch)))
        for trial in best_trials(trials, settings.top, lookup.identity)
    ]
    judged = _judged(winners, lookup, candidates)
    facts = {**settings.facts(candidates), "by": f"true {lookup.table.metric}"}
    return SearchReport(space, facts, trials, judged, truth=lookup.table)


def _table_cost(arch: Arch, space: Space, lookup: TruthLookup) -> Cost:
    """Return the cost of the benchmark's own network, from the space or else from the table."""
    cost = space.cost(arch, space.reference_macro) if space.reference_macro else None
    if cost is not None:
        return cost
    row, table = lookup.row(arch), lookup.table
    if row is None or table.params is None or table.flops is None:
        return UNKNOWN_COST
    return Cost(int(table.params[row]), int(table.flops[row]))


def _known(cost: Cost) -> Cost | None:
    return None if cost.params < 0 else cost


def _winners(trials: Sequence[Trial], objective: SharedWeights, k: int) -> list[Winner]:
    best = best_trials(trials, k, objective.identity)
    if not best:
        first = objective.score_of(trials[0].arch)
        raise WsxError(
            f"none of {len(trials)} archs could be scored, first {first.text}: {first.error}"
        )
    winners = []
    for trial in best:
        score = objective.score_of(trial.arch)
        cost = _known(Cost(score.params, score.flops))
        loss, searched = score.loss_sum / score.total, Measured.of_score(score)
        winners.append(Winner(trial.arch, score.text, trial.value, cost, searched, loss))
    return winners


def _rescored(winners: Sequence[Winner], objective: SharedWeights) -> list[Winner]:
    objective.score([winner.arch for winner in winners], lambda n_done: None)
    return [replace(w, rescored=Measured.of_score(objective.score_of(w.arch))) for w in winners]


def _judged(
    winners: Sequence[Winner], lookup: TruthLookup | None, candidates: Candidates
) -> list[Winner]:
    if lookup is None:
        return list(winners)
    rows = lookup.rows_of(candidates)
    return [replace(w, standing=lookup.standing(w.arch, rows)) for w in winners]
