"""How the gradients of archs agree on the weights that they share, at a checkpoint of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsx.analysis.gradients import gradient_cosines, mean_over_pairs, means_by_shared
from wsx.analysis.interference import PairRelation, relate_pairs, shared_decisions
from wsx.analysis.resample import Interval
from wsx.analysis.summary import Estimate
from wsx.analysis.uncertainty import Resampling
from wsx.data import Dataset
from wsx.errors import OptionError
from wsx.report.findings import limits
from wsx.spaces.choice import ArchChoice
from wsx.store.pairs import PairTable
from wsx.studies.run_subnets import RunSubnets
from wsx.training.gradients import arch_gradients, gradient_batches
from wsx.training.recipes import Recipe
from wsx.training.run import Run

COSINE, COMMON = "cosine", "cosine_common"
N_WEIGHTS, N_SHARED = "n_weights", "n_shared_decisions"


@dataclass(frozen=True)
class GradientImages:
    """The training images that all gradients are of.

    Attributes:
        n: How many, a multiple of the batch size; None takes one batch.
        batch_size: Images that BatchNorm sees at once; None takes as many as in a step of the run.
        seed: Seed of the sample, its order, and of what the supernet draws.
    """

    n: int | None = None
    batch_size: int | None = None
    seed: int = 0


def compare_gradients(
    run: Run,
    choice: ArchChoice,
    images: GradientImages,
    *,
    checkpoint: str = "last",
    data: str | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> PairTable:
    """Return cosines of the gradients of every two archs, over the weights that both use.

    Args:
        run: Trained on images.
        choice: At least two different archs.
        images: What gradients are of.
        checkpoint: Name of the checkpoint.
        data: Another place for the dataset than the one in the run.
        on_progress: Told of archs done, archs in all, and the arch that came last.

    Returns:
        Of every pair ``cosine`` (nan where it has none, see ``gradient_cosines``), ``cosine_common`` on those
        parameters only that every arch uses whole, ``n_weights`` that both use and ``n_shared_decisions``.

    Raises:
        OptionError: The run is of text, there are fewer than two archs, or images are out of range.
        ArchError: There are texts that are no archs.
        CheckpointError: The checkpoint is of no use.
        DataError: The run's data is missing or has too few images.
        TrainingError: A loss or a gradient is not finite.
    """
    subnets = RunSubnets(run, "batch", checkpoint, data)
    dataset, recipe = subnets.dataset, run.config.recipe
    if not isinstance(dataset, Dataset) or not isinstance(recipe, Recipe):
        raise OptionError(f"{run.path} was trained on text; gradients are compared on images")
    archs = list(dict.fromkeys(choice.archs(subnets.space)))
    if len(archs) < 2:
        raise OptionError(f"{len(archs)} arch makes no pair; choose at least two different ones")
    size = recipe.batch_size // recipe.n_ranks if images.batch_size is None else images.batch_size
    n = size if images.n is None else images.n
    batches = gradient_batches(dataset.train, n_images=n, batch_size=size, seed=images.seed)
    gradients = arch_gradients(
        subnets.supernet, archs, batches, recipe, seed=images.seed, on_arch=on_progress
    )
    found = gradient_cosines(gradients, len(archs))
    # Archs that share more also have other layers in common: on these weights all pairs are compared alike.
    common = [part for part in gradients if part.archs.size == len(archs) and part.is_used is None]
    return PairTable(
        tuple(subnets.space.format(arch) for arch in archs),
        {
            COSINE: found.cosine,
            COMMON: gradient_cosines(common, len(archs)).cosine,
            N_WEIGHTS: found.n_weights,
            N_SHARED: shared_decisions(np.array(archs)),
        },
        {
            **subnets.facts,
            "checkpoint_sha256": subnets.checkpoint_sha256,
            "n_images": n,
            "batch_size": size,
            "image_seed": images.seed,
        },
    )


@dataclass(frozen=True)
class Agreement:
    """How gradients agree over all pairs.

    Attributes:
        n_archs: How many archs there are.
        n_pairs: Pairs in either order counted once.
        n_undefined: Pairs without a cosine.
        mean: Mean cosine, with an interval over archs.
        relation: Of the cosine to the number of decisions that are the same.
        common: The same on the parameters that every arch uses.
        by_shared: Mean cosine by that number; nan where no pair has one.
        info: Where it comes from.
    """

    n_archs: int
    n_pairs: int
    n_undefined: int
    mean: Estimate
    relation: PairRelation
    common: PairRelation
    by_shared: dict[int, float]
    info: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, JSON-clean: what has no value is null."""
        return {
            "archs": self.n_archs,
            "pairs": self.n_pairs,
            "pairs_without_cosine": self.n_undefined,
            "mean_cosine": _clean(self.mean.value),
            "mean_cosine_interval": _bounds(self.mean.intervals.get("archs")),
            "shared_operations": _relation(self.relation),
            "shared_operations_on_common_weights": _relation(self.common),
            "mean_cosine_by_shared": {str(n): _clean(mean) for n, mean in self.by_shared.items()},
            "info": self.info,
        }

    def facts(self) -> dict[str, str]:
        """Return the numbers as texts, by their names."""
        info, mean = self.info, self.mean
        shown = {
            "checkpoint": f"{info['run']} {info['checkpoint']}",
            "images": f"{info['n_images']} in batches of {info['batch_size']}, seed {info['image_seed']}",
            "archs": str(self.n_archs),
            "pairs": f"{self.n_pairs}, of which {self.n_undefined} without a cosine",
            "mean cosine": mean.reason or _text(mean.value, mean.intervals.get("archs")),
            "rho of cosine and operations shared": _rho_text(self.relation),
            "the same on weights that all archs use": _rho_text(self.common),
        }
        if self.relation.rho.reason is None:
            slope = _text(self.relation.slope, self.relation.slope_interval)
            shown["cosine per operation shared"] = slope
        for n, value in self.by_shared.items():
            shown[f"mean cosine with {n} shared"] = f"{value:.3f}"
        return shown


