import dataclasses
import json
import math

import pytest

from wsx.errors import OptionError, UnknownNameError
from wsx.spaces import SPACES
from wsx.supernets import build_supernet
from wsx.training import RECIPES, DataSpec, Recipe, RunConfig
from wsx.training.sampling import ArchSampler


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


def test_p1_multi_path_on_nasbench201():
    # arXiv 2010.08219, tricks/nb201/multipath.py: K=5 archs a step, gradients summed, 400 epochs, evaluated
    # every 100; all else the defaults of the space, which do not clip.
    recipe, single = RECIPES["p1-nasbench201-multipath"], RECIPES["p1-nasbench201"]
    assert (recipe.epochs, recipe.n_paths, recipe.gradients) == (400, 5, "sum")
    assert (recipe.clip, recipe.checkpoint_epochs) == (0.0, 100)
    changed = {"epochs": 400, "n_paths": 5, "gradients": "sum", "clip": 0.0}
    assert recipe == dataclasses.replace(single, **changed)
    fair = recipe.override({"sampler": "fair"})
    assert (fair.sampler, fair.gradients) == ("fair", "sum")


def test_p1_on_nasbench101():
    # Defaults of the space in the released code, epochs of its README: SGD 0.9 without Nesterov, lr 0.1 to 0,
    # weight decay 1e-4, clip 5, batch 256, BatchNorm momentum .003; multi-path K=3 with 333 epochs.
    recipe = RECIPES["p1-nasbench101"]
    assert recipe.supernet == {
        "channels": 128,
        "stacks": 3,
        "cells_per_stack": 3,
        "bn_momentum": 0.003,
    }
    assert (recipe.epochs, recipe.batch_size, recipe.nesterov) == (1000, 256, False)
    assert (recipe.lr, recipe.lr_min, recipe.weight_decay, recipe.clip) == (0.1, 0.0, 1e-4, 5.0)
    multi = RECIPES["p1-nasbench101-multipath"]
    assert multi == dataclasses.replace(recipe, epochs=333, n_paths=3, gradients="sum")


def test_p1_on_darts():
    # Four processes with 112 images each, lr .025 times four, an arch for each; C=36, 20 cells, auxiliary .4.
    recipe = RECIPES["p1-darts"]
    assert (recipe.n_ranks, recipe.parallel_sampling) == (4, True)
    assert recipe.batch_size == 4 * 112
    assert recipe.lr == 4 * 0.025
    assert (recipe.epochs, recipe.weight_decay, recipe.clip) == (1000, 3e-4, 5.0)
    assert (recipe.cutout, recipe.drop_path, recipe.auxiliary_weight) == (16, 0.2, 0.4)
    assert recipe.supernet == {"channels": 36, "cells": 20, "has_auxiliary": True}


def test_p3_on_cell64():
    # arXiv 2001.01431, section 3.2 and share_all_ep200.yml: 200 epochs, batch 256, lr .025 to .001, momentum .9,
    # weight decay 1e-3, no clipping, no cutout; children in turn; all of the last 128 steps evaluated.
    recipe = RECIPES["p3-cell64"]
    assert (recipe.sampler, recipe.order, recipe.n_paths) == ("round-robin", "fixed", 1)
    assert (recipe.epochs, recipe.batch_size) == (200, 256)
    assert (recipe.lr, recipe.lr_min, recipe.weight_decay) == (0.025, 0.001, 1e-3)
    assert (recipe.momentum, recipe.nesterov, recipe.clip, recipe.cutout) == (0.9, False, 0.0, 0)
    assert (recipe.checkpoint_epochs, recipe.checkpoint_last_steps) == (1, 128)
    assert recipe.supernet == {"channels": 16, "cells": 4, "bn_momentum": 0.4}


@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("p1-nasbench201-multipath", "nasbench201"),
        ("p1-nasbench101-multipath", "nasbench101-1shot1c"),
        ("p1-darts", "darts"),
        ("p3-cell64", "cell64"),
    ],
)
def test_published_recipes_fit_their_space(name, space):
    recipe = RECIPES[name]
    RunConfig(space, recipe, DataSpec("digits"), seed=0)
    assert ArchSampler(SPACES[space], recipe, seed=0)[0]
