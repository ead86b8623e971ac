"""Training a supernet on text: truncated backpropagation over windows, then averaged weights.

The method of AWD-LSTM (Merity et al., ICLR 2018) as P1 and DARTS use it. Everything random about a step is a
function of (seed, step, rollbacks), and a training is saved at the ends of epochs, where no hidden state is
carried on; so it is resumed by its weights, their averages and its validation losses alone.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from wsx.data import TextDataset
from wsx.data.text import cut_streams
from wsx.data.vocabulary import Vocabulary
from wsx.errors import CheckpointError, OptionError, TrainingError
from wsx.spaces import Arch
from wsx.supernets import seeded
from wsx.supernets.text import TextSupernet
from wsx.training.loop import WEIGHT_PREFIX, Progress, Trainer
from wsx.training.run import RunConfig
from wsx.training.sampling import ArchSampler
from wsx.training.text_data import Windows
from wsx.training.text_recipes import TextRecipe

AVERAGE_PREFIX = "average."
LOG_FIELDS = ("epoch", "step", "loss", "valid_loss", "accuracy", "lr", "tokens_per_s")


@dataclass(frozen=True)
class TextProgress(Progress):
    """Where a training on text stands; what a ``Progress`` says of images it says of tokens.

    Attributes:
        valid_loss: Mean validation loss at the last epoch's end, nats; nan before the first.
    """

    valid_loss: float

    @property
    def tokens_per_s(self) -> float:
        """Tokens trained on per second since the loop (re)started."""
        return self.images_per_s

    @property
    def note(self) -> str:
        """The state in a few words, for a progress bar."""
        return (
            f"epoch {self.epoch} perplexity {_perplexity(self.loss):.1f} valid "
            f"{_perplexity(self.valid_loss):.1f} {self.tokens_per_s:,.0f} tokens/s"
        )


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))


class TextTrainer:
    """Trains a text supernet, one arch per step.

    Args:
        model: The supernet.
        sampler: The arch of each step.
        dataset: The text; its validation split decides when averaging begins.
        recipe: All numbers.
        seed: Root of all draws.
        device: Where the model lies.
    """

    def __init__(
        self,
        model: TextSupernet,
        sampler: ArchSampler,
        dataset: TextDataset,
        recipe: TextRecipe,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.step = 0
        self._sampler = sampler
        self._seed = seed
        self._windows = Windows(dataset.train, recipe, seed=seed, device=device)
        self.n_steps = self._windows.n_steps
        inputs, labels = cut_streams(dataset.valid, recipe.valid_streams, 1)
        self._valid = torch.from_numpy(inputs).to(device), torch.from_numpy(labels).to(device)
        self._parameters = dict(model.named_parameters())
        self._optimizer = torch.optim.SGD(
            self._parameters.values(), lr=recipe.lr, weight_decay=recipe.weight_decay
        )
        self._averages: dict[str, torch.Tensor] = {}
        self._n_averaged = 0
        self._n_rollbacks = 0
        self._history: list[float] = []
        self._safe = self._snapshot()

    def run(self) -> Iterator[TextProgress]:
        """Train to the end, yielding after every step.

        Raises:
            TrainingError: The loss is not finite, even after going back as often as the recipe allows.
        """
        n_tokens, start_s = 0, time.perf_counter()
        sums = torch.zeros(3, dtype=torch.float64)
        hidden = self.model.initial_hidden(self.recipe.batch_size)
        while self.step < self.n_steps:
            window = self._windows[self.step]
            if window.is_first:
                sums.zero_()
                hidden = self.model.initial_hidden(self.recipe.batch_size)
            virtual = self.step + self._n_rollbacks * self.n_steps
            with seeded(int(np.random.default_rng([self._seed, 3, virtual]).integers(2**63))):
                arch = self._sampler[virtual][0]
                hidden, counts = self._train_step(window.inputs, window.labels, arch, hidden)
            is_finite = math.isfinite(float(counts[0]))
            if is_finite and window.is_last:
                is_finite = self._end_epoch()
            if not is_finite:
                self._roll_back()
                continue
            sums += counts
            n_tokens += window.inputs.numel()
            self.step += 1
            if window.is_last:
                self._safe = self._snapshot()
            yield TextProgress(
                step=self.step,
                n_steps=self.n_steps,
                epoch=window.epoch + 1,
                loss=float(sums[0] / sums[2]),
                accuracy=float(sums[1] / sums[2]),
                lr=self._lr(window.inputs.shape[1]),
                images_per_s=n_tokens / (time.perf_counter() - start_s),
                is_epoch_end=window.is_last,
                valid_loss=self._history[-1] if self._history else math.nan,
            )

    def _lr(self, length: int) -> float:
        return self.recipe.lr * length / self.recipe.window

    def _train_step(
        self, inputs: torch.Tensor, labels: torch.Tensor, arch: Arch, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the hidden state after the window; and summed loss, correct tokens and tokens."""
        self.model.train()
        for group in self._optimizer.param_groups:
            group["lr"] = self._lr(inputs.shape[1])
        self._optimizer.zero_grad(set_to_none=True)
        states, after = self.model.states(inputs, arch, hidden)
        logits = self.model.decode(states).flatten(0, 1)
        targets = labels.flatten()
        loss = F.cross_entropy(logits, targets)
        n_correct = int((logits.argmax(1) == targets).sum())
        counts = torch.tensor(
            [loss.item() * len(targets), n_correct, len(targets)], dtype=torch.float64
        )
        if inputs.shape[1] > 1:
            loss = loss + self.recipe.slowness * (states[:, 1:] - states[:, :-1]).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self._parameters.values(), self.recipe.clip)
        self._optimizer.step()
        self._average()
        return after.detach(), counts

    def _average(self) -> None:
        """Take the weights into their running mean, once averaging has begun."""
        if not self._averages:
            return
        self._n_averaged += 1
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                mean = self._averages[name]
                mean.add_((parameter - mean) / self._n_averaged)

    def _end_epoch(self) -> bool:
        """Validate, and begin to average weights where losses no longer fall; return whether all is finite."""
        if not all(bool(torch.isfinite(p).all()) for p in self._parameters.values()):
            return False
        loss = self.valid_loss()
        if not math.isfinite(loss):
            return False
        earlier = self._history[: -self.recipe.patience]
        if not self._averages and earlier and loss > min(earlier):
            # Zeros until the first step of averaging replaces them.
            self._averages = {n: torch.zeros_like(p) for n, p in self._parameters.items()}
            self._n_averaged = 0
        self._history.append(loss)
        return True

    def valid_loss(self) -> float:
        """Return the mean loss, in nats per token, over the validation text with the weights to be kept.

        Every window has an arch of its own, drawn by the seed, the same ones in every epoch.
        """
        inputs, labels = self._valid
        hidden = self.model.initial_hidden(len(inputs))
        self.model.eval()
        total = 0.0
        with torch.no_grad(), self._kept_weights():
            for place, start in enumerate(range(0, inputs.shape[1], self.recipe.window)):
                part = slice(start, start + self.recipe.window)
                # Beyond every step of training.
                arch = self._sampler[2**40 + place][0]
                logits, hidden = self.model(inputs[:, part], arch, hidden)
                targets = labels[:, part].flatten()
                flat = logits.flatten(0, 1)
                total += float(F.cross_entropy(flat, targets, ignore_index=-1, reduction="sum"))
        return total / int((labels != -1).sum())

    @contextmanager
    def _kept_weights(self) -> Iterator[None]:
        """Let the model have the weights that checkpoints keep."""
        own = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        _assign(self._parameters, self.weights())
        yield
        _assign(self._parameters, own)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return what checkpoints keep: averaged weights once there are any, and all else as it is."""
        state: dict[str, torch.Tensor] = self.model.state_dict()
        return {**state, **self._averages} if self._n_averaged else state

    def _roll_back(self) -> None:
        self._n_rollbacks += 1
        if self._n_rollbacks > self.recipe.rollbacks:
            raise TrainingError(
                f"the loss is not finite at step {self.step + 1} of {self.n_steps}, after going back "
                f"{self.recipe.rollbacks} times to the last epoch's end; lower lr or clip"
            )
        n_rollbacks = self._n_rollbacks
        state, step = self._safe
        self.restore(state, {"step": step})
        self._n_rollbacks = n_rollbacks

    def state(self) -> dict[str, torch.Tensor]:
        """Return weights, their averages, validation losses and counts, by name; for the end of an epoch."""
        state = {WEIGHT_PREFIX + name: t for name, t in self.model.state_dict().items()}
        state |= {AVERAGE_PREFIX + name: t for name, t in self._averages.items()}
        counts = torch.tensor([self._n_averaged, self._n_rollbacks, len(self._history)])
        # Never empty, which not every reader of files takes.
        history = torch.tensor([*self._history, math.inf], dtype=torch.float64)
        return {**state, "counts": counts, "history": history}

    def _snapshot(self) -> tuple[dict[str, torch.Tensor], int]:
        return {name: t.detach().clone() for name, t in self.state().items()}, self.step

    def check_finite(self) -> None:
        """Return; a state that is not finite has been rolled back before it was yielded."""

    def restore(self, state: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        """Continue from a state and its step.

        Raises:
            CheckpointError: The state belongs to another model.
        """
        try:
            self.model.load_state_dict(_under(WEIGHT_PREFIX, state))
            averages = _under(AVERAGE_PREFIX, state)
            self._n_averaged, self._n_rollbacks, n_epochs = (int(n) for n in state["counts"])
            self._history = [float(loss) for loss in state["history"][:n_epochs]]
            self.step = int(facts["step"])
        except (RuntimeError, KeyError, ValueError) as error:
            detail = str(error).strip().split("\n")[0]
            raise CheckpointError(f"the saved state is of another training: {detail}") from error
        self._averages = {
            n: torch.empty_like(self._parameters[n]).copy_(t) for n, t in averages.items()
        }
        self._safe = self._snapshot()


def _under(prefix: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def _assign(parameters: Mapping[str, nn.Parameter], values: Mapping[str, torch.Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])


@dataclass(frozen=True)
class Training:
    """A training about to begin or to go on.

    Attributes:
        trainer: Does the steps.
        facts: What checkpoints say of the supernet: ``supernet`` (macro options), and more.
        weights: Gives the weights that a checkpoint keeps.
        vocabulary: Goes into the run's folder; None for images.
    """

    trainer: Trainer | TextTrainer
    facts: Mapping[str, Any]
    weights: Callable[[], Mapping[str, torch.Tensor]]
    vocabulary: Vocabulary | None = None


def text_training(config: RunConfig, device: torch.device) -> Training:
    """Return the training of a text supernet.

    Raises:
        DataError: The text is missing, unusable or too short.
        OptionError: The recipe sets what the text decides otherwise.
    """
    dataset, recipe = config.data.load_text(), config.recipe
    n_tokens = len(dataset.vocabulary)
    if recipe.supernet.get("n_tokens", n_tokens) != n_tokens:
        raise OptionError(
            f"the recipe sets n_tokens to {recipe.supernet['n_tokens']}; the text has {n_tokens}"
        )
    macro = {**recipe.supernet, "n_tokens": n_tokens}
    supernet = config.build(macro).to(device)
    if not isinstance(supernet, TextSupernet) or not isinstance(recipe, TextRecipe):
        raise OptionError(f"{config.space} with this recipe cannot be trained on text")
    sampler = ArchSampler(supernet.space, recipe, seed=config.seed)
    trainer = TextTrainer(supernet, sampler, dataset, recipe, seed=config.seed, device=device)
    facts = {"supernet": macro, "vocabulary_sha256": dataset.vocabulary.digest}
    return Training(trainer, facts, trainer.weights, dataset.vocabulary)
