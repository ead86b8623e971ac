"""What is trained when steps are measured: a fresh supernet on noise, or a run's."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wsx.bench.machine import usable_device
from wsx.bench.subject import random_images
from wsx.data import ImageSet
from wsx.errors import OptionError
from wsx.evaluators.layout import n_cores
from wsx.supernets import Supernet, build_supernet
from wsx.training.recipes import Recipe
from wsx.training.run import open_run

N_BATCHES = 8
"""Of noise; epochs repeat them."""


@dataclass(frozen=True)
class TrainingConditions:
    """How steps are measured.

    Attributes:
        device: PyTorch's name of the device where everybody computes.
        batch_size: Images per step; None takes the recipe's.
        n_workers: Cores that PyTorch may use; None takes all.

    Raises:
        OptionError: A number is below one.
    """

    device: str = "cpu"
    batch_size: int | None = None
    n_workers: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("--batch-size", self.batch_size), ("--workers", self.n_workers)):
            if value is not None and value < 1:
                raise OptionError(f"{name} is {value}; it must be at least 1")

    def subject(self, supernet: Supernet, images: ImageSet, recipe: Recipe) -> "TrainingSubject":
        """Return the subject of a supernet under these conditions.

        Raises:
            DeviceError: There is no such device here.
        """
        return TrainingSubject(
            supernet,
            images,
            replace(recipe, batch_size=self.batch_size or recipe.batch_size),
            usable_device(self.device),
            self.n_workers or n_cores(),
        )


@dataclass(frozen=True)
class TrainingSubject:
    """What every loop trains.

    Attributes:
        supernet: Each loop trains its own copy.
        images: Training images.
        recipe: All numbers.
        device: Where everybody computes.
        n_cores: Cores that PyTorch may use.
        seed: Of archs, crops and order.
    """

    supernet: Supernet
    images: ImageSet
    recipe: Recipe
    device: torch.device
    n_cores: int
    seed: int = 0


def random_training(
    space: str, options: Mapping[str, Any], conditions: TrainingConditions
) -> TrainingSubject:
    """Return a fresh supernet and images of noise under the default recipe.

    Raises:
        UnknownNameError: There is no such space or option.
        OptionError: An option has the wrong type or range, or the space is of text.
        DeviceError: There is no such device here.
    """
    supernet = build_supernet(space, options, seed=0)
    if supernet.reads_text:
        raise OptionError(f"{space} reads text; bench measures supernets of images")
    recipe = Recipe(measure=next(iter(supernet.space.measures)))
    n_images = N_BATCHES * (conditions.batch_size or recipe.batch_size)
    shape, n_classes = supernet.options.input_shape, supernet.macro().get("n_classes", 2)
    images = random_images(n_images, 0, shape=shape, n_classes=n_classes)
    return conditions.subject(supernet, images, recipe)


def run_training(
    path: Path, conditions: TrainingConditions, *, data: str | None = None
) -> TrainingSubject:
    """Return a run's last checkpoint, training images and recipe.

    Args:
        path: Folder of the run.
        conditions: How steps are measured.
        data: Where the run's data lies now, if not where it was.

    Raises:
        CheckpointError: The run or its checkpoint is missing or unusable.
        DataError: The data is missing.
        OptionError: The run is of text.
        DeviceError: There is no such device here.
    """
    run = open_run(path)
    recipe = run.config.recipe
    if not isinstance(recipe, Recipe):
        raise OptionError(f"{path} is a run of text; bench measures supernets of images")
    spec = run.config.data if data is None else replace(run.config.data, spec=data)
    return conditions.subject(run.load()[0], spec.load().train, recipe)
