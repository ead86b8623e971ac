"""Fine-tuning one subnet and scoring it, in whatever process this is called."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsx.data import Dataset
from wsx.errors import CheckpointError, OptionError, TrainingError, WsxError
from wsx.evaluators.batches import DeviceImages, Tally
from wsx.evaluators.calibration import Calibrator
from wsx.evaluators.devices import CPU, SessionFactory
from wsx.evaluators.engines import Engine, OnnxEngine, Timing
from wsx.evaluators.population import score_population
from wsx.evaluators.sources import SupernetSource
from wsx.exporters.weights import WeightFile
from wsx.spaces import Arch
from wsx.store import Campaign, MemoryStore, Score, ScoreKey
from wsx.studies.images import ImageChoice
from wsx.studies.run_subnets import RunSubnets
from wsx.training.augment import Batches
from wsx.training.finetune import Finetuning, LoneSubnet, finetune, supernet_momentum
from wsx.training.recipes import Recipe
from wsx.training.run import open_run


@dataclass(frozen=True)
class FinetuneTask:
    """What is the same for all subnets that are fine-tuned from one checkpoint.

    Attributes:
        run: The run's folder.
        bn: BatchNorm mode.
        checkpoint: Name of the checkpoint.
        data: Another place for the dataset than the one in the run.
        key: Key of the checkpoint's own scores.
        settings: How subnets are trained.
        images: What they are scored on.
        batch_size: Images per batch of scoring.
    """

    run: Path
    bn: str
    checkpoint: str
    data: str | None
    key: ScoreKey
    settings: Finetuning
    images: ImageChoice
    batch_size: int


def finetuned_scores(
    task: FinetuneTask, arch: Arch, wanted: Mapping[int, Sequence[Arch]]
) -> dict[int, list[Score]]:
    """Train one subnet and return scores by number of batches.

    What cannot be trained or scored is a row with its error; a loss that is not finite ends the training, and all
    later rows say so.

    Args:
        task: How.
        arch: Which subnet.
        wanted: By number of batches the archs, all computing the same as this one, that need a score.

    Raises:
        CheckpointError: The checkpoint is of no use, or not what it was.
    """
    opened = _opened(task)
    found: dict[int, list[Score]] = {}
    try:
        for n, weights in opened.trained(arch, sorted(wanted)):
            found[n] = opened.scores(wanted[n], opened.engine(weights))
    except WsxError as error:
        engine = NoEngine(error, opened.images.n_images)
        for n in set(wanted).difference(found):
            found[n] = [_explained(row, error) for row in opened.scores(wanted[n], engine)]
    return found


class NoEngine:
    """Stands for an engine where no subnet can be scored.

    Args:
        error: Why; a ``TrainingError`` makes rows without finite loss, others rows that failed.
        n_images: Images to be scored.
    """

    provider = CPU.provider

    def __init__(self, error: WsxError, n_images: int) -> None:
        self._error = error
        self._n_images = n_images

    def score(self, arch: Arch) -> tuple[Tally, Timing]:
        """Return that nothing is right, or raise the error."""
        if not isinstance(self._error, TrainingError):
            raise self._error
        outcomes = np.zeros(self._n_images, dtype=bool)
        return Tally(0, math.nan, outcomes), Timing(record=0.0, calibrate=0.0, build=0.0, run=0.0)


def _explained(row: Score, error: WsxError) -> Score:
    return replace(row, error=str(error)) if row.status == "not-finite" else row


def image_data(subnets: RunSubnets) -> Dataset:
    """Return the images of a run.

    Raises:
        OptionError: The run is of text.
    """
    if not isinstance(subnets.dataset, Dataset):
        raise OptionError(
            f"{subnets.run.path} was trained on text; subnets of images are fine-tuned"
        )
    return subnets.dataset


def run_recipe(subnets: RunSubnets) -> Recipe:
    """Return the recipe of a run on images."""
    recipe = subnets.run.config.recipe
    assert isinstance(recipe, Recipe)
    return recipe


@lru_cache(maxsize=1)
def _opened(task: FinetuneTask) -> "_Opened":
    return _Opened(task)


class _Opened:
    """A checkpoint, its data, and what every subnet is trained and scored with."""

    def __init__(self, task: FinetuneTask) -> None:
        subnets = RunSubnets(open_run(task.run), task.bn, task.checkpoint, task.data)
        if subnets.checkpoint_sha256 != task.key.checkpoint_sha256:
            raise CheckpointError(f"{task.run} {task.checkpoint} changed while it was in use")
        dataset, settings = image_data(subnets), task.settings
        self._subnets, self._settings, self._key = subnets, settings, task.key
        self._recipe = settings.recipe(run_recipe(subnets))
        device = torch.device("cpu")
        self._batches = Batches(dataset.train, self._recipe, seed=settings.seed, device=device)
        has_momentum = settings.momentum == "supernet"
        self._momentum = supernet_momentum(subnets.run, subnets.found) if has_momentum else None
        chosen = task.images.images(dataset)
        self._ids = chosen.ids
        pads = subnets.mode.kind != "batch"
        self.images = DeviceImages(chosen, task.batch_size, CPU, pads=pads)

    def trained(
        self, arch: Arch, n_batches: Sequence[int]
    ) -> Iterator[tuple[int, dict[str, NDArray[np.float32]]]]:
        """Yield the weights of a subnet after each number of batches."""
        subnet = LoneSubnet(self._subnets.supernet, arch)
        return finetune(
            subnet,
            self._batches,
            self._recipe,
            n_batches,
            seed=self._settings.seed,
            momentum=self._momentum,
        )

    def engine(self, weights: Mapping[str, NDArray[np.float32]]) -> Engine:
        """Return what scores a subnet with weights of its own: its graph is that of the supernet's subnet."""
        recorder = copy.copy(self._subnets.recorder)
        recorder.weights = WeightFile(weights)
        factory = SessionFactory(recorder.weights, CPU)
        images, mode = self._subnets.calibration, self._subnets.mode
        calibrator = None if images is None else Calibrator(factory, recorder.weights, images, mode)
        source = SupernetSource(recorder, self._key.checkpoint_sha256, CPU, calibrator)
        return OnnxEngine(source, factory, self.images)

    def scores(self, archs: Sequence[Arch], engine: Engine) -> list[Score]:
        """Return a score for each of some archs that compute the same."""
        with MemoryStore() as store:
            campaign = store.campaign(self._key, image_ids=self._ids, info={})
            add_scores(archs, campaign, engine, self._subnets)
            table = campaign.table()
        return [table.score(row) for row in range(len(table))]


def add_scores(
    archs: Sequence[Arch], campaign: Campaign, engine: Engine, subnets: RunSubnets
) -> None:
    """Score archs into a campaign, one after another."""
    source = SupernetSource(subnets.recorder, subnets.checkpoint_sha256, CPU, None)
    with ThreadPoolExecutor(1) as executor:
        score_population(
            archs,
            campaign=campaign,
            engine=engine,
            space=source.space,
            cost=source.cost,
            function_key=source.function_key,
            executor=executor,
            n_workers=1,
        )
