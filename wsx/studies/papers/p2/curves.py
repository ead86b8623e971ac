"""Supernets over their training: scores at several checkpoints, and what the log says of each epoch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import sparse_kendall_tau
from wsx.report.findings import Plot
from wsx.studies.papers._base import Settings
from wsx.studies.papers.seeds import curve
from wsx.studies.papers.steps import panel_of, run_of
from wsx.studies.papers.variants import Variant
from wsx.training.log import read_log
from wsx.training.recipes import Recipe

Array = NDArray[np.float64]


def n_kept(recipe: Recipe) -> int:
    """Return how many checkpoints a training leaves, one every so many epochs and the last."""
    return -(-recipe.epochs // recipe.checkpoint_epochs)


@dataclass(frozen=True, eq=False)
class Curves:
    """Scores of the same archs over the training of a variant's supernets.

    Attributes:
        epochs: Of the checkpoints, shape (checkpoint,).
        accuracy: Fractions, shape (seed, checkpoint, arch).
        loss: Mean cross-entropies in nats, shape (seed, checkpoint, arch).
    """

    epochs: tuple[int, ...]
    accuracy: Array
    loss: Array

    def taus(self, truth: Array) -> Array:
        """Return sparse tau with truth of shape (arch,), shape (seed, checkpoint).

        It is 0 where a supernet gives all archs the same accuracy: that ranks them as chance would.
        """
        found = [[sparse_kendall_tau(row, truth) for row in rows] for rows in self.accuracy]
        taus: Array = np.nan_to_num(np.array(found))
        return taus


def curves_of(variant: Variant, settings: Settings, folder: Path, texts: Sequence[str]) -> Curves:
    """Return the scores of a variant at all checkpoints that were scored.

    Raises:
        StoreError: Scores are missing.
    """
    panel = panel_of(folder, tuple(variant.runs(settings.seeds)), texts, bn=variant.bn)
    order = [panel.seeds.tolist().index(seed) for seed in settings.seeds]
    return Curves(tuple(panel.epochs[0].tolist()), panel.accuracy[order], panel.loss[order])


def logged(variant: Variant, settings: Settings, folder: Path, name: str) -> Array:
    """Return a column of the training logs, such as ``loss``, shape (seed, epoch)."""
    runs = [run_of(folder, run) for run in variant.runs(settings.seeds)]
    return np.array([[float(row[name]) for row in read_log(run.path / "log.csv")] for run in runs])


def curve_plots(found: Mapping[str, Curves], truth: Array) -> list[Plot]:
    """Return sparse tau, loss and accuracy over epochs, one line for each of the curves by name."""
    ways: dict[str, tuple[str, Callable[[Curves], Array]]] = {
        "tau": ("Sparse tau with truth", lambda c: c.taus(truth)),
        "loss": ("Mean loss of the archs, nats", lambda c: c.loss.mean(axis=-1)),
        "accuracy": ("Mean accuracy of the archs", lambda c: c.accuracy.mean(axis=-1)),
    }
    return [
        Plot(
            key,
            f"{title}, over epochs",
            "epochs",
            title,
            "lines",
            [curve(name, one.epochs, value(one)) for name, one in found.items()],
            "Means over seeds with 95 % limits.",
        )
        for key, (title, value) in ways.items()
    ]
