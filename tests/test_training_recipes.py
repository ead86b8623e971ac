import dataclasses
import json
import math

import pytest

from wsx.errors import OptionError, UnknownNameError
from wsx.supernets import build_supernet
from wsx.training.recipes import RECIPES, Recipe


def test_overrides_take_the_type_of_their_field():
    recipe = Recipe().override(
        {
            "epochs": "7",
            "lr": "1",
            "weight_decay": "1e-4",
            "flips": "no",
            "channels_last": "FALSE",
            "sampler": "fair",
            "autocast": "bfloat16",
        }
    )
    assert recipe == dataclasses.replace(
        Recipe(),
        epochs=7,
        lr=1.0,
        weight_decay=1e-4,
        flips=False,
        channels_last=False,
        sampler="fair",
        autocast="bfloat16",
    )
    assert type(recipe.epochs) is int
    assert type(recipe.lr) is float


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("Yes", True), ("1", True), ("0", False)]
)
def test_booleans(text, value):
    assert Recipe().override({"flips": text}).flips is value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("epochs", "3.5", "epochs is '3.5'; it must be of type int"),
        ("epochs", "", "epochs is ''"),
        ("lr", "fast", "lr is 'fast'; it must be of type float"),
        ("flips", "maybe", "flips is 'maybe'; it must be true or false"),
        ("flips", "", "flips is ''"),
    ],
)
def test_texts_of_another_type_are_refused(name, text, message):
    with pytest.raises(OptionError, match=message):
        Recipe().override({name: text})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, "0") for name in ("epochs", "batch_size", "n_paths", "checkpoint_epochs")),
        *((name, "-1") for name in ("epochs", "batch_size", "cutout", "checkpoint_steps")),
        *(
            (name, text)
            for name in ("lr", "lr_min", "warmup_epochs", "weight_decay", "clip")
            for text in ("-0.1", "nan", "inf", "-inf", "1e999")
        ),
        ("crop_padding", "-1"),
        *(
            (name, text)
            for name in ("momentum", "label_smoothing")
            for text in ("1", "-0.1", "nan", "inf", "1.5")
        ),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, text):
    with pytest.raises(OptionError, match=name):
        Recipe().override({name: text})


@pytest.mark.parametrize(
    ("name", "text", "suggestion"),
    [("sampler", "unifrom", "uniform"), ("autocast", "bfloat", "bfloat16")],
)
def test_unknown_choices_suggest(name, text, suggestion):
    with pytest.raises(UnknownNameError, match=f"Did you mean {suggestion}"):
        Recipe().override({name: text})


def test_other_names_are_macro_options():
    recipe = Recipe(supernet={"channels": 8, "cells": 1}).override(
        {"cells": "3", "is_affine": "False", "width": "1.5", "kind": "wide"}
    )
    assert recipe.supernet == {
        "channels": 8,
        "cells": 3,
        "is_affine": False,
        "width": 1.5,
        "kind": "wide",
    }
    assert type(recipe.supernet["cells"]) is int


def test_overriding_leaves_the_recipe_as_it_was():
    before = RECIPES["digits"].as_dict()
    RECIPES["digits"].override({"channels": "32", "lr": "1"})
    assert RECIPES["digits"].as_dict() == before


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"channel": "4"},
            UnknownNameError,
            "no supernet option named 'channel'.*Did you mean channels",
        ),
        ({"supernet": "4"}, UnknownNameError, "no supernet option named 'supernet'"),
        ({"channels": "4.5"}, OptionError, "channels is 4.5; it must be of type int"),
        ({"channels": "nan"}, OptionError, "channels is nan"),
        ({"channels": "0"}, OptionError, "channels is 0; it must be at least 1"),
        ({"cells": "-2"}, OptionError, "cells is -2"),
        ({"is_affine": "1"}, OptionError, "is_affine is 1; it must be of type bool"),
        ({"cells": "true"}, OptionError, "cells is True; it must be of type int"),
    ],
)
def test_macro_options_are_checked_when_the_supernet_is_built(settings, error, message):
    recipe = Recipe().override(settings)
    with pytest.raises(error, match=message):
        build_supernet("nasbench201", recipe.supernet, seed=0)


def test_every_field_survives_json():
    assert {"default", "digits", "digits-standalone", "p1-nasbench201", "p2-nasbench201"} <= set(
        RECIPES
    )
    for recipe in RECIPES.values():
        values = json.loads(json.dumps(recipe.as_dict(), allow_nan=False))
        assert set(values) == {field.name for field in dataclasses.fields(recipe)}
        assert type(recipe)(**values) == recipe


def test_as_dict_shares_nothing_with_the_recipe():
    recipe = Recipe(supernet={"channels": 4})
    recipe.as_dict()["supernet"]["channels"] = 9
    assert recipe.supernet == {"channels": 4}


def test_p1_on_nasbench201():
    # arXiv 2010.08219, released code (config defaults and README): C=16, N=5; SGD nesterov 0.9, lr 0.1,
    # cosine to 0 per step, weight decay 5e-4, batch 256, clip 5 and 1000 epochs as in the README;
    # only archs with a reachable output; BatchNorm affine; pad-4 crops and flips, no cutout.
    recipe = RECIPES["p1-nasbench201"]
    assert recipe.supernet == {"channels": 16, "cells": 5}
    assert (recipe.momentum, recipe.lr, recipe.lr_min) == (0.9, 0.1, 0.0)
    assert (recipe.weight_decay, recipe.batch_size, recipe.clip) == (5e-4, 256, 5.0)
    assert (recipe.epochs, recipe.warmup_epochs) == (1000, 0.0)
    assert (recipe.sampler, recipe.measure, recipe.n_paths) == ("uniform", "reachable", 1)
    assert (recipe.crop_padding, recipe.flips, recipe.cutout) == (4, True, 0)
    assert (recipe.label_smoothing, recipe.autocast) == (0.0, "none")
    assert build_supernet("nasbench201", {"cells": 1}, seed=0).options.is_affine


def test_p2_on_nasbench201():
    # arXiv 2110.01154, its authors' follow-up code: C=16, N=5, 400 epochs, batch 256, lr 0.025 cosine to
    # 0.001, momentum 0.9, weight decay 5e-4, clip 5, no cutout, one uniform path per mini-batch over all
    # 15,625 encodings; BatchNorm affine without running statistics (wsbn_track_stat False).
    recipe = RECIPES["p2-nasbench201"]
    assert recipe.supernet == {"channels": 16, "cells": 5, "tracks_statistics": False}
    assert (recipe.momentum, recipe.lr, recipe.lr_min) == (0.9, 0.025, 0.001)
    assert (recipe.weight_decay, recipe.batch_size, recipe.clip) == (5e-4, 256, 5.0)
    assert recipe.epochs == 400
    assert (recipe.sampler, recipe.measure, recipe.n_paths) == ("uniform", "encodings", 1)
    assert recipe.cutout == 0
    assert not any(math.isnan(v) for v in recipe.as_dict().values() if isinstance(v, float))
