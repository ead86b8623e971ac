"""wsx itself, as ``wsx evaluate`` runs it: plan, record, calibrate, emit, create, run, store, nothing left out."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsx.bench.contenders import Contender
from wsx.bench.subject import Subject
from wsx.errors import WsxError
from wsx.evaluators.calibration import Calibrator
from wsx.evaluators.devices import SessionFactory
from wsx.evaluators.merging import MergePlanner, Work
from wsx.evaluators.sources import SupernetSource
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import Arch
from wsx.store import Score, ScoreTable, open_store
from wsx.studies.scoring import Listener, onnx_engine, score_into, settled

NAME = "wsx"
N_EMITTED = 2
"""Archs whose emission is timed apart from the creation of their sessions."""


@dataclass(frozen=True)
class Split:
    """Where the time of one subnet goes, milliseconds of one worker, means over the population.

    Attributes:
        record: Recording the graph.
        emit: Writing the ONNX model, of one subnet by itself.
        create: Creating the session; a model of several subnets counts for each in part.
        calibrate: BatchNorm statistics.
        run: Forward passes.
        store: Appending the score to a file.
        rest: What is left of the wall time of all workers: planning, set-up, waiting.
    """

    record: float
    emit: float
    create: float
    calibrate: float
    run: float
    store: float
    rest: float


class OwnPath:
    """Scores populations into files of their own, from the supernet to the closed file.

    Args:
        subject: What is scored.
        listener: Told of progress.

    Attributes:
        flops: Floating-point operations of the last population's forward passes, calibration included; of
            equal functions, and of what models share, once.
    """

    def __init__(self, subject: Subject, listener: Listener | None = None) -> None:
        self._subject = subject
        self._listener = listener or Listener()
        source = self._source(SubnetRecorder(subject.supernet, subject.mode))
        # Measured once per machine and remembered, so no part of scoring a population.
        self._options = settled(
            subject.options, source, subject.images, subject.archs, subject.device
        )
        self._batch_size = self._options.batch_size_on(subject.device, subject.mode)
        self._n_workers = self._options.n_workers_on(subject.device)
        self._table: ScoreTable | None = None
        self._seconds = 0.0
        self.flops = 0

    def contender(self) -> Contender:
        """Return the row of wsx."""
        layout = f"workers {self._n_workers}, threads of each {self._options.n_threads}"
        what = f"{NAME}, everything included, {layout}"
        return Contender(NAME, what, self._subject.mode, self._batch_size, self.score)

    def score(self, archs: Sequence[Arch]) -> list[int]:
        """Return the number of images that each arch classifies correctly.

        Raises:
            WsxError: A subnet cannot be scored.
        """
        start_s = time.perf_counter()
        recorder = SubnetRecorder(self._subject.supernet, self._subject.mode)
        source = self._source(recorder)
        images = self._subject.images
        engine = onnx_engine(source, images, self._subject.device, self._options)
        train = self._subject.calibration
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scores.h5"
            _, report = score_into(
                path,
                list(archs),
                source,
                engine,
                images,
                bn_images_sha256="" if train is None else train.digest,
                batch_size=self._batch_size,
                n_workers=self._n_workers,
                info={},
                listener=self._listener,
                merging=self._planner(recorder),
            )
            with open_store(path) as store:
                self._table = store.read()
        self._seconds = time.perf_counter() - start_s
        self.flops = 2 * (report.cost_apart - report.cost_saved)
        return _counts(self._table, archs)

    def split(self) -> Split:
        """Return where the time of the last population went."""
        table = self._table
        if table is None:
            raise WsxError("nothing was scored yet, so no time was spent")
        n = len(table)
        ms = {
            name: 1e3 * float(getattr(table, f"seconds_{name}").sum()) / n
            for name in ("record", "calibrate", "build", "run")
        }
        emit = self._emission_ms([tuple(map(int, row)) for row in table.arch[:N_EMITTED]])
        store = self._store_ms(table)
        wall = 1e3 * self._seconds * self._n_workers / n
        return Split(
            record=ms["record"],
            emit=emit,
            create=max(0.0, ms["build"] - emit),
            calibrate=ms["calibrate"],
            run=ms["run"],
            store=store,
            rest=max(0.0, wall - sum(ms.values()) - store),
        )

    def _source(self, recorder: SubnetRecorder) -> SupernetSource:
        subject = self._subject
        calibrator = None
        if subject.calibration is not None:
            factory = SessionFactory(recorder.weights, subject.device)
            calibrator = Calibrator(factory, recorder.weights, subject.calibration, subject.mode)
        return SupernetSource(recorder, subject.checkpoint_sha256, subject.device, calibrator)

    def _planner(self, recorder: SubnetRecorder) -> MergePlanner:
        mode, n_images = self._subject.mode, len(self._subject.images)
        work = Work(n_images, mode.n_images, max(self._batch_size, mode.batch_size))
        return MergePlanner(recorder.record, recorder.weights, work, self._options.merge)

    def _emission_ms(self, archs: list[Arch]) -> float:
        source = self._source(SubnetRecorder(self._subject.supernet, self._subject.mode))
        n_images = len(self._subject.images)
        source.prepare(archs[0], n_images)
        seconds = [source.prepare(arch, n_images).seconds_build for arch in archs]
        return 1e3 * float(np.mean(seconds))

    def _store_ms(self, table: ScoreTable) -> float:
        scores: list[Score] = [table.score(i) for i in range(len(table))]
        with tempfile.TemporaryDirectory() as folder:
            start_s = time.perf_counter()
            with open_store(Path(folder) / "scores.h5", "a") as store:
                store.campaign(table.key, image_ids=table.image_ids, info={}).append(scores)
            return 1e3 * (time.perf_counter() - start_s) / len(scores)


def _counts(table: ScoreTable, archs: Sequence[Arch]) -> list[int]:
    failed = np.flatnonzero(~table.ok)
    if len(failed):
        first = failed[0]
        raise WsxError(
            f"{len(failed)} of {len(table)} subnets cannot be scored, first {table.text[first]}: "
            f"{table.error[first]}"
        )
    rows = zip(table.arch.tolist(), table.correct.tolist(), strict=True)
    correct = {tuple(arch): n for arch, n in rows}
    return [correct[tuple(arch)] for arch in archs]
