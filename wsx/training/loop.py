"""The training loop, the same for a supernet and for one subnet alone.

Everything random about a step is a function of (seed, step). So a training is resumed by its step number,
its weights and its momentum alone, and goes on bit for bit as if it had never stopped.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from wsx.errors import CheckpointError, OptionError, TrainingError
from wsx.supernets import seeded
from wsx.supernets.blocks import set_drop_path
from wsx.supernets.slicing import untouched_outside_slices
from wsx.training.augment import Batches
from wsx.training.passes import Pass, Teacher
from wsx.training.recipes import Recipe

MOMENTUM_PREFIX = "momentum."
WEIGHT_PREFIX = "weight."


@dataclass(frozen=True)
class Progress:
    """Where a training stands after a step.

    Attributes:
        step: Steps done.
        n_steps: Steps in all.
        epoch: Passes done over the data, complete or not, counted from 1.
        loss: Mean loss of the epoch so far, that of students against their teacher among it.
        accuracy: Training accuracy of the epoch so far, a fraction.
        lr: Learning rate of the step.
        images_per_s: Images trained on per second since the loop (re)started.
        is_epoch_end: The step is the last of its epoch.
    """

    step: int
    n_steps: int
    epoch: int
    loss: float
    accuracy: float
    lr: float
    images_per_s: float
    is_epoch_end: bool

    @property
    def note(self) -> str:
        """The state in a few words, for a progress bar."""
        return (
            f"epoch {self.epoch} loss {self.loss:.3f} accuracy {self.accuracy:.1%} "
            f"lr {self.lr:.3g} {self.images_per_s:,.0f} images/s"
        )


def forward_loss(
    forward: Pass, x: torch.Tensor, targets: torch.Tensor, recipe: Recipe
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (image, class) of a pass and its loss, that of auxiliary heads included.

    The loss is the cross-entropy to labels (image,), smoothed, or to a teacher's shares (image, class).
    """
    smoothing = 0.0 if targets.is_floating_point() else recipe.label_smoothing
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.autocast == "bfloat16"):
        output = forward(x)
    logits, *auxiliary = output if isinstance(output, tuple) else (output,)
    loss = F.cross_entropy(logits.float(), targets, label_smoothing=smoothing)
    for head in auxiliary:
        other = F.cross_entropy(head.float(), targets, label_smoothing=smoothing)
        loss = loss + recipe.auxiliary_weight * other
    return logits, loss


