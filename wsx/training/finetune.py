"""Fine-tuning subnets one by one: each is taken out of the supernet and trained alone for a few batches.

A few independent steps undo what other archs did to the shared weights (Zhang et al., "Deeper Insights into Weight
Sharing in Neural Architecture Search", arXiv 2001.01431, figure 4).
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsx.errors import CheckpointError, OptionError
from wsx.exporters.extract import extract
from wsx.registry import unknown_name
from wsx.spaces import Arch
from wsx.supernets import Supernet
from wsx.supernets.checkpoint import Checkpoint, load_tensors
from wsx.training.augment import Batches
from wsx.training.loop import MOMENTUM_PREFIX, WEIGHT_PREFIX, Trainer
from wsx.training.recipes import Recipe
from wsx.training.run import Run

MOMENTA = ("fresh", "supernet")
_ATTRIBUTES = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Finetuning:
    """How a subnet is trained alone; everything else is as in the recipe of the run.

    Attributes:
        lr: Learning rate, the same for every batch.
        seed: Root of the order and the augmentation of images, the same for every arch.
        momentum: ``fresh`` starts the optimiser anew, ``supernet`` goes on with the momentum of the run, which is
            kept for its last step only.

    Raises:
        OptionError: A value is out of range.
        UnknownNameError: There is no such momentum.
    """

    lr: float
    seed: int = 0
    momentum: str = "fresh"

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf or self.seed < 0:
            raise OptionError(
                f"lr is {self.lr} and seed {self.seed}; lr must be above 0 and finite, seed at least 0"
            )
        if self.momentum not in MOMENTA:
            raise unknown_name("momentum", self.momentum, list(MOMENTA))

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return the recipe of a run with a constant learning rate, and no path dropped."""
        return dataclasses.replace(
            recipe,
            lr=self.lr,
            lr_min=self.lr,
            warmup_epochs=0.0,
            restart_epochs=0,
            drop_path=0.0,
        )


class LoneSubnet:
    """A subnet taken out of a supernet, whose weights go by the names that they have in recorded graphs.

    Attributes:
        module: Owns copies of the weights.

    Args:
        supernet: Left as it is.
        arch: Which subnet.

    Raises:
        ArchError: The arch lies outside the space.
        ExportError: The subnet cannot be recorded.
    """

    def __init__(self, supernet: Supernet, arch: Arch) -> None:
        self.module = extract(supernet, arch)
        self._places = _places(self.module)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Return copies of all weights and running averages as they are now."""
        return {
            name: getattr(layer, attribute).detach().cpu().contiguous().numpy().copy()
            for name, layer, attribute in self._places
        }

    def parameter_names(self) -> dict[str, str]:
        """Return the names of parameters in recorded graphs, by their names in the module."""
        names = {id(getattr(layer, attribute)): name for name, layer, attribute in self._places}
        return {own: names[id(tensor)] for own, tensor in self.module.named_parameters()}


def _places(module: nn.Module) -> list[tuple[str, nn.Module, str]]:
    """Return of every tensor its name in the graph, its layer and its attribute there."""
    # Extraction tags each layer with its operator, attributes and weights, each lone parameter with its weight.
    places = [
        (name, layer, attribute)
        for layer in module.children()
        for attribute, name in zip(_ATTRIBUTES, _tag(layer)[2], strict=False)
        if name is not None
    ]
    lone = module.named_parameters(recurse=False)
    return places + [(_tag(tensor)[0], module, attribute) for attribute, tensor in lone]


def _tag(owner: Any) -> tuple[Any, ...]:
    tag: tuple[Any, ...] = owner.wsx_tag
    return tag


def supernet_momentum(run: Run, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Return the momentum that a run had at a checkpoint, by the name of the parameter.

    Raises:
        CheckpointError: The run kept it for another step, or not at all.
    """
    state, facts = load_tensors(run.path / "last.safetensors")
    if facts["step"] != checkpoint.facts["step"]:
        raise CheckpointError(
            f"{run.path} keeps the momentum of step {facts['step']} only; {checkpoint.path.stem} is of step "
            f"{checkpoint.facts['step']}. Fine-tune the last checkpoint, or with fresh momentum"
        )
    return {
        name.removeprefix(MOMENTUM_PREFIX): tensor
        for name, tensor in state.items()
        if name.startswith(MOMENTUM_PREFIX)
    }


def finetune(
    subnet: LoneSubnet,
    batches: Batches,
    recipe: Recipe,
    n_batches: Sequence[int],
    *,
    seed: int,
    momentum: Mapping[str, torch.Tensor] | None = None,
) -> Iterator[tuple[int, dict[str, NDArray[np.float32]]]]:
    """Train a subnet alone, yielding its weights after each of some numbers of batches, ascending.

    Args:
        subnet: Trained in place.
        batches: The first of them are trained on.
        recipe: From ``Finetuning.recipe``.
        n_batches: After how many batches; 0 is before the first.
        seed: Root of what the module itself draws, such as dropout masks.
        momentum: To start with, by the name of the parameter in the supernet; None starts without.

    Raises:
        OptionError: A weight is derived from the supernet's, so that it has no momentum of its own there.
        TrainingError: The loss is not finite.
    """
    wanted = sorted(set(n_batches))
    epochs = max(1, -(-wanted[-1] // batches.n_steps_per_epoch))
    longer = dataclasses.replace(recipe, epochs=epochs)
    module = subnet.module
    trainer = Trainer(module, lambda step: [module] * recipe.n_ranks, batches, longer, seed=seed)
    if momentum is not None:
        weights = {WEIGHT_PREFIX + name: t for name, t in module.state_dict().items()}
        own = _own_momentum(subnet, momentum)
        trainer.restore({**weights, **own, "sums": torch.zeros(3)}, {"step": 0})
    if wanted[0] == 0:
        yield 0, subnet.weights()
    if wanted[-1] == 0:
        return
    for progress in trainer.run():
        if progress.step in wanted:
            yield progress.step, subnet.weights()
        if progress.step == wanted[-1]:
            return


def _own_momentum(
    subnet: LoneSubnet, momentum: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    names = subnet.parameter_names()
    if derived := [name for name in names.values() if name.startswith("derived.")]:
        raise OptionError(
            f"{len(derived)} weights of the subnet are slices of shared ones or computed from them, and have no "
            "momentum in the supernet; fine-tune with fresh momentum"
        )
    return {MOMENTUM_PREFIX + own: momentum[n] for own, n in names.items() if n in momentum}
