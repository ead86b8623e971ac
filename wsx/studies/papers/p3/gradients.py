"""Do gradients of archs that share more agree more? Cosines at the last checkpoint of each supernet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis.gradients import mean_over_pairs, means_by_shared
from wsx.analysis.interference import PairRelation, relate_pairs
from wsx.analysis.uncertainty import Resampling, Spread, spread
from wsx.errors import StoreError, StudyError
from wsx.report.findings import Cell, Claim, Plot, ResultTable, limits
from wsx.store.pairs import PairTable, read_pairs, write_pairs
from wsx.studies.gradients import COMMON, COSINE, N_SHARED, GradientImages, compare_gradients
from wsx.studies.papers._base import Machine, Step, Update, Work
from wsx.studies.papers.p3.cell64 import ALL
from wsx.studies.papers.rates import split_sizes, train_rate
from wsx.studies.papers.seeds import claim_over_seeds, points
from wsx.studies.papers.steps import run_of
from wsx.supernets.checkpoint import file_sha256
from wsx.training.run import RunConfig

SOURCE = "arXiv 2108.12821"
FOLDER = "gradients"
MAX_IMAGES = 1024
_NO_RESAMPLES = Resampling(n_resamples=0)


@dataclass(frozen=True)
class CompareGradients(Step):
    """Compare the gradients of all archs at the last checkpoint of runs; each run is a file of its own.

    Attributes:
        name: Of the step.
        runs: Trainings by name, alike but for their seeds.
    """

    name: str
    runs: Mapping[str, RunConfig]

    @property
    def images(self) -> GradientImages:
        """Whole batches of the recipe's size, up to ``MAX_IMAGES``, but at least one."""
        config = next(iter(self.runs.values()))
        size = config.recipe.batch_size
        n_all = split_sizes(config.data)["train"]
        return GradientImages(size * max(1, min(n_all, MAX_IMAGES) // size), size)

    def work(self) -> Work:
        """Return images times archs times runs."""
        config = next(iter(self.runs.values()))
        n_images = (self.images.n or 0) * len(ALL.archs(config.archs)) * len(self.runs)
        return Work(n_train_images=n_images, seconds_per_train_image=train_rate(config))

    def run(self, folder: Path, machine: Machine, update: Update) -> None:
        """Compare what is missing, on the CPU."""
        (folder / FOLDER).mkdir(exist_ok=True)
        for place, name in enumerate(self.runs):
            path, run = table_path(folder, name), run_of(folder, name)
            if _is_of(path, file_sha256(run.checkpoint_path())):
                continue

            def on_arch(n: int, n_all: int, arch: str, place: int = place, run: str = name) -> None:
                update(place * n_all + n, len(self.runs) * n_all, f"{run} {arch}")

            write_pairs(compare_gradients(run, ALL, self.images, on_progress=on_arch), path)


def table_path(folder: Path, run: str) -> Path:
    """Return where the cosines of a run lie."""
    return folder / FOLDER / f"{run}.parquet"


def _is_of(path: Path, checkpoint_sha256: str) -> bool:
    try:
        return bool(read_pairs(path).info["checkpoint_sha256"] == checkpoint_sha256)
    except (StoreError, KeyError):
        return False


@dataclass(frozen=True, eq=False)
class Agreements:
    """How the gradients of archs agree, seed by seed.

    Attributes:
        n_images: Training images that gradients are of.
        mean: Mean cosine over pairs.
        rho: Spearman's rho of cosine and shared operations over pairs.
        common: The same with cosines on those weights only that all archs use.
        slope: Cosine per operation shared.
        by_shared: Mean cosine by the number of operations that two archs share.
    """

    n_images: int
    mean: Spread
    rho: Spread
    common: Spread
    slope: Spread
    by_shared: dict[int, Spread]

    def claim(self) -> Claim:
        """Return whether archs that share more agree more."""
        return claim_over_seeds(
            "Gradients of archs that share more operations agree more on the weights they share.",
            SOURCE,
            self.rho,
            f"mean cosine {self.mean.mean:.3f}; rank correlation of cosine and operations shared",
        )

    def table(self) -> ResultTable:
        """Return the table of all numbers."""
        by_shared = {
            f"mean cosine with {n} operations in common": one for n, one in self.by_shared.items()
        }
        numbers = {
            "mean cosine": self.mean,
            **by_shared,
            "rank correlation of cosine and operations shared": self.rho,
            "the same on the weights that all archs use": self.common,
            "cosine per operation shared": self.slope,
        }
        rows: list[list[Cell]] = [
            [name, one.mean, limits(one.low, one.high)] for name, one in numbers.items()
        ]
        return ResultTable(
            "How gradients of two archs agree on the weights they share",
            ["", "ours", "95 % over seeds"],
            rows,
            f"Last checkpoint, {self.n_images} training images, BatchNorm statistics of the batch. Published "
            "figures are not known to us.",
        )

    def plot(self) -> Plot:
        """Return the figure."""
        return Plot(
            "gradients",
            "Agreement of gradients on shared weights",
            "operations shared",
            "cosine",
            "marks",
            [points("all pairs", list(self.by_shared), list(self.by_shared.values()))],
            "Mean over pairs of archs; limits are over seeds.",
        )


def read_agreements(folder: Path, runs: Sequence[str], texts: Sequence[str]) -> Agreements:
    """Return how gradients agree in the supernets of a study.

    Args:
        folder: Of the study.
        runs: Names of the runs.
        texts: The study's archs.

    Raises:
        StoreError: A table is missing.
        StudyError: It is of other archs.
    """
    return agreements([read_pairs(table_path(folder, run)) for run in runs], texts)


def agreements(tables: Sequence[PairTable], texts: Sequence[str]) -> Agreements:
    """Return how gradients agree in several tables of the same archs.

    Raises:
        StudyError: A table is of other archs.
    """
    for table in tables:
        if set(table.texts) != set(texts):
            raise StudyError(
                f"gradients are of {len(table.texts)} archs, and not the {len(texts)} of the study"
            )
    cosines = [table.columns[COSINE] for table in tables]
    shared = [table.columns[N_SHARED] for table in tables]
    relations = _relations(cosines, shared)
    common = _relations([table.columns[COMMON] for table in tables], shared)
    means = [mean_over_pairs(one, resampling=_NO_RESAMPLES).value for one in cosines]
    groups = [means_by_shared(one, other) for one, other in zip(cosines, shared, strict=True)]
    return Agreements(
        int(tables[0].info["n_images"]),
        spread(means, "mean cosine"),
        spread([one.rho.value for one in relations], "rho"),
        spread([one.rho.value for one in common], "rho"),
        spread([one.slope for one in relations], "slope"),
        {n: spread([group[n] for group in groups], "cosine") for n in groups[0]},
    )


def _relations(
    cosines: Sequence[NDArray[np.float64]], shared: Sequence[NDArray[np.int64]]
) -> list[PairRelation]:
    # The seeds are the unit: no archs are drawn again.
    pairs = zip(cosines, shared, strict=True)
    return [relate_pairs(one, other, resampling=_NO_RESAMPLES) for one, other in pairs]
