"""P2's heuristics as switches of a training on NAS-Bench-201, each of which changes one thing.

Definitions follow the code of the first author's follow-up (kcyu2014/nas-landmarkreg); which values the paper
tried is not known to us, and these are ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wsx.errors import OptionError, StudyError, UnknownNameError
from wsx.registry import unknown_name
from wsx.spaces import SPACES
from wsx.studies.papers._base import Settings
from wsx.studies.papers.variants import Variant
from wsx.training.recipes import Recipe
from wsx.training.run import RunConfig

BASELINE = "baseline"
IMPLEMENTATION, FIDELITY = "implementation", "low fidelity"
SAMPLING, HYPERPARAMETERS = "sampling", "hyper-parameters"

Change = Callable[[RunConfig], RunConfig]


@dataclass(frozen=True)
class Switch:
    """One thing to change.

    Attributes:
        family: One of the four that the heuristics fall into.
        label: What it is.
        change: Makes it of the training without it.
        published: What the paper is said to conclude, empty where we do not know.
        against: Name of the switch that it comes on top of, and is compared with.
        bn: BatchNorm mode of scores, where the switch is one of evaluation; nothing is trained for it.
    """

    family: str
    label: str
    change: Change
    published: str = ""
    against: str = BASELINE
    bn: str = ""


def _recipe(**values: Any) -> Change:
    return lambda config: replace(config, recipe=replace(config.recipe, **values))


def _times(name: str, factor: float) -> Change:
    """Return the change of a number of the recipe by a factor."""

    def change(config: RunConfig) -> RunConfig:
        recipe = replace(config.recipe, **{name: _scaled(getattr(config.recipe, name), factor)})
        if name == "epochs":
            # One checkpoint at the end is all that is scored.
            recipe = replace(recipe, checkpoint_epochs=recipe.epochs)
        return replace(config, recipe=recipe)

    return change


def _macro(**options: Any) -> Change:
    return lambda config: replace(config, recipe=_with_macro(config.recipe, options))


def _macro_times(name: str, factor: float) -> Change:
    def change(config: RunConfig) -> RunConfig:
        if name not in config.recipe.supernet:
            raise OptionError(f"the recipe does not say {name}")
        value = _scaled(config.recipe.supernet[name], factor)
        return replace(config, recipe=_with_macro(config.recipe, {name: value}))

    return change


def _data_times(factor: float) -> Change:
    def change(config: RunConfig) -> RunConfig:
        if config.data.n_train is None:
            raise StudyError("a part of the data needs its size; give it by --set data.n_train=N")
        n_train = _scaled(config.data.n_train, factor)
        return replace(config, data=replace(config.data, n_train=n_train))

    return change


def _scaled(value: Any, factor: float) -> Any:
    return max(1, int(value * factor)) if isinstance(value, int) else value * factor


def _with_macro(recipe: Recipe, options: dict[str, Any]) -> Recipe:
    return replace(recipe, supernet={**recipe.supernet, **options})


def _same(config: RunConfig) -> RunConfig:
    return config


_THIRD = "quoted by a third party"
SWITCHES: dict[str, Switch] = {
    "ops-on-node": Switch(IMPLEMENTATION, "ops on node", _macro(shares="node")),
    "ops-on-inner": Switch(
        IMPLEMENTATION, "ops on node but for the cell's input", _macro(shares="inner")
    ),
    "wsbn": Switch(
        IMPLEMENTATION,
        "WSBN (with ops on node)",
        _macro(has_wsbn=True),
        f"negative ({_THIRD})",
        against="ops-on-node",
    ),
    "kernels-centre": Switch(
        IMPLEMENTATION,
        "OFA kernels, centre",
        _macro(kernels="centre"),
        f"can hurt ({_THIRD}, of dynamic convolutions)",
    ),
    "kernels-transform": Switch(
        IMPLEMENTATION,
        "OFA kernels, transformed",
        _macro(kernels="transform"),
        f"can hurt ({_THIRD}, of dynamic convolutions)",
    ),
    "path-dropout": Switch(
        IMPLEMENTATION, "path dropout .2", _recipe(drop_path=0.2), f"can hurt ({_THIRD})"
    ),
    "global-dropout": Switch(IMPLEMENTATION, "global dropout .2", _macro(dropout=0.2)),
    "fewer-cells": Switch(FIDELITY, "half the cells", _macro_times("cells", 0.5)),
    "more-cells": Switch(FIDELITY, "twice the cells", _macro_times("cells", 2)),
    "half-data": Switch(FIDELITY, "half the images", _data_times(0.5)),
    "quarter-data": Switch(FIDELITY, "a quarter of the images", _data_times(0.25)),
    "half-batch": Switch(
        FIDELITY, "half the batch size", _times("batch_size", 0.5), f"matters little ({_THIRD})"
    ),
    "double-batch": Switch(
        FIDELITY, "twice the batch size", _times("batch_size", 2), f"matters little ({_THIRD})"
    ),
    "half-channels": Switch(
        FIDELITY, "half the channels", _macro_times("channels", 0.5), f"matter little ({_THIRD})"
    ),
    "double-channels": Switch(
        FIDELITY, "twice the channels", _macro_times("channels", 2), f"matter little ({_THIRD})"
    ),
    "random-nas": Switch(SAMPLING, "Random-NAS: all encodings alike", _recipe(measure="encodings")),
    "random-a": Switch(
        SAMPLING, "Random-A: all different archs alike", _recipe(measure="functions")
    ),
    "fairnas": Switch(
        SAMPLING, "FairNAS: five archs a step", _recipe(sampler="fair", gradients="sum")
    ),
    "no-affine": Switch(HYPERPARAMETERS, "BN without scale and shift", _macro(is_affine=False)),
    "running-bn": Switch(
        HYPERPARAMETERS,
        "BN statistics tracked in training",
        _same,
        "violates the assumptions of BN (introduction)",
        bn="running",
    ),
    "batch-bn": Switch(HYPERPARAMETERS, "BN statistics of each batch", _same, bn="batch"),
    "third-rate": Switch(
        HYPERPARAMETERS, "learning rate / 3", _times("lr", 1 / 3), f"crucial ({_THIRD})"
    ),
    "triple-rate": Switch(
        HYPERPARAMETERS, "learning rate x 3", _times("lr", 3), f"crucial ({_THIRD})"
    ),
    "half-epochs": Switch(HYPERPARAMETERS, "half the epochs", _times("epochs", 0.5)),
    "double-epochs": Switch(HYPERPARAMETERS, "twice the epochs", _times("epochs", 2)),
    "no-decay": Switch(HYPERPARAMETERS, "no weight decay", _recipe(weight_decay=0.0)),
    "quadruple-decay": Switch(HYPERPARAMETERS, "weight decay x 4", _times("weight_decay", 4)),
}


def variants_of(settings: Settings, names: Sequence[str], eval_batch: int) -> list[Variant]:
    """Return the baseline and one variant for each switch, and for what a switch comes on top of.

    Args:
        settings: Of the baseline.
        names: Of the switches.
        eval_batch: Images per batch where scores depend on it.

    Raises:
        UnknownNameError: There is no such switch.
        StudyError: A switch changes nothing, such as half of one cell, or what the space does not have.
    """
    for name in names:
        if name not in SWITCHES:
            raise unknown_name("switch", name, list(SWITCHES))
    # What tracks can be scored with statistics of any kind; training is the same.
    config = _macro(tracks_statistics=True)(settings.run_config(settings.recipe, settings.seeds[0]))
    wanted = {*names, *(SWITCHES[name].against for name in names)}
    found = {BASELINE: Variant(BASELINE, "baseline", config, settings.bn)}
    for name, switch in SWITCHES.items():
        if name in wanted:
            found[name] = _variant(name, switch, found[switch.against], eval_batch)
    return list(found.values())


def _variant(name: str, switch: Switch, against: Variant, eval_batch: int) -> Variant:
    try:
        config = switch.change(against.config)
    except (OptionError, UnknownNameError) as error:
        raise StudyError(f"switch {name}: {error}; leave it out of --set switches") from None
    if config.recipe.measure not in SPACES[config.space].measures:
        raise StudyError(
            f"switch {name} draws from measure {config.recipe.measure}, which {config.space} does not have; leave "
            "it out of --set switches"
        )
    if switch.bn:
        batch_size = eval_batch if switch.bn == "batch" else None
        return replace(
            against,
            name=name,
            label=switch.label,
            bn=switch.bn,
            batch_size=batch_size,
            trained_as=against.name,
        )
    if config == against.config:
        raise StudyError(
            f"switch {name} ({switch.label}) changes nothing here; leave it out of --set switches"
        )
    return Variant(name, switch.label, config, against.bn)
