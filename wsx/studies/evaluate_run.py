"""Scoring the subnets of a run."""

from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from wsx.analysis.race import RaceRules
from wsx.data import ImageSet, TextSet
from wsx.errors import OptionError
from wsx.evaluators.devices import CPU
from wsx.evaluators.engines import EagerEngine, Engine
from wsx.evaluators.merging import MergePlanner, Work
from wsx.evaluators.population import PopulationReport
from wsx.evaluators.race_engine import RaceEngine
from wsx.evaluators.sources import SupernetSource
from wsx.spaces.choice import ArchChoice
from wsx.store import ScoreKey
from wsx.studies.images import ImageChoice
from wsx.studies.isolated import isolated_engine, resolve_devices
from wsx.studies.race import check_race, race_engine
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import ENGINES, Listener, ScoringOptions, onnx_engine, score_into, settled


def evaluate_run(
    subnets: RunSubnets,
    out: Path,
    *,
    choice: ArchChoice,
    images: ImageChoice | None = None,
    engine: str = "onnx",
    device: str = "auto",
    options: ScoringOptions | None = None,
    race: RaceRules | None = None,
    listener: Listener | None = None,
) -> tuple[ScoreKey, PopulationReport]:
    """Score subnets of a run into a file; what it holds already is skipped.

    Args:
        subnets: The run's checkpoint and BatchNorm mode.
        out: The score file.
        choice: Which archs.
        images: Which images; None takes the whole test split.
        engine: ``onnx`` for ONNX Runtime, ``torch`` for the eager oracle.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, or several of one kind with commas between, which then
            work in processes of their own; the oracle runs on the CPU.
        options: Batch size and workers.
        race: Find the top archs only, and score those; the report is then a ``RaceReport``.
        listener: Progress callbacks.

    Raises:
        OptionError: An option is unknown or out of range, or a race is not possible.
        CheckpointError: The checkpoint is missing or unusable.
        DataError: The run's data is missing.
        DeviceError: The device cannot be used.
        StoreError: The score file cannot be used.
    """
    options, listener = options or ScoringOptions(), listener or Listener()
    if engine not in ENGINES:
        raise OptionError(f"engine {engine!r} is none of: {', '.join(ENGINES)}")
    devices = resolve_devices(device) if engine == "onnx" else [CPU]
    if len(devices) > 1:
        options = replace(options, is_isolated=True)
    _check_isolated(options, engine, race)
    images = images or ImageChoice()
    archs = choice.archs(subnets.recorder.space)
    image_set = images.images(subnets.dataset)
    if race is not None:
        check_race(subnets.mode, image_set, engine=engine)
    found = devices[0]
    calibrates_here = engine == "onnx" and not options.is_isolated
    calibrator = subnets.calibrator(found) if calibrates_here else None
    source = SupernetSource(subnets.recorder, subnets.checkpoint_sha256, found, calibrator)
    n_workers = 1
    if engine == "onnx":
        options = settled(options, source, image_set, archs, found)
        n_workers = options.n_workers_on(found)
    batch_size = options.batch_size_on(found, subnets.mode)
    with ExitStack() as stack:
        scorer: Engine | RaceEngine
        if race is not None:
            n_extra = subnets.mode.n_images
            scorer = race_engine(
                source, image_set, found, options, race, n_calibration_images=n_extra
            )
        elif engine != "onnx":
            scorer = EagerEngine(subnets.oracle(), image_set, batch_size)
        elif options.is_isolated:
            scorer = stack.enter_context(isolated_engine(subnets, images, devices, options))
            n_workers = scorer.n_processes
        else:
            scorer = onnx_engine(source, image_set, found, options)
        return score_into(
            out,
            archs,
            source,
            scorer,
            image_set,
            bn_images_sha256=subnets.bn_images_sha256,
            batch_size=batch_size,
            n_workers=n_workers,
            info=campaign_info(subnets, image_set, choice, race),
            listener=listener,
            merging=merge_planner(subnets, image_set, batch_size, options)
            if engine == "onnx"
            else None,
        )


def _check_isolated(options: ScoringOptions, engine: str, race: RaceRules | None) -> None:
    if options.is_isolated and (engine != "onnx" or race is not None):
        raise OptionError(
            "worker processes score with engine onnx and do not race; leave --isolate out"
        )


def campaign_info(
    subnets: RunSubnets,
    images: ImageSet | TextSet,
    choice: ArchChoice,
    race: RaceRules | None = None,
) -> dict[str, Any]:
    """Return where the scores of a checkpoint come from."""
    return {
        **subnets.facts,
        "split": images.split,
        "torch": torch.__version__,
        **choice.facts(subnets.recorder.space),
        **({} if race is None else {"race": asdict(race)}),
    }


def merge_planner(
    subnets: RunSubnets, images: ImageSet | TextSet, batch_size: int, options: ScoringOptions
) -> MergePlanner | None:
    """Return what decides which subnets one model scores, None where each is scored alone."""
    if isinstance(images, TextSet) or options.merge.n_subnets == 1:
        return None
    mode = subnets.mode
    work = Work(len(images), mode.n_images, max(batch_size, mode.batch_size))
    recorder = subnets.recorder
    return MergePlanner(recorder.record, recorder.weights, work, options.merge)
