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

AUTOCASTS = ("none", "bfloat16")
SAMPLERS = ("uniform", "fair")


@dataclass(frozen=True)
class Recipe:
    """How a supernet, or one subnet alone, is trained with SGD and a cosine schedule.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per step; a last, smaller batch is left out.
        lr: Learning rate at the start of the cosine.
        lr_min: Learning rate at its end.
        warmup_epochs: Epochs over which the rate rises linearly from zero.
        momentum: Momentum of SGD.
        nesterov: Momentum is Nesterov's; of no effect where momentum is 0.
        weight_decay: L2 coefficient, on every parameter.
        clip: Largest norm of the gradient; 0 does not clip.
        label_smoothing: Share of the target spread over all classes.
        auxiliary_weight: Weight of the auxiliary head's loss, where the supernet has one.
        drop_path: Share of images for which a path is dropped, at the end of its linear ramp from zero.
        sampler: ``uniform`` draws archs independently; ``fair`` draws for every decision a
            permutation of its options, so that a step uses each option once (FairNAS).
        measure: What the uniform sampler is uniform over: a measure of the space, or ``list:PATH``.
        n_paths: Archs per step under the uniform sampler; their gradients are averaged.
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
        supernet: Macro options that the recipe sets, by name.
    """

    epochs: int = 50
    batch_size: int = 128
    lr: float = 0.05
    lr_min: float = 0.0
    warmup_epochs: float = 0.0
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    clip: float = 5.0
    label_smoothing: float = 0.0
    auxiliary_weight: float = 0.4
    drop_path: float = 0.0
    sampler: str = "uniform"
    measure: str = "encodings"
    n_paths: int = 1
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
    supernet: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            OptionError: The first value that is out of range, with the range.
        """
        for name in ("epochs", "batch_size", "n_paths", "checkpoint_epochs"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in (
            "lr",
            "lr_min",
            "warmup_epochs",
            "weight_decay",
            "clip",
            "crop_padding",
            "auxiliary_weight",
            "brightness",
            "contrast",
            "saturation",
        ):
            if not 0 <= getattr(self, name) < float("inf"):
                raise OptionError(
                    f"{name} is {getattr(self, name)}; it must be finite and not negative"
                )
        for name in ("momentum", "label_smoothing", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must lie in [0, 1)")
        if not (0 <= self.crop_area <= 1 and 1 <= self.crop_ratio < float("inf")):
            raise OptionError(
                f"crop_area is {self.crop_area} and crop_ratio {self.crop_ratio}; they must lie in [0, 1] and "
                "be at least 1"
            )
        if min(self.cutout, self.checkpoint_steps) < 0:
            raise OptionError("cutout and checkpoint_steps must not be negative")
        if self.autocast not in AUTOCASTS:
            raise unknown_name("autocast", self.autocast, list(AUTOCASTS))
        if self.sampler not in SAMPLERS:
            raise unknown_name("sampler", self.sampler, list(SAMPLERS))

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

RECIPES.register("default")(Recipe())

# A supernet on the embedded digits in under a minute on two cores.
RECIPES.register("digits")(
    Recipe(
        epochs=60,
        batch_size=64,
        lr=0.1,
        measure="reachable",
        crop_padding=1,
        flips=False,
        checkpoint_epochs=20,
        supernet={"channels": 8, "cells": 1},
    )
)

# The same digits, one subnet alone. So short because longer trainings all end near 98 % and differ by
# the noise of their seeds: two seeds agree with tau .44 after 5 epochs and .25 after 12 (24 archs each).
RECIPES.register("digits-standalone")(
    Recipe(
        epochs=5,
        batch_size=32,
        lr=0.1,
        measure="reachable",
        crop_padding=1,
        flips=False,
        supernet={"channels": 8, "cells": 1},
    )
)

# CIFAR-10 at 16 pixels a side in ten minutes on two cores, see benchmarks/nasbench201_cifar10.py. Longer and wider
# trainings reached higher accuracies and ranked archs no better, see the README for figures.
RECIPES.register("cifar10-two-cores")(
    Recipe(
        epochs=25,
        batch_size=128,
        lr=0.1,
        measure="reachable",
        crop_padding=2,
        supernet={"channels": 8, "cells": 1},
    )
)

# P1 (arXiv 2010.08219) on NAS-Bench-201, values of its released code.
RECIPES.register("p1-nasbench201")(
    Recipe(
        epochs=1000,
        batch_size=256,
        lr=0.1,
        weight_decay=5e-4,
        clip=5.0,
        measure="reachable",
        checkpoint_epochs=100,
        supernet={"channels": 16, "cells": 5},
    )
)

# P2 (arXiv 2110.01154) on NAS-Bench-201, values of its authors' follow-up code. Half of the training images
# validate there: give --n-train 25000 --n-valid 25000 with CIFAR-10.
RECIPES.register("p2-nasbench201")(
    Recipe(
        epochs=400,
        batch_size=256,
        lr=0.025,
        lr_min=0.001,
        weight_decay=5e-4,
        clip=5.0,
        measure="encodings",
        checkpoint_epochs=50,
        supernet={"channels": 16, "cells": 5, "tracks_statistics": False},
    )
)

# P1 on ProxylessNAS with ImageNet at 224 pixels, values of its released code for one of its eight processes;
# with all eight, batch_size=1024 and lr=0.2. Not carried over: the other classes share its smoothing of 0.1,
# contrast turns about mid-grey, and hues turn by up to a degree.
RECIPES.register("p1-proxylessnas")(
    Recipe(
        epochs=1000,
        batch_size=128,
        lr=0.025,
        warmup_epochs=5,
        nesterov=False,
        weight_decay=5e-5,
        clip=0.0,
        label_smoothing=0.1,
        crop_area=0.08,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        checkpoint_epochs=50,
        supernet={"width_percent": 135},
    )
)

# NAS-Bench-Macro with CIFAR-10: the benchmark's own values for a subnet alone (arXiv 2103.11922 and its code),
# and ours for the supernet, which differ by four times the epochs.
_MACRO = Recipe(
    batch_size=256, lr=0.1, nesterov=False, weight_decay=5e-4, clip=0.0, supernet={"channels": 32}
)
RECIPES.register("macro-standalone")(_MACRO)
RECIPES.register("macro")(dataclasses.replace(_MACRO, epochs=200, clip=5.0, checkpoint_epochs=50))

# A narrow ProxylessNAS on a folder of some hundred photographs, to see that all runs: minutes on two cores at
# 64 pixels. Ours, and too short to rank anything.
RECIPES.register("photos-smoke")(
    Recipe(
        epochs=4,
        batch_size=32,
        lr=0.05,
        label_smoothing=0.1,
        crop_area=0.25,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        checkpoint_epochs=2,
        supernet={"width_percent": 25},
    )
)
