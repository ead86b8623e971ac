"""Racing a population: subnets run on growing subsets of the images, and few of them on all.

``wsx.analysis.race`` decides who runs on what. Subnets that end with outcomes on all images become ordinary
scores; outcomes on a part of them are never stored.
"""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path

import numpy as np

from wsx.analysis.race import RaceResult, RaceRound, run_race
from wsx.analysis.race_estimate import BoolArray, IntArray
from wsx.errors import WsxError
from wsx.evaluators.batches import Tally
from wsx.evaluators.engines import Timing
from wsx.evaluators.plan import Plan, make_plan
from wsx.evaluators.chunks import MAX_CHUNK
from wsx.evaluators.population import PopulationReport, score_population
from wsx.evaluators.race_engine import RaceEngine, Runner
from wsx.evaluators.race_report import RaceReport, Winner
from wsx.spaces import Arch, Cost, Space
from wsx.store import Campaign

OnRaced = Callable[[int, int, str], None]


class _Finished:
    """An engine that hands out what runners have done; so a race's rows are made as all others are."""

    provider = ""

    def __init__(self, runners: Iterable[Runner]) -> None:
        self._runners = {arch: runner for runner in runners for arch in runner.group.archs}

    def score(self, arch: Arch) -> tuple[Tally, Timing]:
        runner = self._runners[arch]
        if runner.error is not None:
            raise runner.error
        return runner.tally(), runner.timing


class _Keys:
    """Function keys; those of the campaign's archs and those asked for before need no recording."""

    def __init__(self, campaign: Campaign, function_key: Callable[[Arch], str]) -> None:
        table = campaign.table()
        pairs = zip(table.arch.tolist(), table.function_key, strict=True)
        self._known = {tuple(arch): str(key) for arch, key in pairs if key}
        self._function_key = function_key

    def __call__(self, arch: Arch) -> str:
        if arch not in self._known:
            self._known[arch] = self._function_key(arch)
        return self._known[arch]


class _Field:
    """Runs what a race asks for, and stores who has run on all images.

    Args:
        engine: Runs subnets.
        runners: By their index in the race.
        executor: Runs laps.
        n_workers: Laps to run at once.
        store: Makes the rows of runners.
        on_raced: Called with images run, the most that may have to be run in all, and a note.
    """

    def __init__(
        self,
        engine: RaceEngine,
        runners: list[Runner],
        executor: Executor,
        n_workers: int,
        store: Callable[[list[Runner]], None],
        on_raced: OnRaced | None,
    ) -> None:
        self._engine, self._runners, self._executor = engine, runners, executor
        self._n_workers, self._store, self._on_raced = n_workers, store, on_raced
        n_unknown = sum(runner.known is None for runner in runners)
        self._n_done, self._n_at_most = 0, n_unknown * len(engine.images)
        self._note = f"{n_unknown} to race"

    def observe(self, archs: IntArray, images: IntArray) -> tuple[BoolArray, BoolArray]:
        """Run archs on images; see ``wsx.analysis.race.Observe``."""
        outcomes = np.zeros((archs.size, images.size), dtype=bool)
        is_fine = np.ones(archs.size, dtype=bool)
        runners = [self._runners[i] for i in archs.tolist()]
        rows = {id(runner): row for row, runner in enumerate(runners)}
        ended: list[Runner] = []
        for runner in self._laps([r for r in runners if r.known is None], images):
            row = rows[id(runner)]
            if runner.error is None:
                outcomes[row] = runner.laps[-1][1].outcomes
            is_fine[row] = runner.error is None and math.isfinite(runner.loss_sum)
            if runner.error is not None or runner.n_seen == len(self._engine.images):
                ended.append(runner)
            if len(ended) >= MAX_CHUNK:
                self._store(ended)
                ended = []
        self._store(ended)
        for row, runner in enumerate(runners):
            if runner.known is not None:
                outcomes[row] = runner.known[images]
        return outcomes, is_fine

    def on_round(self, entry: RaceRound) -> None:
        n_gone = entry.n_eliminated + entry.n_failed
        self._n_at_most -= n_gone * (len(self._engine.images) - entry.n_images)
        n_alive = entry.n_alive - n_gone - entry.n_completed
        self._note = f"{entry.n_images} images seen, {n_alive} alive"

    def _laps(self, runners: list[Runner], images: IntArray) -> Iterator[Runner]:
        """Yield runners as their laps end, with a bounded number in flight."""
        if not runners:
            return
        on_device = self._engine.cut(images)
        waiting = iter(runners)
        running: dict[Future[Tally], Runner] = {}
        try:
            while True:
                for runner in islice(waiting, 2 * self._n_workers - len(running)):
                    running[self._executor.submit(self._engine.run, runner, on_device)] = runner
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    runner = running.pop(future)
                    self._take(runner, future, images)
                    yield runner
        finally:
            for future in running:
                future.cancel()

    def _take(self, runner: Runner, future: Future[Tally], images: IntArray) -> None:
        n_images = len(self._engine.images)
        try:
            runner.laps.append((images, future.result()))
        except Exception as error:
            # ONNX Runtime's and protobuf's own errors derive from nothing narrower; the row keeps what they said.
            runner.error = error
        if runner.n_seen < n_images and not math.isfinite(runner.loss_sum):
            # A row of status `failed` is tried again by whoever wants it on all images.
            runner.error = WsxError(
                f"the summed loss is {runner.loss_sum} after {runner.n_seen} of {n_images} images"
            )
        self._n_done += images.size
        if self._on_raced is not None:
            self._on_raced(self._n_done, max(self._n_done, self._n_at_most), self._note)


