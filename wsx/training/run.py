"""A run: one supernet training in a folder of its own.

RUN/run.json                            what was asked for: space, options, recipe, data, seed, versions
RUN/checkpoints/epoch-0010.safetensors  weights after an epoch; step-0001234 between epochs
RUN/last.safetensors                    weights, momentum and step to resume from
RUN/log.csv                             one row per epoch
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from wsx.data import Dataset, TextDataset, load_data, load_text
from wsx.data.vocabulary import Vocabulary
from wsx.errors import CheckpointError, OptionError, WsxError
from wsx.registry import unknown_name
from wsx.spaces import SPACES, Space
from wsx.spaces.lists import pinned
from wsx.spaces.loading import known_space, space_facts, space_origin
from wsx.spaces.restricted import restricted, restriction_of
from wsx.supernets import SUPERNETS, Supernet, build_supernet
from wsx.supernets.build import check_sharing, pinned_sharing
from wsx.supernets.checkpoint import Checkpoint, load_supernet, read_facts
from wsx.supernets.inherit import inherit, is_pinned, pinned_checkpoint
from wsx.training.recipes import Recipe
from wsx.training.text_recipes import TextRecipe
from wsx.version import __version__

RUN_FORMAT_VERSION = 1


@dataclass(frozen=True)
class DataSpec:
    """Which images a run uses; with the seed it fixes every split, image by image.

    Attributes:
        spec: What ``load_data`` takes, such as ``digits`` or ``cifar10=PATH``.
        seed: Seed of the splits.
        n_train: Training images kept; None keeps all.
        n_valid: Validation images; None takes the source's own split, or cuts the loader's default.
        n_test: Test images; None takes the source's own split, or the loader's default.
        image_size: Side in pixels that images are resized to; None keeps theirs.
    """

    spec: str
    seed: int = 0
    n_train: int | None = None
    n_valid: int | None = None
    n_test: int | None = None
    image_size: int | None = None

    def load(self) -> Dataset:
        """Return the dataset.

        Raises:
            DataError: The data is missing or unusable.
        """
        return load_data(
            self.spec,
            seed=self.seed,
            n_train=self.n_train,
            n_valid=self.n_valid,
            n_test=self.n_test,
            image_size=self.image_size,
        )

    def load_text(self, vocabulary: Vocabulary | None = None) -> TextDataset:
        """Return the text, under the vocabulary of a run or that of its training split.

        Raises:
            OptionError: Options of images are set; text is used whole.
            DataError: The text is missing or unusable.
        """
        for name in ("n_train", "n_valid", "n_test", "image_size"):
            if getattr(self, name) is not None:
                raise OptionError(
                    f"{name} is {getattr(self, name)}; text is used whole, leave it out"
                )
        return load_text(self.spec, vocabulary=vocabulary)


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run is determined by.

    Attributes:
        space: Name of the space.
        recipe: All numbers.
        data: The images or the text.
        seed: Root of all draws.
        restriction: Names of options that decisions may take, by name of the decision; empty for all.
        sharing: Who shares what, see ``wsx.supernets.build``; empty where all archs share all weights.
        init_from: A run, of which the last checkpoint is taken, or a checkpoint whose weights the supernet starts
            from; None starts afresh.
    """

    space: str
    recipe: Recipe
    data: DataSpec
    seed: int
    restriction: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sharing: Mapping[str, Any] = field(default_factory=dict)
    init_from: str | None = None

    def __post_init__(self) -> None:
        """Refuse a seed that no generator takes, and names that neither space, recipe nor supernet has.

        Raises:
            OptionError: The seed is negative, or restriction or sharing are malformed.
            UnknownNameError: There is no such space, recipe value, macro option, decision or shared part.
        """
        if self.seed < 0:
            raise OptionError(f"seed is {self.seed}; it must be at least 0")
        kind = SUPERNETS[SPACES[self.space].supernet]
        if isinstance(self.recipe, TextRecipe) != kind.reads_text:
            what = "text" if kind.reads_text else "images"
            raise OptionError(
                f"the recipe is not for {what}, which {self.space} reads; see wsx recipes"
            )
        macro = [field.name for field in fields(kind.options_type)]
        for name in self.recipe.supernet:
            if name not in macro:
                known = [*(field.name for field in fields(Recipe)), *macro]
                raise unknown_name("recipe value or supernet option", name, sorted(known))
        restriction = restriction_of(SPACES[self.space], self.restriction)
        object.__setattr__(self, "restriction", restriction)
        check_sharing(self.sharing)
        if not isinstance(self.init_from, str | None):
            raise OptionError(f"init_from is {self.init_from!r:.120}; it must be a path")

    @property
    def archs(self) -> Space:
        """The space with the archs that the restriction leaves."""
        return restricted(SPACES[self.space], self.restriction)

    def pinned(self) -> "RunConfig":
        """Return the configuration with the files that it depends on, if any, named by their content.

        Raises:
            ArchError: The list of archs to draw from, or that of groups, cannot be read.
            CheckpointError: What to start from is no run with a checkpoint, and no checkpoint.
        """
        recipe = replace(self.recipe, measure=pinned(self.recipe.measure))
        parent = self.init_from
        if parent is not None and not is_pinned(parent):
            path = Path(parent)
            path = open_run(path).checkpoint_path() if path.is_dir() else path
            parent = pinned_checkpoint(path)
        sharing = pinned_sharing(self.sharing)
        return replace(self, recipe=recipe, sharing=sharing, init_from=parent)

    @property
    def supernet_facts(self) -> dict[str, Any]:
        """What determines the supernet besides its macro options, as checkpoints keep it."""
        facts = {"restriction": self.restriction, "sharing": self.sharing}
        return {"space": self.space, **{name: value for name, value in facts.items() if value}}

    def build(self, macro: Mapping[str, Any]) -> Supernet:
        """Return the supernet under macro options, before training.

        Raises:
            ArchError: The list of groups cannot be read.
            CheckpointError: What to start from does not fit.
            OptionError: A value has the wrong type or range, or the supernet cannot share so.
        """
        supernet = build_supernet(
            self.space,
            macro,
            seed=self.seed,
            restriction=self.restriction,
            sharing=self.sharing,
        )
        if self.init_from is not None:
            inherit(supernet, self.init_from, self.supernet_facts)
        return supernet

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration, JSON-clean."""
        return {
            "space": self.space,
            "recipe": self.recipe.as_dict(),
            "data": asdict(self.data),
            "seed": self.seed,
            "restriction": dict(self.restriction),
            "sharing": dict(self.sharing),
            "init_from": self.init_from,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Return the configuration of ``as_dict``."""
        return cls(
            values["space"],
            (TextRecipe if "window" in values["recipe"] else Recipe)(**values["recipe"]),
            DataSpec(**values["data"]),
            int(values["seed"]),
            values.get("restriction", {}),
            values.get("sharing", {}),
            values.get("init_from"),
        )


