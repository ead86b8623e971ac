"""Scoring a population: plan, run chunks on an executor, append to the store as each chunk ends.

The executor is the seam: any ``concurrent.futures`` executor whose workers share this process's memory will do.
ONNX Runtime releases the interpreter's lock while it creates and runs sessions, so threads scale.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from wsx.errors import WsxError
from wsx.evaluators.batches import Tally
from wsx.evaluators.chunks import chunks_of
from wsx.evaluators.engines import Engine, MergingEngine, Timing
from wsx.evaluators.merging import MergePlanner
from wsx.evaluators.plan import Bundle, Group, make_plan
from wsx.spaces import Arch, Cost, Space
from wsx.store import Campaign, Score

UNKNOWN_COST = Cost(-1, -1)


@dataclass(frozen=True)
class PopulationReport:
    """What scoring a population did; the counts add up to the archs asked for.

    Attributes:
        n_run: Subnets run to the end.
        n_shared: Archs that took the score of another one that computes the same function.
        n_finished: Archs that the campaign held already.
        n_repeated: Archs asked for more than once.
        n_failed: Archs that could not be scored; their rows say why.
        n_models: Models that scored several subnets at once.
        cost_apart: Multiply-adds over all images of the subnets that were run, one by one; 0 without a planner.
        cost_saved: Those of them that shared nodes made unnecessary.
    """

    n_run: int
    n_shared: int
    n_finished: int
    n_repeated: int
    n_failed: int
    n_models: int = 0
    cost_apart: int = 0
    cost_saved: int = 0

    @property
    def saved_share(self) -> float:
        """Share of the multiply-adds that merging saved."""
        return self.cost_saved / self.cost_apart if self.cost_apart else 0.0


def score_population(
    archs: Sequence[Arch],
    *,
    campaign: Campaign,
    engine: Engine,
    space: Space,
    cost: Callable[[Arch], Cost],
    function_key: Callable[[Arch], str],
    executor: Executor,
    n_workers: int,
    merging: MergePlanner | None = None,
    on_planned: Callable[[int, int], None] | None = None,
    on_scored: Callable[[int, int], None] | None = None,
) -> PopulationReport:
    """Score archs into a campaign; what it holds already is left alone.

    Args:
        archs: The population.
        campaign: Where scores go, durably, as they come.
        engine: Scores subnets.
        space: Of the archs.
        cost: Params and multiply-adds of an arch; where it fails they are unknown.
        function_key: Of an arch.
        executor: Runs chunks of the plan.
        n_workers: How many chunks to keep in flight.
        merging: Decides which subnets one model scores, and then gives function keys in place of
            ``function_key``; without it they are scored one by one. Scores are the same.
        on_planned: Called with archs planned and archs in all.
        on_scored: Called with archs scored and archs to score.

    Raises:
        StoreError: Scores cannot be written; those appended before are safe.
    """
    plan = make_plan(
        archs,
        finished=campaign.finished(),
        known=campaign.known_functions(),
        function_key=function_key if merging is None else merging.function_key,
        on_arch=on_planned,
    )
    bundles = (
        [Bundle([group]) for group in plan.groups]
        if merging is None
        else merging.bundles(plan.groups, n_workers)
    )
    rows = _Rows(space, cost, len(campaign.image_ids))
    ready = [rows.failed(arch, "", error) for arch, error in plan.failures.items()]
    ready += [rows.copied(arch, score) for arch, score in plan.known]
    campaign.append(ready)
    n_done, n_failed, failed_functions = len(ready), len(plan.failures), set[str]()
    merged: list[Bundle] = []
    if on_scored is not None and plan.n_missing:
        on_scored(n_done, plan.n_missing)
    for scores, some_merged in _run(bundles, engine, rows, executor, n_workers):
        campaign.append(scores)
        merged += some_merged
        n_done += len(scores)
        failed = [score.function_key for score in scores if score.status != "ok"]
        n_failed += len(failed)
        failed_functions.update(failed)
        if on_scored is not None:
            on_scored(n_done, plan.n_missing)
    n_run = len(plan.groups) - len(failed_functions)
    return PopulationReport(
        n_run,
        plan.n_missing - n_run - n_failed,
        plan.n_finished,
        plan.n_repeated,
        n_failed,
        len(merged),
        sum(bundle.cost_apart for bundle in bundles),
        sum(bundle.cost_apart - bundle.cost_together for bundle in merged),
    )


Chunk = tuple[list[Score], list[Bundle]]
"""The scores of some bundles, and those bundles that one model scored."""


def _run(
    bundles: list[Bundle], engine: Engine, rows: "_Rows", executor: Executor, n_workers: int
) -> Iterator[Chunk]:
    """Yield the scores of chunks as they end, with a bounded number of chunks in flight."""
    chunks = chunks_of(bundles, n_workers)
    running: set[Future[Chunk]] = set()
    try:
        while True:
            for chunk in islice(chunks, 2 * n_workers - len(running)):
                running.add(executor.submit(score_chunk, engine, rows, chunk))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        for future in running:
            future.cancel()


def score_chunk(engine: Engine, rows: "_Rows", chunk: list[Bundle]) -> Chunk:
    """Return the scores of all archs of some bundles; a subnet that fails is a row with its error."""
    scores: list[Score] = []
    merged = []
    for bundle in chunk:
        found = _score_together(engine, rows, bundle.groups)
        if found is not None:
            merged.append(bundle)
        else:
            # Alone, only the subnet at fault fails.
            found = [_score(engine, rows, group) for group in bundle.groups]
        for group, score in zip(bundle.groups, found, strict=True):
            scores += [score, *(rows.copied(arch, score) for arch in group.archs[1:])]
    return scores, merged


def _score_together(engine: Engine, rows: "_Rows", groups: list[Group]) -> list[Score] | None:
    if len(groups) == 1 or not isinstance(engine, MergingEngine):
        return None
    try:
        found = engine.score_together([group.archs[0] for group in groups])
    except Exception:
        # As in `_score`; what is wrong shows when each runs alone.
        return None
    return [
        rows.scored(group, tally, seconds)
        for group, (tally, seconds) in zip(groups, found, strict=True)
    ]


def _score(engine: Engine, rows: "_Rows", group: Group) -> Score:
    arch = group.archs[0]
    try:
        tally, seconds = engine.score(arch)
    except Exception as error:
        # ONNX Runtime's and protobuf's own errors derive from nothing narrower; the row keeps what they said.
        return rows.failed(arch, group.function_key, f"{type(error).__name__}: {error}")
    return rows.scored(group, tally, seconds)


@dataclass(frozen=True)
class _Rows:
    """Builds rows."""

    space: Space
    cost: Callable[[Arch], Cost]
    n_images: int

    def cost_of(self, arch: Arch) -> Cost:
        try:
            return self.cost(arch)
        except WsxError:
            # Measured costs need a subnet that can be recorded; its row says why this one cannot.
            return UNKNOWN_COST

    def scored(self, group: Group, tally: Tally, seconds: Timing) -> Score:
        arch = group.archs[0]
        is_finite = math.isfinite(tally.loss_sum)
        cost = self.cost_of(arch)
        return Score(
            arch=arch,
            text=self.space.format(arch),
            function_key=group.function_key,
            correct=tally.correct,
            total=len(tally.outcomes),
            loss_sum=tally.loss_sum,
            bits=np.packbits(tally.outcomes).tobytes(),
            seconds_record=seconds["record"],
            seconds_calibrate=seconds["calibrate"],
            seconds_build=seconds["build"],
            seconds_run=seconds["run"],
            status="ok" if is_finite else "not-finite",
            error="" if is_finite else f"the summed loss is {tally.loss_sum}",
            params=cost.params,
            flops=cost.flops,
        )

    def copied(self, arch: Arch, score: Score) -> Score:
        cost = self.cost_of(arch)
        return replace(
            score,
            arch=arch,
            text=self.space.format(arch),
            seconds_record=0.0,
            seconds_calibrate=0.0,
            seconds_build=0.0,
            seconds_run=0.0,
            params=cost.params,
            flops=cost.flops,
        )

    def failed(self, arch: Arch, function_key: str, error: str) -> Score:
        cost = self.cost_of(arch)
        return Score(
            arch=arch,
            text=self.space.format(arch),
            function_key=function_key,
            correct=0,
            total=self.n_images,
            loss_sum=math.nan,
            bits=b"",
            seconds_record=0.0,
            seconds_calibrate=0.0,
            seconds_build=0.0,
            seconds_run=0.0,
            status="failed",
            error=error,
            params=cost.params,
            flops=cost.flops,
        )
