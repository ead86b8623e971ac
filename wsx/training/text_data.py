"""Training text as windows of varying length, and the vocabulary that a run keeps."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsx.data import TextSet
from wsx.data.vocabulary import VOCABULARY_FILE, Vocabulary, read_vocabulary, write_vocabulary
from wsx.errors import CheckpointError, DataError
from wsx.training.text_recipes import TextRecipe


@dataclass(frozen=True)
class Window:
    """What one step trains on.

    Attributes:
        epoch: Pass over the text, counted from 0.
        inputs: int64, shape (stream, time).
        labels: int64, shape (stream, time), the tokens after the inputs.
        is_first: The window is the first of its epoch.
        is_last: The window is the last of its epoch.
    """

    epoch: int
    inputs: torch.Tensor
    labels: torch.Tensor
    is_first: bool
    is_last: bool


class Windows:
    """The windows of all steps of a training, each a function of (seed, step).

    A text is cut into streams of equal length, of which what does not fit is left out. Lengths of windows are
    drawn anew for every epoch, normally around the recipe's, now and then around half of it.

    Args:
        text: The training split.
        recipe: All numbers.
        seed: Root of the draws.
        device: Where windows lie.

    Raises:
        DataError: The text is too short for the recipe's streams.
    """

    def __init__(
        self, text: TextSet, recipe: TextRecipe, *, seed: int, device: torch.device
    ) -> None:
        n_streams = recipe.batch_size
        n_per_stream = len(text.tokens) // n_streams
        if n_per_stream < 2:
            raise DataError(
                f"train of {text.dataset!r} has {len(text.tokens)} tokens, too few for {n_streams} streams; "
                "lower batch_size"
            )
        streams = text.tokens[: n_streams * n_per_stream].reshape(n_streams, n_per_stream)
        self._streams = torch.from_numpy(streams).to(device)
        self._recipe = recipe
        self._seed = seed
        self._n_labels = n_per_stream - 1
        n_windows = [len(self._ends(epoch)) for epoch in range(recipe.epochs)]
        self._first_steps = np.concatenate([[0], np.cumsum(n_windows)])

    @property
    def n_steps(self) -> int:
        """Steps in all epochs."""
        return int(self._first_steps[-1])

    def __getitem__(self, step: int) -> Window:
        """Return the window of a step."""
        epoch = int(np.searchsorted(self._first_steps, step, side="right")) - 1
        ends = self._ends(epoch)
        place = step - int(self._first_steps[epoch])
        start, end = int(ends[place - 1]) if place else 0, int(ends[place])
        return Window(
            epoch,
            self._streams[:, start:end],
            self._streams[:, start + 1 : end + 1],
            place == 0,
            place == len(ends) - 1,
        )

    def _ends(self, epoch: int) -> NDArray[np.int64]:
        """Return where the windows of an epoch end, int64 (window,)."""
        recipe, n = self._recipe, self._n_labels
        rng = np.random.default_rng([self._seed, 4, epoch])
        n_most = n // recipe.window_min + 1
        is_half = rng.random(n_most) < recipe.window_half_share
        mean = np.where(is_half, recipe.window / 2, recipe.window)
        drawn = rng.normal(mean, recipe.window_std).astype(np.int64)
        lengths = np.clip(drawn, recipe.window_min, recipe.window + recipe.window_extra)
        ends = np.cumsum(lengths)
        return np.append(ends[ends < n], n)


def keep_vocabulary(run: Path, vocabulary: Vocabulary) -> None:
    """Write the vocabulary of a run into its folder.

    Raises:
        CheckpointError: The run was begun with another one, or the folder cannot be written.
    """
    path = run / VOCABULARY_FILE
    if path.exists() and read_vocabulary(path).digest != vocabulary.digest:
        raise CheckpointError(
            f"{path} is not the vocabulary of the training text, which has changed"
        )
    try:
        write_vocabulary(path, vocabulary)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error}") from error


def run_vocabulary(run: Path, facts: Mapping[str, Any]) -> Vocabulary:
    """Return the vocabulary of a run.

    Args:
        run: The run's folder.
        facts: Those of the checkpoint that it is needed for.

    Raises:
        CheckpointError: The checkpoint was trained with another one.
        DataError: It is missing or damaged.
    """
    vocabulary = read_vocabulary(run / VOCABULARY_FILE)
    if vocabulary.digest != facts.get("vocabulary_sha256"):
        raise CheckpointError(
            f"{run / VOCABULARY_FILE} is not what the checkpoint was trained with"
        )
    return vocabulary


def copy_vocabulary(run: Path, folder: Path) -> None:
    """Copy the vocabulary of a run beside subnets exported from it."""
    shutil.copyfile(run / VOCABULARY_FILE, folder / VOCABULARY_FILE)