@dataclass(frozen=True)
class Run:
    """A run's folder and what it was asked to be."""

    path: Path
    config: RunConfig

    @property
    def checkpoint_paths(self) -> list[Path]:
        """All checkpoints, in the order of their steps."""
        return sorted((self.path / "checkpoints").glob("*.safetensors"), key=_step_order)

    def checkpoint_path(self, name: str = "last") -> Path:
        """Return the path of a checkpoint by its name, such as ``epoch-0010``; ``last`` is the newest.

        Raises:
            CheckpointError: The run has no such checkpoint.
        """
        paths = self.checkpoint_paths
        names = [path.stem for path in paths]
        if name == "last" and paths:
            return paths[-1]
        if name not in names:
            known = ", ".join(names) or "none yet"
            raise CheckpointError(f"{self.path} has no checkpoint {name!r}; it has {known}")
        return paths[names.index(name)]

    def facts(self) -> dict[str, Any]:
        """Return name, step, epoch and training loss of the newest checkpoint."""
        path = self.checkpoint_path()
        facts = read_facts(path)
        return {
            "checkpoint": path.stem,
            **{name: facts[name] for name in ("step", "epoch", "loss")},
        }

    def load(self, checkpoint: str = "last") -> tuple[Supernet, Checkpoint]:
        """Return the supernet of a checkpoint and the checkpoint's facts.

        Raises:
            CheckpointError: There is no such checkpoint, or it is unusable.
        """
        return load_supernet(self.checkpoint_path(checkpoint))


def _step_order(path: Path) -> tuple[int, str]:
    return int(read_facts(path)["step"]), path.name


def open_run(path: Path) -> Run:
    """Return the run in a folder.

    Raises:
        CheckpointError: The folder holds no run, or one of a newer format.
    """
    try:
        values = json.loads((path / "run.json").read_text())
        version = int(values["format_version"])
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} holds no run (no run.json); train one with `wsx train`"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path / 'run.json'} is damaged: {error}") from error
    if version > RUN_FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has run format {version}; this wsx reads up to {RUN_FORMAT_VERSION}. Upgrade wsx"
        )
    try:
        known_space(values)
        return Run(path, RunConfig.from_dict(values))
    except (WsxError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path / 'run.json'} is no run of wsx: {error}") from error


def create_run(path: Path, config: RunConfig) -> Run:
    """Return the run in a folder, created if it is not there yet.

    Raises:
        CheckpointError: The folder holds a run with another configuration, whose differences are named, or
            it cannot be written.
    """
    if (path / "run.json").exists():
        run = open_run(path)
        differences = _differences(run.config.as_dict(), config.as_dict())
        if differences:
            raise CheckpointError(
                f"{path} holds another run: {'; '.join(differences)}. Choose another --out or repeat its options"
            )
        return run
    versions = {"wsx": __version__, "torch": torch.__version__, "python": platform.python_version()}
    space = SPACES[config.space]
    own = {**space_facts(space), **space_origin(space)}
    values = {"format_version": RUN_FORMAT_VERSION, **config.as_dict(), **own, "versions": versions}
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "run.json", values)
    except OSError as error:
        raise CheckpointError(f"cannot create a run in {path}: {error}") from error
    return Run(path, config)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file: complete under its name, or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        json.dump(values, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += _differences(a, b, f"{prefix}{name}.")
        elif a != b:
            lines.append(f"{prefix}{name} is {a!r}, not {b!r}")
    return lines
