"""Searching with the weights of a run, and training the winners alone."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from wsx.errors import OptionError
from wsx.evaluators.devices import Device
from wsx.evaluators.engines import Engine
from wsx.evaluators.sources import SupernetSource
from wsx.exporters.folder import is_folder, open_folder
from wsx.search import Candidates, OnProgress
from wsx.spaces.choice import ArchChoice
from wsx.studies.evaluate_folder import data_arguments
from wsx.studies.evaluate_run import merge_planner
from wsx.studies.images import ImageChoice
from wsx.studies.isolated import isolated_engine, resolve_devices
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import ScoringOptions, onnx_engine, settled
from wsx.studies.search.report import SearchReport
from wsx.studies.search.scored import Scorer, search_scored
from wsx.studies.search.settings import SearchSettings
from wsx.studies.truth import make_truth
from wsx.training import RECIPES, DataSpec, RunConfig, open_run
from wsx.training.text_recipes import TextRecipe

OWN_RECIPE = "run"


def search_run(
    subnets: RunSubnets,
    out: Path,
    settings: SearchSettings,
    *,
    images: ImageChoice,
    device: str = "auto",
    options: ScoringOptions | None = None,
    on_progress: OnProgress | None = None,
) -> SearchReport:
    """Search among the subnets of a run.

    Args:
        subnets: The run's checkpoint and BatchNorm mode.
        out: The score file.
        settings: What to look for, and how.
        images: What is searched on.
        device: As for ``evaluate_run``.
        options: Batch size and workers.
        on_progress: Called as trials end.

    Raises:
        OptionError: An option is out of range, or too few archs are allowed.
        CheckpointError: The checkpoint is missing or unusable.
        DataError: The run's data is missing.
        DeviceError: The device cannot be used.
        StoreError: The score file cannot be used.
        TruthError: The truth cannot be read.
        WsxError: No arch could be scored.
    """
    devices, asked = resolve_devices(device), options or ScoringOptions()
    if len(devices) > 1:
        asked = replace(asked, is_isolated=True)
    calibrator = None if asked.is_isolated else subnets.calibrator(devices[0])
    source = SupernetSource(subnets.recorder, subnets.checkpoint_sha256, devices[0], calibrator)
    candidates = Candidates(
        source.space, measure=settings.measure, limits=settings.limits, cost=source.cost
    )
    with ExitStack() as stack:

        def open_scorer(images: ImageChoice) -> Scorer:
            return _scorer(subnets, source, images, devices, asked, candidates, settings, stack)

        return search_scored(open_scorer, candidates, images, out, settings, on_progress)


def _scorer(
    subnets: RunSubnets,
    source: SupernetSource,
    images: ImageChoice,
    devices: Sequence[Device],
    asked: ScoringOptions,
    candidates: Candidates,
    settings: SearchSettings,
    stack: ExitStack,
) -> Scorer:
    device, image_set = devices[0], images.images(subnets.dataset)
    # Any archs will do to measure what suits the machine.
    work = source.space.sample(
        settings.algorithm.budget,
        rng=np.random.default_rng(settings.seed),
        measure=candidates.measure,
        has_repeats=True,
    )
    options = settled(asked, source, image_set, work, device)
    n_workers = options.n_workers_on(device)
    engine: Engine
    if options.is_isolated:
        engine = stack.enter_context(isolated_engine(subnets, images, devices, options))
        n_workers = engine.n_processes
    else:
        engine = onnx_engine(source, image_set, device, options)
    batch_size = options.batch_size_on(device, subnets.mode)
    return Scorer(
        subnets.score_key(image_set, batch_size=batch_size, provider=engine.provider),
        source,
        engine,
        image_set,
        n_workers,
        merge_planner(subnets, image_set, batch_size, options),
        {**subnets.facts, "torch": torch.__version__},
    )


def standalone_config(
    source: Path, recipe: str, settings: Mapping[str, str], *, data: str | None = None
) -> RunConfig:
    """Return how the winners of a search are trained alone, on the images of its run.

    Args:
        source: The run, or the folder of subnets exported from it.
        recipe: Name of a recipe, or ``run`` for that of the run.
        settings: Values of the recipe to override, by name.
        data: Another place for the dataset than the one in the run.

    Raises:
        UnknownNameError: There is no such recipe or value.
        OptionError: The recipe is for text, or is a run's and there is none.
        WsxError: The run or the folder cannot be opened.
    """
    if is_folder(source):
        folder = open_folder(source)
        if recipe == OWN_RECIPE:
            raise OptionError(
                f"--standalone {OWN_RECIPE} takes the recipe of a run, which {source} is not; name a recipe"
            )
        space, spec, chosen = folder.space.name, data_arguments(folder, data), RECIPES[recipe]
    else:
        config = open_run(source).config
        space, spec = config.space, asdict(config.data) | ({} if data is None else {"spec": data})
        chosen = config.recipe if recipe == OWN_RECIPE else RECIPES[recipe]
    if isinstance(chosen, TextRecipe):
        raise OptionError(f"--standalone {recipe} is for text; winners are trained alone on images")
    return RunConfig(space, chosen.override(settings), DataSpec(**spec), 0)


def train_winners(
    report: SearchReport,
    config: RunConfig,
    seeds: Sequence[int],
    out: Path,
    *,
    n_workers: int,
    on_score: Callable[[int, int], None] | None = None,
) -> SearchReport:
    """Train the winners of a search alone; trainings that were done before are not repeated.

    The table of truth is written beside the scores, as ``NAME.standalone.parquet``, and the winners, one a line,
    as ``NAME.winners.txt``.

    Args:
        report: Of the search.
        config: How they are trained, see ``standalone_config``.
        seeds: One training each per winner.
        out: The score file of the search.
        n_workers: Processes, each with one torch thread.
        on_score: Called with trainings done and trainings in all.

    Returns:
        The report with the winners' stand-alone test accuracies.

    Raises:
        OptionError: The number of workers is out of range.
        TrainingError: A training diverged; the others are kept.
    """
    winners = out.with_suffix(".winners.txt")
    winners.write_text("".join(f"{winner.text}\n" for winner in report.winners))
    table = make_truth(
        config,
        ArchChoice(file=winners),
        seeds,
        out.with_suffix(".standalone.parquet"),
        split="test",
        n_workers=n_workers,
        on_score=on_score,
    )
    return report.with_alone(table)
