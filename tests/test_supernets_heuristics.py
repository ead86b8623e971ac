"""Every option of a supernet keeps the contracts: supernet = subnet = ONNX, steps in slices, right costs."""

import pytest
import torch
from heuristic_nets import SMALL, make
from torch import nn

from wsx.contracts import DESCRIPTION, check_contract
from wsx.contracts._base import Subject
from wsx.contracts.check import CONTRACTS
from wsx.errors import OptionError, UnknownNameError
from wsx.spaces import SPACES
from wsx.supernets import build_supernet
from wsx.training.recipes import Recipe
from wsx.training.supernet import supernet_options

KEPT = [name for name in CONTRACTS if name not in DESCRIPTION and name != "decisions"]
TIED = {"shares": "node", "has_wsbn": True}
ALL = {"kernels": "transform", "dropout": 0.3, "bn_epsilon": 1e-3}
PLAIN = {"is_affine": False, "tracks_statistics": False}

COMBINATIONS = [
    ("nasbench201", TIED | ALL),
    ("nasbench101-v4", {"has_wsbn": True, "slicing": "interpolate"} | ALL),
]
SLOW_COMBINATIONS = [
    *(("nasbench201", options) for options in ({"shares": "node"}, {"kernels": "centre"}, PLAIN)),
    ("nasbench201", {"shares": "inner", "has_wsbn": True}),
    *(("nasbench101", {"slicing": name, "kernels": "centre"}) for name in ("fixed", "random")),
    ("nasbench101", {"slicing": "shuffle", "has_wsbn": True}),
    ("nasbench101", {"slicing": "chunks", "has_wsbn": True} | ALL),
    ("nasbench101", PLAIN),
    ("darts", {"has_wsbn": True, "kernels": "centre"} | PLAIN),
    ("darts-nds", TIED | ALL),
    ("cell64", TIED | {"kernels": "centre", "tracks_statistics": False}),
    ("cell64", {"reading": "code", "is_affine": True} | TIED | ALL),
    *((space, ALL) for space in ("nasbenchmacro", "proxylessnas")),
    *((space, {"kernels": "centre"} | PLAIN) for space in ("nasbenchmacro", "proxylessnas")),
]


@pytest.mark.parametrize(
    ("space", "options"),
    [
        *COMBINATIONS,
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW_COMBINATIONS),
    ],
    ids=str,
)
def test_every_contract_holds_under_options(space, options):
    subject = Subject(SPACES[space], lambda: make(space, **options), n_archs=3)
    for name in KEPT:
        # What a random slice moves is not known beforehand; test_supernets_nasbench101_slices.py looks.
        if name != "training" or options.get("slicing") not in ("random", "shuffle"):
            check_contract(name, subject)


# Options -----------------------------------------------------------------------------------------------------


WSBN = {
    "nasbench201": TIED,
    "nasbench101": {"has_wsbn": True},
    "darts": TIED,
    "cell64": TIED,
    "nasbenchmacro": {},
    "proxylessnas": {},
}


@pytest.mark.parametrize("space", WSBN)
def test_norm_options_reach_every_layer(space):
    options = {"bn_momentum": 0.25, "bn_epsilon": 0.01} | PLAIN | WSBN[space]
    supernet = build_supernet(space, SMALL[space] | options, seed=0)
    norms = {n: m for n, m in supernet.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert {(m.momentum, m.eps, m.track_running_stats) for m in norms.values()} == {
        (0.25, 0.01, False)
    }
    # The stem of the 64-arch cell always learns, as its paper's does.
    affine = {name for name, norm in norms.items() if norm.affine}
    assert affine == ({"stem.1", "stem.3"} if space == "cell64" else set())


@pytest.mark.parametrize("space", WSBN)
def test_what_is_usual_is_what_the_sources_have(space):
    options = build_supernet(space, SMALL[space], seed=0).options
    assert (options.kernels, options.dropout, options.tracks_statistics) == ("separate", 0.0, True)
    momentum = 0.4 if space == "cell64" else 0.1
    epsilon = 1e-3 if space == "proxylessnas" else 1e-5
    assert (options.bn_momentum, options.bn_epsilon) == (momentum, epsilon)
    assert options.is_affine == (space != "cell64")
    assert options.ramps_drop_path == (space != "darts")


@pytest.mark.parametrize(
    ("space", "options", "error", "message"),
    [
        ("proxylessnas", {"kernels": "center"}, UnknownNameError, "Did you mean centre"),
        ("nasbench201", {"shares": "slot"}, UnknownNameError, "no shares named 'slot'.*edge, node"),
        ("cell64", {"shares": "inner"}, UnknownNameError, "no shares named 'inner'"),
        ("nasbenchmacro", {"shares": "node"}, UnknownNameError, "no supernet option named"),
        ("nasbench201", {"has_wsbn": True}, OptionError, "such as shares=node"),
        ("darts", {"has_wsbn": True, "shares": "edge"}, OptionError, "with shares=edge each"),
        ("darts", {"dropout": 1.0}, OptionError, r"dropout is 1.0; it must lie in \[0, 1\)"),
        ("darts", {"dropout": float("nan")}, OptionError, "dropout is nan"),
        ("nasbench201", {"bn_epsilon": 0.0}, OptionError, "bn_epsilon is 0.0; it must be positive"),
        ("nasbench201", {"bn_epsilon": float("inf")}, OptionError, "bn_epsilon is inf"),
        ("nasbench201", {"bn_momentum": 1.5}, OptionError, r"must lie in \(0, 1\]"),
    ],
)
def test_impossible_options_are_refused(space, options, error, message):
    with pytest.raises(error, match=message):
        build_supernet(space, SMALL[space] | options, seed=0)


def built(**settings):
    recipe = Recipe(supernet={"channels": 2, "cells": 1}).override(settings)
    return build_supernet("nasbench201", supernet_options(recipe, (1, 3, 9, 9), 3), seed=0)


def test_settings_are_read_as_their_option_is():
    assert built(dropout="0.1").options.dropout == 0.1
    assert built(dropout="0.0", has_wsbn="true", shares="inner").options.has_wsbn
    assert built(dropout="0").options.dropout == 0.0
    with pytest.raises(OptionError, match="dropout is True; it must be of type float"):
        built(dropout="true")
    with pytest.raises(OptionError, match="has_wsbn is 1; it must be of type bool"):
        built(has_wsbn="1")


def test_weights_are_where_they_were_without_options():
    names = set(build_supernet("nasbench201", SMALL["nasbench201"], seed=0).state_dict())
    assert "stages.2.0.edges.5.nor_conv_1x1.1.weight" in names
    assert "stages.2.0.edges.5.nor_conv_1x1.2.running_mean" in names
    # Dropout and transforms add no number to the generator's stream.
    one = build_supernet("nasbench201", SMALL["nasbench201"], seed=0)
    other = build_supernet("nasbench201", SMALL["nasbench201"] | {"dropout": 0.5}, seed=0)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
