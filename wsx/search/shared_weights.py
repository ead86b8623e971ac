"""The objective of a search with shared weights: batches go into a campaign, whose scores are the values."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import numpy as np

from wsx.errors import OptionError
from wsx.evaluators.engines import Engine
from wsx.evaluators.merging import MergePlanner
from wsx.evaluators.population import score_population
from wsx.evaluators.sources import SubnetSource
from wsx.spaces import Arch
from wsx.store import Campaign, Score, ScoreTable

VALUES: dict[str, Callable[[Score], float]] = {
    "accuracy": lambda score: score.accuracy,
    "loss": lambda score: -score.loss_sum / score.total if score.status == "ok" else math.nan,
}
"""What archs may be ranked by, larger is better, nan where they could not be scored."""


class _Remembered(Campaign):
    """A campaign whose scores are kept at hand: a search comes back for them every few archs.

    Attributes:
        scores: By arch; those that failed in an earlier process are left out, and so tried again.
    """

    def __init__(self, campaign: Campaign) -> None:
        super().__init__(campaign.key, campaign.info, campaign.image_ids, None)
        self._campaign = campaign
        self.scores: dict[Arch, Score] = {}
        self._functions: dict[str, Score] = {}
        table = campaign.table()
        self._remember([table.score(int(row)) for row in np.flatnonzero(table.status != "failed")])

    def table(self) -> ScoreTable:
        return self._campaign.table()

    def finished(self) -> set[Arch]:
        return set(self.scores)

    def known_functions(self) -> dict[str, Score]:
        return self._functions

    def _keep(self, scores: Sequence[Score]) -> None:
        self._campaign.append(scores)
        self._remember(scores)

    def _remember(self, scores: Sequence[Score]) -> None:
        for score in scores:
            self.scores[score.arch] = score
            if score.status == "ok" and score.function_key:
                self._functions.setdefault(score.function_key, score)


class SharedWeights:
    """Scores archs with a supernet's weights; what the campaign holds already costs nothing.

    Args:
        campaign: Where scores go, and come from.
        source: Of the subnets.
        engine: Scores them.
        executor: Runs chunks of a batch.
        n_workers: How many chunks to keep in flight; changes no score.
        merging: Decides which subnets one model scores; changes no score.
        by: What archs are worth: ``accuracy``, or ``loss`` (the negative mean loss, in nats).

    Attributes:
        n_run: Subnets run to the end.

    Raises:
        OptionError: ``by`` is neither.
    """

    def __init__(
        self,
        campaign: Campaign,
        source: SubnetSource,
        engine: Engine,
        *,
        executor: Executor,
        n_workers: int,
        merging: MergePlanner | None = None,
        by: str = "accuracy",
    ) -> None:
        if by not in VALUES:
            raise OptionError(f"archs are ranked by one of {', '.join(VALUES)}, not by {by!r}")
        self._campaign = _Remembered(campaign)
        self._source, self._engine, self._executor = source, engine, executor
        self._n_workers, self._merging, self._value = n_workers, merging, VALUES[by]
        self._were_there = frozenset(self._campaign.scores)
        self._asked: set[Arch] = set()
        self.n_run = 0

    @property
    def n_there_already(self) -> int:
        """How many different archs were asked for that the campaign held before."""
        return len(self._asked & self._were_there)

    @property
    def n_failed(self) -> int:
        """How many different archs could not be scored, or gave no finite loss."""
        return sum(self.score_of(arch).status != "ok" for arch in self._asked)

    def score(self, archs: Sequence[Arch], on_scored: Callable[[int], None]) -> list[float]:
        """Return the values of a batch; see ``Objective``.

        Raises:
            StoreError: Scores cannot be written; those appended before are safe.
        """
        self._asked.update(archs)
        missing = [arch for arch in dict.fromkeys(archs) if arch not in self._campaign.scores]
        if missing:
            report = score_population(
                missing,
                campaign=self._campaign,
                engine=self._engine,
                space=self._source.space,
                cost=self._source.cost,
                function_key=self._source.function_key,
                executor=self._executor,
                n_workers=self._n_workers,
                merging=self._merging,
                on_scored=lambda n_done, n_all: on_scored(len(archs) - n_all + n_done),
            )
            self.n_run += report.n_run
        return [self._value(self.score_of(arch)) for arch in archs]

    def identity(self, arch: Arch) -> str:
        """Return the function key of a scored arch."""
        return self.score_of(arch).function_key

    def score_of(self, arch: Arch) -> Score:
        """Return the score of an arch that was scored."""
        return self._campaign.scores[arch]
