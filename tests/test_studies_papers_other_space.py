"""Studies in other spaces than their own: that space's options and recipe, and refusals that say what to do."""

from dataclasses import replace

import numpy as np
import pytest
from study_runs import run_twice

from wsx.errors import StudyError, UnknownNameError
from wsx.spaces import SPACES
from wsx.studies.papers import SCALES, STUDIES, make_plan, settings_of
from wsx.training import RECIPES
from wsx.training.run import DataSpec
from wsx.training.supernet import supernet_options

MOVABLE = [name for name, study in STUDIES.items() if study.starts_from]
OTHERS = ["nasbench101-1shot1c", "darts", "proxylessnas", "nasbenchmacro", "cell64"]


def in_space(name, scale, space, **values):
    return settings_of(STUDIES[name], scale, {"space": space, **values})


def test_which_studies_move():
    assert set(MOVABLE) == {
        *("correlation", "restarts", "multipath", "folds", "oracle"),
        *("heuristics", "learning-rate", "batchnorm", "random-search", "metrics"),
    }


@pytest.mark.parametrize("space", OTHERS)
@pytest.mark.parametrize("scale", SCALES)
def test_the_supernet_of_the_other_space_can_be_built(space, scale):
    settings = in_space("correlation", scale, space)
    config = settings.run_config(settings.recipe, 0)
    assert config.recipe.measure in SPACES[space].measures
    # The narrow ones only: those of papers take seconds each.
    if scale == "tiny":
        supernet = config.build(supernet_options(config.recipe, (1, 1, 8, 8), 10))
        assert supernet.space.name == space


def test_the_studys_numbers_stay_and_macro_options_do_not():
    own = STUDIES["correlation"].settings("small")
    moved = in_space("correlation", "small", "nasbench101-1shot1c")
    macro = {"channels": 16, "stacks": 3, "cells_per_stack": 1}
    recipe = replace(own.recipe, measure="encodings", supernet=macro)
    assert moved == replace(own, space="nasbench101-1shot1c", recipe=recipe)


def test_paper_takes_the_spaces_recipe_and_keeps_what_the_study_changes():
    moved = in_space("oracle", "paper", "nasbench101-1shot1c")
    assert moved.recipe == replace(RECIPES["p1-nasbench101"], epochs=2_000, lr=0.05)
    moved = in_space("correlation", "paper", "proxylessnas")
    changes = {"epochs": 2_000, "checkpoint_epochs": 100}
    assert moved.recipe == replace(RECIPES["p1-proxylessnas"], **changes)
    # Checkpoints of single steps are of P3's studies, and no other would score them.
    cell64 = in_space("restarts", "paper", "cell64").recipe
    assert (cell64.checkpoint_last_steps, cell64.checkpoint_epochs) == (0, 100)
    assert cell64.sampler == "round-robin"


def test_overrides_come_last():
    moved = in_space(
        "correlation",
        "tiny",
        "cell64",
        **{"recipe.channels": "3", "truth": "mine.csv", "recipe.lr": "0.7"},
    )
    assert moved.recipe.supernet == {"channels": 3, "cells": 1}
    assert (moved.truth, moved.recipe.lr) == ("mine.csv", 0.7)


def test_truth_is_the_packaged_one_on_the_same_images_or_has_to_be_given():
    assert in_space("correlation", "tiny", "cell64").truth == "digits-cell64"
    assert in_space("correlation", "small", "cell64").truth == ""
    missing = in_space("correlation", "tiny", "darts")
    with pytest.raises(StudyError, match="--set truth=PATH"):
        STUDIES["correlation"].steps(missing, None)


def test_its_own_space_changes_nothing():
    assert in_space("correlation", "paper", "nasbench201") == STUDIES["correlation"].settings(
        "paper"
    )


@pytest.mark.parametrize(
    ("name", "scale", "space", "error", "message"),
    [
        ("correlation", "tiny", "nasbench102", UnknownNameError, "nasbench101"),
        ("correlation", "tiny", "darts-ptb", StudyError, "darts-ptb reads text"),
        ("epochs", "small", "nasbench201", StudyError, "cell64 alone; leave --set space out"),
        ("random-search", "tiny", "cell64", StudyError, "take another scale"),
    ],
)
def test_what_makes_no_sense_is_refused(name, scale, space, error, message):
    with pytest.raises(error, match=message):
        in_space(name, scale, space)


@pytest.mark.parametrize(
    ("space", "switch", "message"),
    [
        ("nasbench101-1shot1c", "ops-on-node", "named 'shares'.*leave it out of --set switches"),
        ("nasbench101-1shot1c", "more-cells", "does not say cells; leave it out of --set switches"),
        ("proxylessnas", "half-channels", "does not say channels; leave it out"),
        ("cell64", "random-a", "measure functions, which cell64 does not have; leave it out"),
    ],
)
def test_switches_that_a_space_does_not_have_are_refused_by_name(space, switch, message, tmp_path):
    settings = in_space(
        "heuristics",
        "tiny",
        space,
        switches=f"third-rate,{switch}",
        truth=truth_of(space, tmp_path),
    )
    with pytest.raises(StudyError, match=f"switch {switch}.*{message}"):
        STUDIES["heuristics"].steps(settings, None)


def truth_of(space, folder):
    """Write a table of 60 archs with made-up accuracies, and return its path."""
    rng = np.random.default_rng(0)
    drawn = SPACES[space].sample(60, rng=rng, measure="encodings")
    archs = [SPACES[space].format(arch) for arch in drawn]
    rows = [f'"{arch}",{rng.uniform(0.5, 0.9):.4f}' for arch in dict.fromkeys(archs)]
    path = folder / "truth.csv"
    path.write_text("\n".join(["arch,accuracy", *rows]))
    return str(path)


@pytest.mark.parametrize("space", ["nasbench101-1shot1c", "proxylessnas"])
@pytest.mark.parametrize("name", ["correlation", "restarts", "learning-rate", "batchnorm"])
def test_other_spaces_can_be_planned(name, space, tmp_path):
    truth = truth_of(space, tmp_path)
    settings = in_space(name, "tiny", space, truth=truth)
    assert settings.data == DataSpec("digits", n_train=128, n_valid=100, n_test=128)
    steps = STUDIES[name].steps(settings, tmp_path)
    plan = make_plan(steps, tmp_path)
    assert len(plan) == len(steps) > 1


@pytest.mark.slow
def test_correlation_runs_in_another_space(tmp_path, capsys):
    found, weights = run_twice("correlation", tmp_path / "out", capsys, "space=cell64")
    assert found["facts"]["space"] == "cell64"
    assert found["facts"]["truth"] == "digits-cell64"
    assert found["facts"]["recipe"]["supernet"] == {"channels": 2, "cells": 1}
    assert "40 at the last" in found["lead"]
    assert weights