def race_population(
    archs: Sequence[Arch],
    *,
    campaign: Campaign,
    engine: RaceEngine,
    space: Space,
    cost: Callable[[Arch], Cost],
    function_key: Callable[[Arch], str],
    executor: Executor,
    n_workers: int,
    on_planned: Callable[[int, int], None] | None = None,
    on_raced: OnRaced | None = None,
) -> RaceReport:
    """Find the top archs of a population; who was scored on all images becomes a score of the campaign.

    Args:
        archs: The population.
        campaign: Where scores go; those that it holds already are not run again.
        engine: Runs subnets, and knows what is looked for.
        space: Of the archs.
        cost: Params and multiply-adds of an arch; where it fails they are unknown.
        function_key: Of an arch.
        executor: Runs laps.
        n_workers: How many laps to run at once.
        on_planned: Called with archs planned and archs in all.
        on_raced: Called with images run, the most that may have to be run in all, and a note.

    Raises:
        StoreError: Scores cannot be written; those appended before are safe.
    """
    keys = _Keys(campaign, function_key)
    plan = make_plan(archs, finished=set(), known={}, function_key=keys, on_arch=on_planned)
    reports: list[PopulationReport] = []
    with (
        # Laps in flight would keep rows waiting on the executor that runs them.
        ThreadPoolExecutor(1) as clerk,
        tempfile.TemporaryDirectory(prefix="wsx-race-") as folder,
    ):

        def store(runners: list[Runner], others: Sequence[Arch] = ()) -> None:
            rows = [*(arch for runner in runners for arch in runner.group.archs), *others]
            if not rows:
                return
            report = score_population(
                rows,
                campaign=campaign,
                engine=_Finished(runners),
                space=space,
                cost=cost,
                function_key=keys,
                executor=clerk,
                n_workers=1,
            )
            reports.append(report)

        runners, hopeless = _line_up(plan, campaign, Path(folder))
        store([r for r in runners if r.known is not None] + hopeless, list(plan.failures))
        course = _Field(engine, runners, executor, n_workers, store, on_raced)
        result = run_race(
            [len(runner.group.archs) for runner in runners],
            len(engine.images),
            engine.rules,
            course.observe,
            known={i: int(r.known.sum()) for i, r in enumerate(runners) if r.known is not None},
            on_round=course.on_round,
        )
    return _report(archs, plan, engine, space, runners, result, reports)


def _line_up(plan: Plan, campaign: Campaign, folder: Path) -> tuple[list[Runner], list[Runner]]:
    """Return the runners, and those whose loss is known not to be finite."""
    scores, table = campaign.known_functions(), campaign.table()
    lost = set(table.function_key[table.status == "not-finite"])
    n_images = len(campaign.image_ids)
    runners: list[Runner] = []
    hopeless: list[Runner] = []
    for index, group in enumerate(plan.groups):
        runner = Runner(group, folder / f"{index}.onnx")
        if group.function_key in scores:
            packed = np.frombuffer(scores[group.function_key].bits, dtype=np.uint8)
            runner.known = np.unpackbits(packed, count=n_images).astype(bool)
        if group.function_key in lost:
            runner.error = WsxError("another arch that computes the same has no finite loss")
        (hopeless if runner.error is not None else runners).append(runner)
    return runners, hopeless


def _report(
    archs: Sequence[Arch],
    plan: Plan,
    engine: RaceEngine,
    space: Space,
    runners: list[Runner],
    result: RaceResult,
    reports: list[PopulationReport],
) -> RaceReport:
    places = {arch: place for place, arch in enumerate(dict.fromkeys(archs))}
    ranked = sorted(
        (-int(result.correct[i]), places[arch], arch)
        for i, runner in enumerate(runners)
        if result.correct[i] >= 0
        for arch in runner.group.archs
    )
    n_run, n_shared, n_finished, n_failed = (
        sum(getattr(report, name) for report in reports)
        for name in ("n_run", "n_shared", "n_finished", "n_failed")
    )
    return RaceReport(
        n_run=n_run,
        n_shared=n_shared,
        n_finished=n_finished,
        n_repeated=plan.n_repeated,
        n_failed=n_failed,
        n_eliminated=len(places) - n_run - n_shared - n_finished - n_failed,
        rules=engine.rules,
        winners=[
            Winner(space.format(arch), -negative, len(engine.images))
            for negative, _, arch in ranked[: engine.rules.k]
        ],
        rounds=result.rounds,
        n_images=len(engine.images),
        n_functions=len(runners),
        n_known=sum(runner.known is not None for runner in runners),
        n_references=result.n_references,
        n_evaluations=result.n_evaluations,
        n_calibrated=sum(bool(runner.laps) for runner in runners),
        n_calibration_images=engine.n_calibration_images,
    )
