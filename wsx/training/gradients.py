"""What each arch of a supernet would do to the weights in a training step: its gradient, on the same images."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsx.analysis.gradients import WeightGradients
from wsx.data import ImageSet
from wsx.errors import OptionError, TrainingError
from wsx.spaces import Arch
from wsx.supernets import Supernet, seeded
from wsx.supernets.slicing import take_reached
from wsx.training.loop import forward_loss
from wsx.training.recipes import Recipe

ImageBatch = tuple[torch.Tensor, torch.Tensor]
"""Images (image, channel, height, width) float32, and labels (image,)."""
Row = tuple[int, NDArray[np.float32], NDArray[np.bool_] | None]


def gradient_batches(
    train: ImageSet, *, n_images: int, batch_size: int, seed: int
) -> list[ImageBatch]:
    """Return batches of training images as they are, neither cropped nor mirrored.

    Args:
        train: Training images, of which a class-stratified sample is drawn.
        n_images: How many; a multiple of the batch size.
        batch_size: Images that BatchNorm sees at once.
        seed: Seed of the sample and of its order.

    Raises:
        OptionError: A number is out of range.
        DataError: There are fewer images.
    """
    if n_images < 1 or batch_size < 1 or n_images % batch_size:
        raise OptionError(
            f"images are {n_images} and the batch size {batch_size}; both must be at least 1, and images a "
            "multiple of the batch size"
        )
    if seed < 0:
        raise OptionError(f"seed is {seed}; it must be at least 0")
    images = train.take(n_images, seed=seed)
    # Samples come in the order of the source, which may be that of classes.
    order = np.random.default_rng([seed, 1]).permutation(n_images)
    x, labels = torch.from_numpy(images.floats()[order]), torch.from_numpy(images.labels[order])
    starts = range(0, n_images, batch_size)
    return [(x[i : i + batch_size], labels[i : i + batch_size]) for i in starts]


def arch_gradients(
    supernet: Supernet,
    archs: Sequence[Arch],
    batches: Sequence[ImageBatch],
    recipe: Recipe,
    *,
    seed: int = 0,
    on_arch: Callable[[int, int, str], None] | None = None,
) -> list[WeightGradients]:
    """Return the gradient of each arch's training loss, parameter by parameter, for the archs that use it.

    As in a training step BatchNorm has the statistics of the batch, targets are smoothed and auxiliary heads
    count; weight decay and clipping are left out, no path is dropped, and every arch learns from labels. Several
    batches give the mean of their gradients. Works on a copy: weights, buffers and gradients of the supernet
    and the state of random generators stay as they are. Needs 4 bytes for each weight that an arch uses, 5 where
    archs use slices of a parameter.

    Args:
        supernet: Its device is computed on.
        archs: At least one.
        batches: The same for all archs, all of one size.
        recipe: That of the run.
        seed: Root of what the supernet itself draws, such as dropout masks: the same for all archs.
        on_arch: Told of archs done, archs in all, and the arch that came last.

    Raises:
        ArchError: An arch lies outside the space.
        OptionError: There is no arch or no batch.
        TrainingError: A loss or a gradient is not finite.
    """
    if not archs or not batches:
        raise OptionError(
            f"there are {len(archs)} archs and {len(batches)} batches; at least one of each is needed"
        )
    archs = [supernet.space.check(arch) for arch in archs]
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    model = copy.deepcopy(supernet).train().to(memory_format=layout)  # type: ignore[call-overload]
    device = next(model.parameters()).device
    placed = [(x.to(device, memory_format=layout), labels.to(device)) for x, labels in batches]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    rows: dict[str, list[Row]] = {name: [] for name, _ in model.named_parameters()}
    for number, arch in enumerate(archs):
        text = supernet.space.format(arch)
        _backward(model, arch, placed, recipe, seed=seed, text=text)
        for name, found in _taken(model, text).items():
            rows[name].append((number, *found))
        # Layers may read running averages in training as well: none may depend on the archs before.
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
        if on_arch is not None:
            on_arch(number + 1, len(archs), text)
    # Popped, so that rows and their table are twice in memory for one parameter only.
    return [_table(rows.pop(name)) for name in list(rows) if rows[name]]


def _backward(
    model: nn.Module,
    arch: Arch,
    batches: Sequence[ImageBatch],
    recipe: Recipe,
    *,
    seed: int,
    text: str,
) -> None:
    model.zero_grad(set_to_none=True)
    for place, (x, labels) in enumerate(batches):
        with seeded(int(np.random.default_rng([seed, 2, place]).integers(2**63))):
            _, loss = forward_loss(partial(model, arch=arch), x, labels, recipe)
            if not math.isfinite(value := loss.item()):
                raise TrainingError(f"the loss of {text} is {value}; the supernet has diverged")
            (loss / len(batches)).backward()  # type: ignore[no-untyped-call]


def _taken(
    model: nn.Module, text: str
) -> Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_] | None]]:
    """Return the gradients that there are and which elements slices reached, flat, by parameter."""
    found = {}
    for name, parameter in model.named_parameters():
        reached = take_reached(parameter)
        if parameter.grad is None:
            continue
        values = parameter.grad.float().flatten().cpu().numpy()
        if not np.isfinite(values).all():
            raise TrainingError(f"the gradient of {text} on {name} is not finite")
        is_used = None if reached is None else reached.flatten().cpu().numpy()
        found[name] = values, is_used
    return found


def _table(rows: list[Row]) -> WeightGradients:
    archs = np.array([number for number, _, _ in rows], dtype=np.int64)
    values = np.stack([values for _, values, _ in rows])
    if all(used is None for _, _, used in rows):
        return WeightGradients(archs, values)
    masks = [np.ones(values.shape[1], dtype=bool) if used is None else used for *_, used in rows]
    return WeightGradients(archs, values, np.stack(masks))
