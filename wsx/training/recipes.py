"""Recipes: every number of a training, by name, each one overridable.

A recipe holds no default that changes results silently: the run stores the recipe it was trained with,
value by value.
"""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wsx.errors import OptionError
from wsx.registry import Registry, unknown_name
from wsx.training.samplers import SAMPLERS

AUTOCASTS = ("none", "bfloat16")
GRADIENTS = ("mean", "sum")
ORDERS = ("fixed", "shuffled", "reshuffled")

_AT_LEAST_ONE = (
    "epochs",
    "batch_size",
    "n_paths",
    "n_ranks",
    "walk_length",
    "checkpoint_epochs",
)
_NOT_NEGATIVE = (
    "lr",
    "lr_min",
    "warmup_epochs",
    "restart_epochs",
    "weight_decay",
    "clip",
    "order_seed",
    "crop_padding",
    "cutout",
    "auxiliary_weight",
    "brightness",
    "contrast",
    "saturation",
    "checkpoint_steps",
    "checkpoint_last_steps",
)
_BELOW_ONE = ("momentum", "label_smoothing", "drop_path")
_CHOICES = {"autocast": AUTOCASTS, "gradients": GRADIENTS, "order": ORDERS}


@dataclass(frozen=True)
class Recipe:
    """How a supernet, or one subnet alone, is trained with SGD and a cosine schedule.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per step; a last, smaller batch is left out.
        lr: Learning rate at the start of the cosine.
        lr_min: Learning rate at its end.
        warmup_epochs: Epochs over which the rate rises linearly from zero.
        restart_epochs: The cosine starts anew every so many epochs after the warm-up, the last one perhaps cut
            short; 0 for one cosine to the end.
        momentum: Momentum of SGD.
        nesterov: Momentum is Nesterov's; of no effect where momentum is 0.
        weight_decay: L2 coefficient, on every parameter.
        clip: Largest norm of the gradient; 0 does not clip.
        label_smoothing: Share of the target spread over all classes.
        auxiliary_weight: Weight of the auxiliary head's loss, where the supernet has one.
        drop_path: Share of images for which a path is dropped.
        raises_drop_path: That share rises linearly from zero over all steps; otherwise it holds from the first on.
        sampler: What the archs of a step have to do with each other: ``uniform``, ``fair``, ``round-robin``,
            ``sandwich`` or ``gradual``; see ``wsx.training.samplers``.
        measure: What archs are drawn from, or visited in turn: a measure of the space, or ``list:PATH``.
        n_paths: Archs per step; ``sandwich`` adds its two to them, ``fair`` decides by itself.
        gradients: Whether an update follows the ``mean`` of the gradients of a step's archs, or their ``sum``,
            as in FairNAS, P1 and P2. Clipping comes after either.
        fair_decisions: Sampler ``fair`` is so to decisions whose names begin with this; empty for all.
        order: Sampler ``round-robin`` visits archs as listed (``fixed``), in one shuffled order
            (``shuffled``), or in one of its own for each pass (``reshuffled``).
        order_seed: Tells shuffled orders of one run seed apart.
        walk_length: Archs of a walk of sampler ``gradual``, until the next walk starts elsewhere.
        distills: Sampler ``sandwich`` trains the largest arch on labels and all others on its predictions
            (in-place distillation, BigNAS).
        n_ranks: Equal parts that a batch is cut into, as if each were one process's: BatchNorm sees one at a
            time, and gradients are averaged over them.
        parallel_sampling: Each rank draws archs of its own (P1); otherwise all have the same.
        crop_padding: Zero pixels around an image before a random crop of its own size.
        crop_area: Smallest share of a photograph's area in a random resized crop, which then takes the place
            of the padded one; 0 for none.
        crop_ratio: Largest ratio of the sides of a random resized crop, either way.
        cutout: Side in pixels of the square set to the mean; 0 cuts nothing.
        flips: Mirror images at random.
        brightness: Images are multiplied by up to so much more or less than 1.
        contrast: Likewise, of differences to an image's mean grey.
        saturation: Likewise, of differences to a pixel's grey.
        channels_last: Memory layout of images and weights.
        autocast: Precision of the forward pass, ``none`` or ``bfloat16``.
        checkpoint_epochs: A checkpoint every so many epochs, besides the last.
        checkpoint_steps: A checkpoint every so many steps as well; 0 for none.
        checkpoint_last_steps: A checkpoint after each of the last so many steps as well; 0 for none.
        supernet: Macro options that the recipe sets, by name.
    """

    epochs: int = 50
    batch_size: int = 128
    lr: float = 0.05
    lr_min: float = 0.0
    warmup_epochs: float = 0.0
    restart_epochs: int = 0
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    clip: float = 5.0
    label_smoothing: float = 0.0
    auxiliary_weight: float = 0.4
    drop_path: float = 0.0
    raises_drop_path: bool = True
    sampler: str = "uniform"
    measure: str = "encodings"
    n_paths: int = 1
    gradients: str = "mean"
    fair_decisions: str = ""
    order: str = "fixed"
    order_seed: int = 0
    walk_length: int = 1000
    distills: bool = False
    n_ranks: int = 1
    parallel_sampling: bool = False
    crop_padding: int = 4
    crop_area: float = 0.0
    crop_ratio: float = 4 / 3
    cutout: int = 0
    flips: bool = True
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    channels_last: bool = True
    autocast: str = "none"
    checkpoint_epochs: int = 10
    checkpoint_steps: int = 0
    checkpoint_last_steps: int = 0
    supernet: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            OptionError: The first value that is out of range, with the range.
        """
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in _NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < float("inf"):
                raise OptionError(
                    f"{name} is {getattr(self, name)}; it must be finite and not negative"
                )
        for name in _BELOW_ONE:
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must lie in [0, 1)")
        if not (0 <= self.crop_area <= 1 and 1 <= self.crop_ratio < float("inf")):
            raise OptionError(
                f"crop_area is {self.crop_area} and crop_ratio {self.crop_ratio}; they must lie in [0, 1] and "
                "be at least 1"
            )
        for name, choices in {**_CHOICES, "sampler": tuple(SAMPLERS)}.items():
            if getattr(self, name) not in choices:
                raise unknown_name(name, getattr(self, name), list(choices))
        self._check_ranks_and_teacher()

    def _check_ranks_and_teacher(self) -> None:
        if self.batch_size % self.n_ranks:
            raise OptionError(
                f"batch_size is {self.batch_size}, which {self.n_ranks} ranks (n_ranks) cannot share equally"
            )
        if self.parallel_sampling and self.n_ranks == 1:
            raise OptionError("parallel_sampling needs ranks to sample; set n_ranks to at least 2")
        if self.distills and self.sampler != "sandwich":
            raise OptionError(
                f"distills needs a largest arch to learn from, which sampler {self.sampler} does not train; "
                "use sampler sandwich"
            )

    @property
    def n_drawing_ranks(self) -> int:
        """Ranks that draw archs of their own."""
        return self.n_ranks if self.parallel_sampling else 1

    @property
    def has_one_arch_per_step(self) -> bool:
        """Whether each step visits just one arch, with the whole batch."""
        is_one = SAMPLERS[self.sampler].has_an_arch_per_path and self.n_paths == 1
        return is_one and self.n_ranks == 1

    def as_dict(self) -> dict[str, Any]:
        """Return all values, JSON-clean; ``Recipe(**values)`` gives the recipe back."""
        return {**dataclasses.asdict(self), "supernet": dict(self.supernet)}

    def override(self, settings: Mapping[str, str]) -> "Recipe":
        """Return the recipe with values parsed from text, such as ``{"lr": "0.05"}``.

        A name that is no field of the recipe is taken as a macro option of the supernet.

        Raises:
            OptionError: A text does not parse as the field's type, or its value is out of range.
        """
        kinds = typing.get_type_hints(type(self))
        own: dict[str, Any] = {}
        macro = dict(self.supernet)
        for name, text in settings.items():
            if name in kinds and name != "supernet":
                own[name] = parse_value(name, text, kinds[name])
            else:
                macro[name] = parse_macro(text)
        return dataclasses.replace(self, **own, supernet=macro)


def parse_value(name: str, text: str, kind: type) -> Any:
    """Return the value of a text under a field's type.

    Raises:
        OptionError: The text is not of that type.
    """
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in words:
            raise OptionError(f"{name} is {text!r}; it must be true or false")
        return words[text.lower()]
    try:
        return kind(text)
    except ValueError:
        raise OptionError(f"{name} is {text!r}; it must be of type {kind.__name__}") from None


def parse_macro(text: str) -> Any:
    """Return a macro option's text as a bool, an int, a float or itself, whichever fits first."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


RECIPES: Registry[Recipe] = Registry("recipe")
