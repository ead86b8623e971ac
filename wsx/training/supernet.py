"""Training a supernet in a run folder: checkpoints, log, resuming."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from wsx.data import Dataset
from wsx.errors import DeviceError, OptionError
from wsx.supernets.checkpoint import load_tensors, save_tensors
from wsx.training.augment import Batches
from wsx.training.log import FIELDS, TrainingLog
from wsx.training.loop import Progress, Trainer
from wsx.training.passes import arch_passes, cost_of_archs
from wsx.training.recipes import Recipe
from wsx.training.run import DataSpec, Run, RunConfig, create_run
from wsx.training.sampling import ArchSampler
from wsx.training.text import LOG_FIELDS as TEXT_FIELDS
from wsx.training.text import Training, text_training
from wsx.training.text_data import keep_vocabulary
from wsx.training.text_recipes import TextRecipe

SAVE_EVERY_S = 30.0
"""Epochs may be shorter than saving a state takes. A crash costs this, or an epoch if that is longer."""

Load = Callable[[DataSpec], Dataset]
"""Gives the images of a run."""


def train_supernet(
    config: RunConfig,
    out: Path,
    *,
    device: str = "cpu",
    load: Load = DataSpec.load,
    on_progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Train a supernet, or go on with one that was interrupted.

    Args:
        config: What to train.
        out: The run's folder.
        device: Torch device to train on.
        load: Gives the images, which several trainings may share.
        on_progress: Called after every step.

    Returns:
        The finished run.

    Raises:
        ArchError: The list of archs to draw from is missing or wrong.
        CheckpointError: The folder holds a run with another configuration, or the disk is full.
        DataError: The data is unusable, or has fewer training images than a batch.
        DeviceError: The device does not exist here.
        TrainingError: The loss or a weight is not finite; the last checkpoint stays.
    """
    config = config.pinned()
    recipe = config.recipe
    is_text = isinstance(recipe, TextRecipe)
    last = out / "last.safetensors"
    # What is gone on with has no more need of what it started from.
    starting = replace(config, init_from=None) if last.exists() else config
    on = _usable_device(device)
    training = text_training(starting, on) if is_text else image_training(starting, on, load)
    trainer = training.trainer
    run = create_run(out, config)
    if training.vocabulary is not None:
        keep_vocabulary(out, training.vocabulary)
    if last.exists():
        trainer.restore(*load_tensors(last))
    log = TrainingLog(out / "log.csv", step=trainer.step, fields=TEXT_FIELDS if is_text else FIELDS)
    header = {**config.supernet_facts, **training.facts, "seed": config.seed}
    saved_at = time.monotonic()
    for progress in trainer.run():
        if progress.is_epoch_end:
            log.append(progress)
        name = _checkpoint_name(recipe, progress)
        is_saved = name is not None or (
            progress.is_epoch_end and time.monotonic() - saved_at >= SAVE_EVERY_S
        )
        if is_saved:
            trainer.check_finite()
        if name:
            facts = {
                **header,
                "step": progress.step,
                "epoch": progress.epoch,
                "loss": progress.loss,
            }
            save_tensors(out / "checkpoints" / f"{name}.safetensors", training.weights(), facts)
        if is_saved:
            save_tensors(last, trainer.state(), {**header, "step": progress.step})
            saved_at = time.monotonic()
        if on_progress is not None:
            on_progress(progress)
    return run


def image_training(config: RunConfig, device: torch.device, load: Load = DataSpec.load) -> Training:
    """Return the training of an image supernet, from its beginning.

    Raises:
        DataError: The data is missing, unusable, or has fewer training images than a batch.
        OptionError: The recipe sets what the data decides otherwise.
    """
    dataset, recipe = load(config.data), config.recipe
    macro = supernet_options(recipe, dataset.train.pixels.shape, dataset.train.n_classes)
    supernet = config.build(macro)
    cost_of = cost_of_archs(supernet)
    sampler = ArchSampler(supernet.space, recipe, seed=config.seed, cost_of=cost_of)
    supernet.to(device)
    batches = Batches(dataset.train, recipe, seed=config.seed, device=device)
    passes = arch_passes(supernet, sampler)
    trainer = Trainer(supernet, passes, batches, recipe, seed=config.seed)
    return Training(trainer, {"supernet": macro}, supernet.state_dict)


def _usable_device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        detail = str(error).strip().split("\n")[0]
        raise DeviceError(f"cannot train on device {name!r}: {detail}") from error


def supernet_options(recipe: Recipe, shape: tuple[int, ...], n_classes: int) -> dict[str, Any]:
    """Return the macro options of a recipe, with those that follow from the data filled in.

    Raises:
        OptionError: The images are not square, or the recipe sets what the data decides otherwise.
    """
    _, n_channels, height, width = shape
    if height != width:
        raise OptionError(f"images are {height} x {width} pixels; supernets take square ones")
    from_data = {"in_channels": n_channels, "image_size": height, "n_classes": n_classes}
    for name, value in from_data.items():
        if recipe.supernet.get(name, value) != value:
            raise OptionError(
                f"the recipe sets {name} to {recipe.supernet[name]}; the data has {value}"
            )
    return {**recipe.supernet, **from_data}


def _checkpoint_name(recipe: Recipe, progress: Progress) -> str | None:
    is_last = progress.step == progress.n_steps
    if progress.is_epoch_end and (progress.epoch % recipe.checkpoint_epochs == 0 or is_last):
        return f"epoch-{progress.epoch:04d}"
    is_late = progress.step > progress.n_steps - recipe.checkpoint_last_steps
    if is_late or (recipe.checkpoint_steps and progress.step % recipe.checkpoint_steps == 0):
        return f"step-{progress.step:07d}"
    return None