class Trainer:
    """Trains a module on batches with a recipe.

    Args:
        model: What is trained; its parameters are the optimiser's.
        passes: The forward passes of a step, as many for each of the recipe's ranks, rank by rank. A step averages
            or sums the gradients of a rank's passes. Those after a ``Teacher`` learn from it, all others from
            labels.
        batches: Training data by step.
        recipe: All numbers.
        seed: Root of what the model itself draws, such as dropout masks.
    """

    def __init__(
        self,
        model: nn.Module,
        passes: Callable[[int], Iterable[Pass]],
        batches: Batches,
        recipe: Recipe,
        *,
        seed: int,
    ) -> None:
        self.model = model
        self._seed = seed
        self.recipe = recipe
        self.step = 0
        self.n_steps = recipe.epochs * batches.n_steps_per_epoch
        self._passes = passes
        self._batches = batches
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._parameters = dict(model.named_parameters())
        self._optimizer = torch.optim.SGD(
            self._parameters.values(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov and recipe.momentum > 0,
            weight_decay=recipe.weight_decay,
        )
        self._sums = torch.zeros(3, dtype=torch.float64)
        self._drop_path: float | None = None

    def run(self) -> Iterator[Progress]:
        """Train to the end, yielding after every step.

        Raises:
            TrainingError: The loss is not finite; weights are then no longer of use.
        """
        per_epoch = self._batches.n_steps_per_epoch
        start_step, start_s = self.step, time.perf_counter()
        self.model.train()
        while self.step < self.n_steps:
            if self.step % per_epoch == 0:
                self._sums.zero_()
            lr = self.lr_at(self.step)
            with seeded(int(np.random.default_rng([self._seed, 3, self.step]).integers(2**63))):
                self._train_step(lr)
            self.step += 1
            n_images = (self.step - start_step) * self.recipe.batch_size
            yield Progress(
                step=self.step,
                n_steps=self.n_steps,
                epoch=(self.step - 1) // per_epoch + 1,
                loss=float(self._sums[0] / self._sums[2]),
                accuracy=float(self._sums[1] / self._sums[2]),
                lr=lr,
                images_per_s=n_images / (time.perf_counter() - start_s),
                is_epoch_end=self.step % per_epoch == 0,
            )

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, then half a cosine, or one after another."""
        recipe, per_epoch = self.recipe, self._batches.n_steps_per_epoch
        n_warmup = recipe.warmup_epochs * per_epoch
        if step < n_warmup:
            return recipe.lr * (step + 1) / n_warmup
        n_done, n_cosine = step - n_warmup, max(1.0, self.n_steps - n_warmup)
        if recipe.restart_epochs:
            n_cosine = recipe.restart_epochs * per_epoch
            n_done %= n_cosine
        share = n_done / n_cosine
        return recipe.lr_min + (recipe.lr - recipe.lr_min) * (1 + math.cos(math.pi * share)) / 2

    def drop_path_at(self, step: int) -> float:
        """Return the share of images for which a path is dropped in a step."""
        ramp = step / self.n_steps if self.recipe.raises_drop_path else 1.0
        return self.recipe.drop_path * ramp

    def _set_drop_path(self, share: float) -> None:
        # Looking for the layers in a large supernet may take longer than the step itself.
        if share != self._drop_path:
            set_drop_path(self.model, share)
            self._drop_path = share

    def _train_step(self, lr: float) -> None:
        x, labels = self._batches[self.step]
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._set_drop_path(self.drop_path_at(self.step))
        passes, n_ranks = list(self._passes(self.step)), self.recipe.n_ranks
        n_paths, n_left = divmod(len(passes), n_ranks)
        if n_left or not n_paths:
            raise OptionError(
                f"{len(passes)} passes of a step are not as many for each of {n_ranks} ranks"
            )
        n_averaged = len(passes) if self.recipe.gradients == "mean" else n_ranks
        shares = zip(x.tensor_split(n_ranks), labels.tensor_split(n_ranks), strict=True)
        for rank, (images, truth) in enumerate(shares):
            targets = truth
            for forward in passes[rank * n_paths : (rank + 1) * n_paths]:
                logits, loss = forward_loss(forward, images, targets, self.recipe)
                self._note(logits, loss, truth, lr)
                (loss / n_averaged).backward()  # type: ignore[no-untyped-call]
                if isinstance(forward, Teacher):
                    targets = logits.detach().float().softmax(dim=1)
        # Of many private nets a step trains one: looking at all weights would take as long as the step itself.
        used = [weight for weight in self._parameters.values() if weight.grad is not None]
        self._optimizer.param_groups[0]["params"] = used
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(used, self.recipe.clip)
        with untouched_outside_slices(self._optimizer, used):
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _note(
        self, logits: torch.Tensor, loss: torch.Tensor, labels: torch.Tensor, lr: float
    ) -> None:
        """Count a pass into the epoch's sums, or refuse to go on from it."""
        if not math.isfinite(value := loss.item()):
            raise TrainingError(
                f"the loss is {value} at step {self.step + 1} of {self.n_steps} (lr {lr:.4g}); "
                "lower lr or clip, or check the data"
            )
        n_correct = int((logits.argmax(1) == labels).sum())
        self._sums += torch.tensor([value * len(labels), n_correct, len(labels)])

    def state(self) -> dict[str, torch.Tensor]:
        """Return weights, buffers, momentum and the epoch's running sums, by name."""
        state = {WEIGHT_PREFIX + name: t for name, t in self.model.state_dict().items()}
        for name, parameter in self._parameters.items():
            buffer = self._optimizer.state.get(parameter, {}).get("momentum_buffer")
            if buffer is not None:
                state[MOMENTUM_PREFIX + name] = buffer
        return {**state, "sums": self._sums}

    def check_finite(self) -> None:
        """Refuse a state that is not worth keeping.

        Raises:
            TrainingError: A weight, an average or a momentum is not finite.
        """
        for name, tensor in self.state().items():
            if not bool(torch.isfinite(tensor).all()):
                raise TrainingError(
                    f"{name} is not finite after step {self.step} of {self.n_steps}; lower lr or clip"
                )

    def restore(self, state: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        """Continue from a state and its step.

        Raises:
            CheckpointError: The state belongs to another model.
        """
        weights = {
            name.removeprefix(WEIGHT_PREFIX): t
            for name, t in state.items()
            if name.startswith(WEIGHT_PREFIX)
        }
        try:
            self.model.load_state_dict(weights)
            self._sums.copy_(state["sums"])
            self.step = int(facts["step"])
        except (RuntimeError, KeyError) as error:
            detail = str(error).strip().split("\n")[0]
            raise CheckpointError(f"the saved state is of another training: {detail}") from error
        for name, parameter in self._parameters.items():
            if (buffer := state.get(MOMENTUM_PREFIX + name)) is not None:
                momentum = torch.empty_like(parameter).copy_(buffer)
                self._optimizer.state[parameter]["momentum_buffer"] = momentum
