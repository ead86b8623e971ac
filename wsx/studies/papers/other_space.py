"""A study in another space than its own: that space's macro options, and under ``paper`` its published recipe."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from wsx.errors import OptionError, StudyError
from wsx.spaces import SPACES
from wsx.studies.papers._base import SCALES, Settings, Study
from wsx.supernets import SUPERNETS
from wsx.training import RECIPES
from wsx.training.recipes import Recipe
from wsx.truth.load import packaged_tables

# The recipe of a space, by its supernet: P1's where it has one, otherwise that of the space's own source.
_PUBLISHED = {
    "nasbench101": "p1-nasbench101",
    "nasbench201": "p1-nasbench201",
    "darts": "p1-darts",
    "proxylessnas": "p1-proxylessnas",
    "nasbenchmacro": "macro",
    "cell64": "p3-cell64",
}
# Macro options for seconds and for minutes; what is not said is the supernet's default.
_NARROW: dict[str, dict[str, dict[str, Any]]] = {
    "nasbench101": {
        "tiny": {"channels": 8, "stacks": 2, "cells_per_stack": 1},
        "small": {"channels": 16, "stacks": 3, "cells_per_stack": 1},
    },
    "nasbench201": {"tiny": {"channels": 4, "cells": 1}, "small": {"channels": 8, "cells": 1}},
    "darts": {"tiny": {"channels": 4, "cells": 3}, "small": {"channels": 8, "cells": 5}},
    "proxylessnas": {"tiny": {"width_percent": 10}, "small": {"width_percent": 25}},
    "nasbenchmacro": {"tiny": {"channels": 4}, "small": {"channels": 8}},
    "cell64": {"tiny": {"channels": 2, "cells": 1}, "small": {"channels": 8, "cells": 2}},
}


def settings_of(study: Study, scale: str, values: Mapping[str, str]) -> Settings:
    """Return a study's settings at a scale, in the space asked for, with overrides.

    Raises:
        OptionError: There is no such scale, or an override is wrong.
        StudyError: The study cannot be made in that space.
        UnknownNameError: There is no such space or setting.
    """
    if scale not in SCALES:
        raise OptionError(f"scale {scale!r} is none of: {', '.join(SCALES)}")
    settings = study.settings(scale)
    space = values.get("space", settings.space)
    if space != settings.space:
        settings = moved(study, settings, scale, space)
    return settings.override(values)


def moved(study: Study, settings: Settings, scale: str, space: str) -> Settings:
    """Return a study's settings at a scale for another space, before overrides.

    Its truth is the packaged one on the study's data, if there is one. What a study changes of the recipe that it
    starts from, such as the number of epochs, stays; macro options never do.

    Raises:
        UnknownNameError: There is no such space.
        StudyError: The study is tied to its own space, or nothing is known of the other one.
    """
    other = SPACES[space]
    if settings.restriction:
        raise StudyError(
            f"this scale restricts archs of {settings.space}, which {space} does not have; take another scale, or "
            f"leave --set space out"
        )
    if study.starts_from is None:
        raise StudyError(f"this study is about {settings.space} alone; leave --set space out")
    if SUPERNETS[other.supernet].reads_text:
        raise StudyError(
            f"{space} reads text, and the study trains on images; choose another space"
        )
    if other.supernet not in _PUBLISHED:
        raise StudyError(
            f"no recipe is known for {space}; train and score it by wsx train and wsx evaluate"
        )
    recipe = _recipe(study.starts_from, settings.recipe, other.supernet, scale)
    if recipe.measure not in other.measures:
        recipe = replace(recipe, measure="encodings")
    packaged = f"{settings.data.spec}-{space}"
    truth = packaged if packaged in packaged_tables() else ""
    return replace(settings, space=space, recipe=recipe, truth=truth)


def _recipe(starts_from: str, now: Recipe, supernet: str, scale: str) -> Recipe:
    if scale != "paper":
        return replace(now, supernet=dict(_NARROW[supernet][scale]))
    before = RECIPES[starts_from]
    names = [one.name for one in fields(Recipe) if one.name != "supernet"]
    # Which checkpoints there are is the study's business, as it scores them.
    changed = {
        n: getattr(now, n)
        for n in names
        if n.startswith("checkpoint") or getattr(now, n) != getattr(before, n)
    }
    return replace(RECIPES[_PUBLISHED[supernet]], **changed)
