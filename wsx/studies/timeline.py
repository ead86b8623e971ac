"""Scoring one population at many checkpoints of one or several runs, on the same images.

Each checkpoint is a campaign of its own, in one file. What checkpoints have in common is done once: the data, the
measurement of a layout, and recording, since graphs name weights and hold none of their values.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from wsx.data import Dataset, ImageSet, TextDataset, TextSet
from wsx.errors import CheckpointError, DataError, OptionError
from wsx.evaluators.devices import Device, resolve_device
from wsx.evaluators.population import PopulationReport, score_population
from wsx.evaluators.sources import SupernetSource
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.graph import Graph
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import Arch
from wsx.spaces.choice import ArchChoice
from wsx.store import ScoreKey, ScoreStore, open_store
from wsx.studies.evaluate_run import campaign_info, merge_planner
from wsx.studies.images import ImageChoice
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import ScoringOptions, onnx_engine, settled, versions
from wsx.supernets import Supernet
from wsx.supernets.checkpoint import Checkpoint, file_sha256, load_supernet
from wsx.training.run import Run

MAX_GRAPHS = 2000
"""Graphs kept for the next checkpoint, some 50 KB each; archs beyond are recorded at every checkpoint."""

OnProgress = Callable[[int, int, str], None]
"""Told of (arch, checkpoint) pairs scored, of pairs to score, and where it is."""


def choose_checkpoints(run: Run, choice: str) -> list[Path]:
    """Return checkpoints of a run, in the order of their steps.

    Args:
        run: The run.
        choice: ``all``, ``epochs``, ``steps`` (those between epochs), ``last``, ``last:K`` (the newest K),
            ``last:K:EVERY`` (of these the newest, and every EVERY-th before it), a name, or a glob such as
            ``epoch-00[5-9]*``; or several of these with commas between.

    Raises:
        CheckpointError: A part chooses nothing, or the run has fewer than K; or one of its checkpoints is damaged.
        OptionError: K or EVERY is no number of at least 1.
    """
    paths = run.checkpoint_paths
    chosen = {path for part in choice.split(",") for path in _chosen(run, paths, part.strip())}
    return [path for path in paths if path in chosen]


def _chosen(run: Run, paths: list[Path], part: str) -> list[Path]:
    kind, *numbers = part.split(":")
    if kind == "last":
        if len(numbers) > 2 or not all(text.isdecimal() and int(text) for text in numbers):
            raise OptionError(
                f"checkpoints {part!r}: last:K and last:K:EVERY take numbers of at least 1"
            )
        n, every, *_ = [*map(int, numbers), 1, 1]
        if n > len(paths):
            raise CheckpointError(f"{run.path} has {len(paths)} checkpoints, fewer than {part}")
        return paths[-n:][::-every]
    glob = {"all": "*", "epochs": "epoch-*", "steps": "step-*"}.get(part, part)
    found = [path for path in paths if fnmatchcase(path.stem, glob)]
    if not found:
        ends = f"{len(paths)}, {paths[0].stem} to {paths[-1].stem}" if paths else "none yet"
        raise CheckpointError(f"{run.path} has no checkpoint {part!r}; it has {ends}")
    return found


@dataclass(frozen=True)
class TimelineReport:
    """What scoring over time did.

    Attributes:
        n_checkpoints: Asked for, over all runs.
        n_there: Of these, complete before.
        n_scored: Rows written now, those of failed archs included: one per arch and checkpoint.
        n_run: Subnets run for them.
        n_finished: Rows that were there already.
        n_failed: Rows written now that hold an error.
        failures: Checkpoints that could not be used, and why.
    """

    n_checkpoints: int
    n_there: int
    n_scored: int
    n_run: int
    n_finished: int
    n_failed: int
    failures: dict[str, str]


def evaluate_checkpoints(
    runs: Sequence[Run],
    checkpoints: str,
    out: Path,
    *,
    choice: ArchChoice,
    bn: str,
    images: ImageChoice | None = None,
    device: str = "auto",
    options: ScoringOptions | None = None,
    data: str | None = None,
    on_progress: OnProgress | None = None,
) -> TimelineReport:
    """Score the same archs on the same images at many checkpoints; what the file holds already is skipped.

    Args:
        runs: At least one, of one space.
        checkpoints: Which of each run, see ``choose_checkpoints``.
        out: The score file.
        choice: Which archs.
        bn: BatchNorm mode.
        images: Which images; None takes the whole test split.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        options: Batch size and workers.
        data: Another place for the dataset than the one in the runs.
        on_progress: Gets one total over all runs and checkpoints, of what is missing.

    Raises:
        ArchError: An arch lies outside the space of a run.
        CheckpointError: A run lacks what is chosen, or a checkpoint is truncated. One that turns out to be of no
            use later is left out and reported.
        DataError: The data is missing, or runs split it differently.
        OptionError: An option is out of range, or the runs are of several spaces.
        DeviceError: The device cannot be used.
        StoreError: The score file cannot be used.
    """
    options = options or ScoringOptions()
    if options.is_isolated:
        raise OptionError("many checkpoints are scored in one process; leave --isolate out")
    spaces = {run.config.space for run in runs}
    if len(spaces) != 1 or len({run.path.resolve() for run in runs}) < len(runs):
        raise OptionError(
            f"runs of one space are needed, each once; got {len(runs)}, of {sorted(spaces)}"
        )
    known = _Known()
    moments = [
        _Moment(run, bn, path.stem, data, path=path, known=known)
        for run in runs
        for path in choose_checkpoints(run, checkpoints)
    ]
    sweep = _sweep(moments, choice, images or ImageChoice(), resolve_device(device), options)
    with open_store(out, "a") as store, ThreadPoolExecutor(sweep.n_workers) as executor:
        return _run(moments, sweep, store, executor, on_progress or (lambda *_: None))


@dataclass
class _Known:
    """What checkpoints have in common, as far as it is known."""

    datasets: dict[str, Dataset | TextDataset] = field(default_factory=dict)
    graphs: dict[str, dict[Arch, Graph]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Moment(RunSubnets):
    """A checkpoint that shares what it can with the others."""

    path: Path = field(kw_only=True)
    known: _Known = field(kw_only=True)

    @property
    def name(self) -> str:
        return f"{self.run.path.name} {self.checkpoint}"

    @cached_property
    def _loaded(self) -> tuple[Supernet, Checkpoint]:
        # By its path: finding it by name reads the headers of all.
        return load_supernet(self.path)

    @cached_property
    def dataset(self) -> Dataset | TextDataset:
        facts = [vars(self.run.config.data), self._loaded[1].facts.get("vocabulary_sha256")]
        datasets, key = self.known.datasets, json.dumps(facts)
        if key not in datasets:
            datasets[key] = super().dataset
        return datasets[key]

    @cached_property
    def recorder(self) -> SubnetRecorder:
        if self.supernet.reads_text:
            return super().recorder
        facts = self._loaded[1].facts
        structure = [facts.get(name) for name in ("space", "supernet", "restriction", "sharing")]
        graphs = self.known.graphs.setdefault(json.dumps(structure), {})
        return _MindfulRecorder(self.supernet, self.mode, graphs)


class _MindfulRecorder(SubnetRecorder):
    """Records an arch once for all checkpoints of supernets that are built alike.

    Graphs that read derived weights, such as slices, are recorded anew: these are named by their content.
    """

    def __init__(self, supernet: Supernet, mode: BatchNormMode, graphs: dict[Arch, Graph]) -> None:
        super().__init__(supernet, mode)
        self._graphs = graphs
        self._own = frozenset(self.weights.places)

    def record(self, arch: Arch) -> Graph:
        graph = self._graphs.get(arch)
        if graph is None:
            graph = super().record(arch)
            if len(self._graphs) < MAX_GRAPHS and self._own.issuperset(graph.weight_names()):
                self._graphs[arch] = graph
        return graph


@dataclass(frozen=True)
class _Sweep:
    """What is the same at every checkpoint."""

    archs: list[Arch]
    images: ImageSet | TextSet
    device: Device
    options: ScoringOptions
    batch_size: int
    n_workers: int
    choice: ArchChoice
    key: ScoreKey

    def n_missing(self, store: ScoreStore, moment: _Moment) -> int:
        """Return how many archs the store lacks at a checkpoint, or has failed at."""
        table = store.find(replace(self.key, checkpoint_sha256=file_sha256(moment.path)))
        done = [] if table is None else table.arch[table.status != "failed"].tolist()
        return len(set(self.archs).difference(map(tuple, done)))


def _sweep(
    moments: Sequence[_Moment],
    choice: ArchChoice,
    images: ImageChoice,
    device: Device,
    options: ScoringOptions,
) -> _Sweep:
    """Return what all checkpoints have in common, which is looked for in the first one of each run."""
    # Copies, so that what they hold is let go of when this is done.
    firsts = {moment.run.path: replace(moment) for moment in reversed(moments)}
    first = firsts[moments[0].run.path]
    archs = choice.archs(first.recorder.space)
    chosen = images.images(first.dataset)
    _require_same_work(list(firsts.values()), archs, images)
    source = _source(first, device)
    options = settled(options, source, chosen, archs * len(moments), device)
    batch_size = options.batch_size_on(device, first.mode)
    return _Sweep(
        archs,
        chosen,
        device,
        options,
        batch_size,
        options.n_workers_on(device),
        choice,
        first.score_key(chosen, batch_size=batch_size, provider=device.provider),
    )


def _require_same_work(
    moments: Sequence[_Moment], archs: Sequence[Arch], images: ImageChoice
) -> None:
    digests = {}
    for moment in moments:
        for arch in archs:
            moment.recorder.space.check(arch)
        mine = images.images(moment.dataset).digest
        digests[str(moment.run.path)] = (mine, moment.bn_images_sha256)
    if len(set(digests.values())) > 1:
        raise DataError(
            f"{', '.join(digests)} do not split their data alike: archs would be scored or calibrated on other "
            "images. Score runs of one data seed and size together"
        )


def _source(moment: RunSubnets, device: Device) -> SupernetSource:
    calibrator = moment.calibrator(device)
    return SupernetSource(moment.recorder, moment.checkpoint_sha256, device, calibrator)


def _run(
    moments: Sequence[_Moment],
    sweep: _Sweep,
    store: ScoreStore,
    executor: Executor,
    on_progress: OnProgress,
) -> TimelineReport:
    todo = [(moment, n) for moment in moments if (n := sweep.n_missing(store, moment))]
    n_all, n_done = sum(n for _, n in todo), 0
    reports: list[PopulationReport] = []
    failures: dict[str, str] = {}
    for moment, n_missing in todo:

        def on_scored(n: int, _: int, start: int = n_done, name: str = moment.name) -> None:
            on_progress(start + n, n_all, name)

        on_scored(0, 0)
        try:
            reports.append(_score(moment, sweep, store, executor, on_scored))
        except CheckpointError as error:
            failures[str(moment.path)] = str(error)
        n_done += n_missing
    n_run = sum(report.n_run for report in reports)
    n_failed = sum(report.n_failed for report in reports)
    n_scored = n_run + n_failed + sum(report.n_shared for report in reports)
    n_finished = len(set(sweep.archs)) * len(moments) - n_all
    n_there = len(moments) - len(todo)
    return TimelineReport(len(moments), n_there, n_scored, n_run, n_finished, n_failed, failures)


def _score(
    moment: _Moment,
    sweep: _Sweep,
    store: ScoreStore,
    executor: Executor,
    on_scored: Callable[[int, int], None],
) -> PopulationReport:
    # A copy, so that the supernet is let go of when it is scored.
    subnets, images = replace(moment), sweep.images
    source = _source(subnets, sweep.device)
    key = replace(sweep.key, checkpoint_sha256=source.checkpoint_sha256)
    info = campaign_info(subnets, images, sweep.choice)
    return score_population(
        sweep.archs,
        campaign=store.campaign(key, image_ids=images.ids, info={**versions(), **info}),
        engine=onnx_engine(source, images, sweep.device, sweep.options),
        space=source.space,
        cost=source.cost,
        function_key=source.function_key,
        executor=executor,
        n_workers=sweep.n_workers,
        merging=merge_planner(subnets, images, sweep.batch_size, sweep.options),
        on_scored=on_scored,
    )
