"""Searching with shared weights, into a score file; needs no torch."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wsx.data import ImageSet, TextSet
from wsx.errors import OptionError, WsxError
from wsx.evaluators.engines import Engine
from wsx.evaluators.merging import MergePlanner
from wsx.evaluators.sources import SubnetSource
from wsx.search import (
    Candidates,
    OnProgress,
    SharedWeights,
    Trial,
    TruthLookup,
    best_trials,
    run_search,
)
from wsx.spaces import Cost
from wsx.store import Campaign, ScoreKey, ScoreStore, open_store
from wsx.studies.images import ImageChoice
from wsx.studies.scoring import versions
from wsx.studies.search.report import Measured, SearchReport, Winner, judged, known_cost
from wsx.studies.search.settings import SearchSettings
from wsx.truth import load_truth


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
        judged(winners, lookup, candidates),
        scorer.key,
        images.split,
        settings.rescore_split,
        None if lookup is None else lookup.table,
        objective.n_run,
        objective.n_there_already,
        objective.n_failed,
    )


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
        cost = known_cost(Cost(score.params, score.flops))
        loss, searched = score.loss_sum / score.total, Measured.of_score(score)
        winners.append(Winner(trial.arch, score.text, trial.value, cost, searched, loss))
    return winners


def _rescored(winners: Sequence[Winner], objective: SharedWeights) -> list[Winner]:
    objective.score([winner.arch for winner in winners], lambda n_done: None)
    return [replace(w, rescored=Measured.of_score(objective.score_of(w.arch))) for w in winners]
