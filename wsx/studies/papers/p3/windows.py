"""Ways to share weights beside each other, by GT-Tau over a window of the last steps: P3's table 3."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from wsx.analysis.stability import TauWindow, gt_tau_window
from wsx.analysis.uncertainty import Spread, spread
from wsx.errors import OptionError
from wsx.report.findings import Cell, limits
from wsx.studies.papers._base import Step
from wsx.studies.papers.p3.cell64 import Cell64Settings
from wsx.studies.papers.variants import Variant, accuracy_of, variant_steps
from wsx.truth import TruthTable

HEADS = ["GT-Tau mean", "95 % over seeds", "deviation", "95 % over seeds"]
HEADS += ["published mean", "published deviation"]


@dataclass(frozen=True)
class WindowSettings(Cell64Settings):
    """Numbers of a study that scores a window of the last steps.

    Attributes:
        n_steps: Length of the window.
        every: One of so many of its steps is scored, counted from the last.

    Raises:
        OptionError: Fewer than two steps would be scored.
    """

    n_steps: int = 64
    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1 or self.n_scored < 2:
            raise OptionError(
                f"n_steps is {self.n_steps} and every {self.every}; at least 2 steps must be scored"
            )

    @property
    def n_scored(self) -> int:
        """Steps of the window that are scored."""
        return len(range(0, self.n_steps, self.every))

    @property
    def window(self) -> str:
        """The window in words."""
        each = "" if self.every == 1 else f", one of {self.every} scored"
        return f"the last {self.n_steps} steps{each}"

    def variant(
        self, name: str, label: str, sharing: Mapping[str, Any], *, n_times: int = 1
    ) -> Variant:
        """Return the training with one way to share, so many times as long as the recipe."""
        epochs = self.recipe.epochs * n_times
        recipe = replace(
            self.recipe,
            epochs=epochs,
            checkpoint_epochs=epochs,
            checkpoint_last_steps=self.n_steps,
        )
        return Variant(
            name,
            label,
            self.run_config(recipe, 0, sharing=sharing),
            self.bn,
            checkpoints=f"last:{self.n_steps}:{self.every}",
            n_checkpoints=self.n_scored,
        )

    def window_steps(self, variants: Sequence[Variant]) -> list[Step]:
        """Return the steps that train and score all, and those of the truth."""
        return [*variant_steps(variants, self, self.texts), *self.truth_steps()]


@dataclass(frozen=True, eq=False)
class Windows:
    """What was measured of each variant, by its name.

    Attributes:
        accuracy: float64 (seed, checkpoint, arch).
        tau: Agreement with truth over the window.
    """

    accuracy: dict[str, NDArray[np.float64]]
    tau: dict[str, TauWindow]

    def mean(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Return GT-Tau-Mean of variants, (variant, seed)."""
        return np.array([self.tau[name].mean.values for name in names])

    def std(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Return GT-Tau-Std of variants, (variant, seed)."""
        return np.array([self.tau[name].std.values for name in names])

    def cells(self, name: str, published: tuple[float, float] | None) -> list[Cell]:
        """Return the cells of a row under ``HEADS``."""
        mean, std = self.tau[name].mean, self.tau[name].std
        ours: list[Cell] = [mean.mean, limits(mean.low, mean.high)]
        ours += [std.mean, limits(std.low, std.high)]
        return [*ours, *(published or (None, None))]


def read_windows(
    variants: Sequence[Variant], settings: WindowSettings, folder: Path, truth: TruthTable
) -> Windows:
    """Return what was measured of variants.

    Raises:
        StoreError: Scores are missing.
    """
    accuracy = {one.name: accuracy_of(one, settings, folder, truth.texts) for one in variants}
    tau = {
        name: gt_tau_window(table, truth.accuracy, settings.n_scored)
        for name, table in accuracy.items()
    }
    return Windows(accuracy, tau)


def slopes(x: npt.ArrayLike, values: NDArray[np.float64], label: str) -> Spread:
    """Return the least-squares slope of a number over variants, seed by seed.

    Args:
        x: What variants differ in, shape (variant,); at least two different.
        values: The number, shape (variant, seed).
        label: The slope in words.
    """
    centred = np.asarray(x, dtype=np.float64)
    centred = centred - centred.mean()
    return spread(centred @ values / (centred @ centred), label)
