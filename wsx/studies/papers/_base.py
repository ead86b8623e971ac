"""What a study of a paper is: settings at three scales, steps that make its data, findings from what they made."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from wsx.registry import Registry, unknown_name
from wsx.report.findings import Findings
from wsx.spaces import SPACES
from wsx.spaces.restricted import parse_restriction
from wsx.training.recipes import Recipe, parse_value
from wsx.training.run import DataSpec, RunConfig

SCALES = ("tiny", "small", "paper")
Update = Callable[[int, int, str], None]
"""Told of progress within a step: done, in all, a note."""


@dataclass(frozen=True)
class Work:
    """What a step costs, for the plan.

    Attributes:
        n_trainings: Supernets or subnets trained.
        n_train_images: Forward and backward passes of one image each, over all of them.
        n_scores: Subnets scored.
        n_scored_images: Forward passes of one image each, calibration included, over all of them.
        seconds_per_train_image: Measured on this machine, or None where nothing is trained.
        seconds_per_scored_image: Likewise of scores.
    """

    n_trainings: int = 0
    n_train_images: int = 0
    n_scores: int = 0
    n_scored_images: int = 0
    seconds_per_train_image: float | None = None
    seconds_per_scored_image: float | None = None

    @property
    def seconds(self) -> float:
        """Estimated time."""
        return self.n_train_images * (self.seconds_per_train_image or 0) + self.n_scored_images * (
            self.seconds_per_scored_image or 0
        )


@dataclass(frozen=True)
class Machine:
    """Where work is done; changes no result but for what GPUs round.

    Attributes:
        torch_device: Trains supernets.
        device: Scores subnets, as ``--device`` takes it.
        n_workers: Processes that train subnets alone; None takes all cores.
    """

    torch_device: str = "cpu"
    device: str = "auto"
    n_workers: int | None = None


class Step(abc.ABC):
    """One piece of a study's work; run twice it goes on where it stopped, and then does nothing.

    Attributes:
        name: Unique within the study; what it makes lies under that name.
    """

    name: str

    @abc.abstractmethod
    def work(self) -> Work:
        """Return what the step costs."""

    @abc.abstractmethod
    def run(self, folder: Path, machine: "Machine", update: Update) -> None:
        """Do the work.

        Raises:
            WsxError: It cannot be done; what was finished is kept.
        """


@dataclass(frozen=True)
class Settings:
    """The numbers of a study at one scale.

    Attributes:
        space: Name of the space.
        restriction: Options that decisions may take, as ``--restrict`` takes them; all archs that are left count.
        data: Which images.
        recipe: Of the supernets; studies change what they study.
        seeds: One training each.
        bn: BatchNorm mode of scores.
        n_images: Images that scores are taken on; 0 for all of the test split.
        truth: Where stand-alone accuracies come from, as ``--truth`` takes it; empty where the study makes them.
    """

    space: str
    data: DataSpec
    recipe: Recipe = field(default_factory=Recipe)
    seeds: tuple[int, ...] = (0,)
    bn: str = "calibrated:4x256"
    n_images: int = 0
    truth: str = ""
    restriction: tuple[str, ...] = ()

    def run_config(self, recipe: Recipe, seed: int, **others: Any) -> RunConfig:
        """Return a training in the study's space on its data."""
        restriction = parse_restriction(self.restriction, SPACES[self.space])
        return RunConfig(self.space, recipe, self.data, seed, restriction, **others)

    def override(self, values: Mapping[str, str]) -> Self:
        """Return the settings with values parsed from text; ``recipe.lr`` and ``data.n_train`` reach inside.

        Raises:
            OptionError: There is no such setting, or a text does not parse as its type.
        """
        own: dict[str, Any] = {}
        recipe: dict[str, str] = {}
        data: dict[str, Any] = {}
        names = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        for name, text in values.items():
            head, _, rest = name.partition(".")
            if head == "recipe" and rest:
                recipe[rest] = text
            elif head == "data" and rest:
                data[rest] = text if rest == "spec" else parse_value(name, text, int)
            elif head in names and not rest and head not in ("recipe", "data"):
                own[head] = _parsed(head, text, names[head])
            else:
                known = [*(n for n in names if n not in ("recipe", "data")), "recipe.*", "data.*"]
                raise unknown_name("setting", name, known)
        try:
            changed = dataclasses.replace(self.data, **data)
        except TypeError:
            raise unknown_name(
                "setting",
                f"data.{next(iter(data))}",
                [f.name for f in dataclasses.fields(DataSpec)],
            ) from None
        return dataclasses.replace(self, **own, recipe=self.recipe.override(recipe), data=changed)

    def as_dict(self) -> dict[str, Any]:
        """Return all values, JSON-clean."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {**values, "recipe": self.recipe.as_dict(), "data": dataclasses.asdict(self.data)}


def _parsed(name: str, text: str, now: Any) -> Any:
    if isinstance(now, tuple):
        kind = type(now[0]) if now else str
        return tuple(parse_value(name, part.strip(), kind) for part in text.split(","))
    return parse_value(name, text, type(now))


class Study(abc.ABC):
    """One experiment of a paper, thin over the library.

    **Steps.** ``steps`` gives all work in order; nothing else is computed at length.

    **Findings.** ``findings`` reads what the steps made, and may be asked again at any time.
    """

    paper: ClassVar[str]
    """Where it comes from, such as ``arXiv 2001.01431, section 4.1``."""
    summary: ClassVar[str]
    """What it asks, in one line."""
    starts_from: ClassVar[str | None] = None
    """Name of the recipe that ``paper`` starts from, of a study that makes sense in other spaces, too."""

    @abc.abstractmethod
    def settings(self, scale: str) -> Settings:
        """Return the numbers of a scale."""

    @abc.abstractmethod
    def steps(self, settings: Any, folder: Path) -> Sequence[Step]:
        """Return the work, in the order in which it has to be done."""

    @abc.abstractmethod
    def findings(self, settings: Any, folder: Path) -> Findings:
        """Return what came out.

        Raises:
            WsxError: Steps are missing.
        """


STUDIES: Registry[Study] = Registry("study")