def agreement(table: PairTable, resampling: Resampling | None = None) -> Agreement:
    """Return how gradients agree, and how that goes with what archs share.

    Args:
        table: From ``compare_gradients``.
        resampling: Behind intervals over archs and the permutation test.
    """
    cosine, shared = table.columns[COSINE], table.columns[N_SHARED]
    n = len(table.texts)
    relation = relate_pairs(cosine, shared, resampling=resampling)
    n_pairs = n * (n - 1) // 2
    return Agreement(
        n,
        n_pairs,
        n_pairs - relation.n_pairs // 2,
        mean_over_pairs(cosine, resampling=resampling),
        relation,
        relate_pairs(table.columns[COMMON], shared, resampling=resampling),
        means_by_shared(cosine, shared),
        dict(table.info),
    )


def _clean(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _bounds(found: Interval | None) -> list[float | None] | None:
    return None if found is None else [_clean(found.low), _clean(found.high)]


def _relation(found: PairRelation) -> dict[str, Any]:
    return {
        "rho": _clean(found.rho.value),
        "rho_interval": _bounds(found.rho.intervals.get("archs")),
        "reason": found.rho.reason,
        "slope": _clean(found.slope),
        "slope_interval": _bounds(found.slope_interval),
        "p_value": _clean(found.p_value),
    }


def _rho_text(found: PairRelation) -> str:
    if found.rho.reason is not None:
        return found.rho.reason
    rho = _text(found.rho.value, found.rho.intervals.get("archs"))
    return rho if np.isnan(found.p_value) else f"{rho}, p {found.p_value:.3f}"


def _text(value: float, found: Interval | None) -> str:
    if found is None:
        return f"{value:.3f}"
    return f"{value:.3f} {limits(found.low, found.high)} ({found.level:.0%} over archs)"
