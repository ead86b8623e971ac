"""Training loops that do a step whenever they are asked for one: wsx's trainer, and the plain loop.

The plain loop reads PIL images through a DataLoader in this process, keeps tensors in the layout that they have by
default, uses ``torch.optim.SGD`` as it comes, and takes loss and accuracy from the device at every step.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from wsx.bench.pil import PilImages
from wsx.bench.training_subject import TrainingSubject
from wsx.training.augment import Batches
from wsx.training.loop import Trainer
from wsx.training.passes import arch_passes
from wsx.training.recipes import Recipe
from wsx.training.sampling import ArchSampler

PLAIN, OWN = "plain", "wsx"
ENDLESS_EPOCHS = 10**6

Steps = Iterator[object]
"""Does one step whenever it is asked for the next item."""


def training_loops(subject: TrainingSubject) -> dict[str, tuple[str, Steps]]:
    """Return what each loop is and its steps, by name: wsx, wsx in two other settings, and the plain loop."""
    recipe = subject.recipe
    turned = replace(recipe, channels_last=not recipe.channels_last)
    cast = replace(recipe, autocast="bfloat16" if recipe.autocast == "none" else "none")
    own = f"data on the device, {_layout(recipe)}, autocast {recipe.autocast}"
    return {
        OWN: (own, own_steps(subject, recipe)),
        f"wsx, {_layout(turned)}": ("the same in the other layout", own_steps(subject, turned)),
        f"wsx, autocast {cast.autocast}": ("the same, cast otherwise", own_steps(subject, cast)),
        PLAIN: ("PIL images, DataLoader, NCHW, SGD, .item() per step", plain_steps(subject)),
    }


def _layout(recipe: Recipe) -> str:
    return "channels_last" if recipe.channels_last else "NCHW"


def own_steps(subject: TrainingSubject, recipe: Recipe) -> Steps:
    """Return the steps of wsx's trainer under a recipe."""
    recipe = replace(recipe, epochs=ENDLESS_EPOCHS)
    model = copy.deepcopy(subject.supernet).to(subject.device)
    sampler = ArchSampler(model.space, recipe, seed=subject.seed)
    batches = Batches(subject.images, recipe, seed=subject.seed, device=subject.device)
    return Trainer(model, arch_passes(model, sampler), batches, recipe, seed=subject.seed).run()


def plain_steps(subject: TrainingSubject) -> Steps:
    """Return the steps of the plain loop."""
    recipe, device = subject.recipe, subject.device
    model = copy.deepcopy(subject.supernet).to(device).train()
    sampler = ArchSampler(model.space, recipe, seed=subject.seed)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
    )
    for step, (x, labels) in enumerate(_endless(subject)):
        x, labels = x.to(device), labels.to(device)
        optimizer.zero_grad()
        (arch,) = sampler[step]
        logits = model(x, arch)
        loss = F.cross_entropy(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        yield loss.item(), (logits.argmax(1) == labels).sum().item() / len(labels)


def _endless(subject: TrainingSubject) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    recipe = subject.recipe
    images = PilImages(
        subject.images,
        crop_padding=recipe.crop_padding,
        flips=recipe.flips,
        rng=np.random.default_rng(subject.seed),
    )
    order = torch.Generator().manual_seed(subject.seed)
    loader = DataLoader(
        images, recipe.batch_size, shuffle=True, num_workers=0, drop_last=True, generator=order
    )
    while True:
        yield from loader
