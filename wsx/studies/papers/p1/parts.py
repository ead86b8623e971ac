"""Supernets trained on parts of a space: lists of archs in the study's folder, and trainings on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.spaces import SPACES, Arch
from wsx.spaces.folds import write_archs
from wsx.spaces.lists import LIST
from wsx.studies.papers._base import Machine, Step, Update, Work
from wsx.studies.papers.variants import RankedSettings, Variant, accuracy_of, variant_steps

LISTS = "lists"


@dataclass(frozen=True)
class Part:
    """Archs to train on.

    Attributes:
        name: Letters, digits and dashes, unique within the study.
        label: In the report.
        archs: The archs.
    """

    name: str
    label: str
    archs: Sequence[Arch]


@dataclass(frozen=True)
class WriteLists(Step):
    """Write the archs of each part into a file, which trainings draw from.

    Attributes:
        name: Of the step.
        space: Name of the space.
        parts: The parts.
    """

    name: str
    space: str
    parts: Sequence[Part]

    def work(self) -> Work:
        """Return nothing: it takes no time."""
        return Work()

    def run(self, folder: Path, machine: Machine, update: Update) -> None:
        """Write the files."""
        for n_done, part in enumerate(self.parts, 1):
            write_archs(_path(folder, part.name), SPACES[self.space], part.archs)
            update(n_done, len(self.parts), part.name)


def _path(folder: Path, name: str) -> Path:
    # Whole, since runs keep it: the next command may be given in another folder.
    return folder.resolve() / LISTS / f"{name}.txt"


def _variant_of(part: Part, settings: RankedSettings, folder: Path) -> Variant:
    """Return the training on a part."""
    recipe = replace(settings.recipe, measure=f"{LIST}{_path(folder, part.name)}")
    return Variant(part.name, part.label, settings.run_config(recipe, 0), settings.bn)


def part_steps(
    parts: Sequence[Part], settings: RankedSettings, folder: Path, texts: tuple[str, ...]
) -> list[Step]:
    """Return the steps that train on each part with all seeds, and score the same archs after each."""
    variants = [_variant_of(part, settings, folder) for part in parts]
    return [
        WriteLists("lists", settings.space, parts),
        *variant_steps(variants, settings, texts),
    ]


def last_accuracies(
    parts: Sequence[Part], settings: RankedSettings, folder: Path, texts: tuple[str, ...]
) -> dict[str, NDArray[np.float64]]:
    """Return accuracies (seed, arch) after training on each part, by its name."""
    variants = [_variant_of(part, settings, folder) for part in parts]
    return {one.name: accuracy_of(one, settings, folder, texts)[:, -1] for one in variants}


def parsed(settings: RankedSettings, texts: Sequence[str]) -> list[Arch]:
    """Return the archs of texts."""
    return [SPACES[settings.space].parse(text) for text in texts]


def is_inside(
    parts: Sequence[Part], settings: RankedSettings, texts: Sequence[str]
) -> Mapping[str, NDArray[np.bool_]]:
    """Return which archs each part trains on, shape (arch,), by the part's name."""
    archs = parsed(settings, texts)
    kept = {part.name: set(part.archs) for part in parts}
    return {name: np.array([arch in own for arch in archs]) for name, own in kept.items()}
