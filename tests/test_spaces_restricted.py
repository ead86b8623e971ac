import copy
import itertools
import pickle

import numpy as np
import pytest

from wsx.contracts import DESCRIPTION, check_contract
from wsx.contracts._base import Subject
from wsx.errors import ArchError, OptionError, UnknownNameError
from wsx.spaces import SPACES, ProductSpace
from wsx.spaces import restricted as module
from wsx.spaces.choice import ArchChoice
from wsx.spaces.lists import read_archs
from wsx.spaces.loading import space_facts
from wsx.spaces.restricted import (
    RestrictedSpace,
    only,
    parse_restriction,
    restricted,
    restriction_of,
)

WHOLE = SPACES["nasbench201"]
CHOSEN = {
    "2->3": ["none"],
    "0->1": ["nor_conv_3x3", "skip_connect"],
    "0->3": ["none", "avg_pool_3x3", "nor_conv_1x1"],
}
SPACE = RestrictedSpace(WHOLE, CHOSEN)


def slow_archs(space, chosen):
    """All archs whose texts a hand-written filter lets through, by listing every combination."""
    names = [decision.name for decision in space.decisions]
    found = []
    for options in itertools.product(*(range(n) for n in space.n_options)):
        named = {n: d.options[o] for n, d, o in zip(names, space.decisions, options, strict=True)}
        if all(named[name] in allowed for name, allowed in chosen.items()):
            found.append(options)
    return [arch for arch in found if space.is_valid(arch)]


def test_the_archs_are_those_of_a_slow_filter():
    expected = slow_archs(WHOLE, CHOSEN)
    assert SPACE.n_archs == len(expected) == 2 * 3 * 1 * 5**3
    assert sorted(SPACE.enumerate()) == expected
    assert [SPACE.index(arch) for arch in SPACE.enumerate()] == list(range(SPACE.n_archs))
    assert SPACE.allowed_options[0] == (1, 3)
    assert SPACE.allowed_options[3] == (0, 2, 4)
    assert WHOLE.allowed_options == ((0, 1, 2, 3, 4),) * 6


def test_listed_measures_keep_what_is_left_in_their_order():
    expected = [arch for arch in WHOLE.population("reachable") if SPACE.is_valid(arch)]
    assert SPACE.population("reachable") == expected
    assert 0 < len(expected) < SPACE.n_archs
    assert SPACE.population("encodings") is None


def test_draws_and_mutants_are_uniform_over_what_is_left():
    rng = np.random.default_rng(3)
    space = RestrictedSpace(
        WHOLE,
        only(WHOLE, WHOLE.arch_at(0))
        | {"0->1": ["none", "skip_connect"], "0->2": ["none", "nor_conv_1x1"]},
    )
    drawn = [space.draw(rng=rng, measure="encodings") for _ in range(400)]
    counts = np.unique(np.array(drawn), axis=0, return_counts=True)[1]
    assert len(counts) == 4
    assert (np.abs(counts - 100) < 5 * np.sqrt(400 * 0.25 * 0.75)).all()
    arch = SPACE.arch_at(17)
    mutants = [SPACE.mutate(arch, rng=rng) for _ in range(300)]
    assert set(mutants) == set(SPACE.neighbours(arch))
    places = [[i for i, (a, b) in enumerate(zip(arch, m, strict=True)) if a != b] for m in mutants]
    assert {place for (place,) in places} == {0, 1, 2, 3, 4}


def test_texts_names_costs_and_keys_are_those_of_the_whole_space():
    macro, arch = WHOLE.reference_macro, SPACE.arch_at(100)
    assert (SPACE.name, SPACE.supernet, SPACE.decisions) == (
        "nasbench201",
        "nasbench201",
        WHOLE.decisions,
    )
    assert SPACE.reference_macro == macro
    for name in ("format", "function_key", "truth_text", "is_reachable", "is_cost_exact", "depth"):
        assert getattr(SPACE, name)(arch) == getattr(WHOLE, name)(arch)
    assert SPACE.cost(arch, macro) == WHOLE.cost(arch, macro)
    assert SPACE.parse(WHOLE.format(arch)) == arch
    darts = RestrictedSpace(SPACES["darts"], {"normal/2/0/op": ["skip_connect"]})
    drawn = darts.draw(rng=np.random.default_rng(0), measure="encodings")
    assert darts.cells(drawn)[0][0][0][0] == "skip_connect"


def test_what_was_restricted_away_is_refused_with_what_is_allowed():
    outside = (0, 0, 0, 0, 0, 0)
    for use in (SPACE.check, SPACE.index, SPACE.neighbours, lambda a: SPACE.parse(WHOLE.format(a))):
        with pytest.raises(
            ArchError, match=r"'none' for 0->1; .* allows skip_connect, nor_conv_3x3"
        ):
            use(outside)
    with pytest.raises(AttributeError, match="nonsense"):
        SPACE.nonsense  # noqa: B018


def test_indices_in_files_are_those_of_the_whole_space(tmp_path):
    inside = [WHOLE.index(arch) for arch in itertools.islice(SPACE.enumerate(), 5)]
    path = tmp_path / "archs.txt"
    path.write_text("".join(f"{index}\n" for index in inside))
    assert read_archs(path, SPACE) == [WHOLE.arch_at(index) for index in inside]
    assert inside != list(range(5))
    path.write_text(f"{inside[0]}\n{WHOLE.index((0,) * 6)}\n")
    with pytest.raises(ArchError, match=r"line 2: arch .* allows skip_connect"):
        read_archs(path, SPACE)
    # As a measure, a list is a population like others: what is left of it.
    assert SPACE.population(f"list:{path}") == [WHOLE.arch_at(inside[0])]
    assert ArchChoice(n=1, measure=f"list:{path}").archs(SPACE) == [WHOLE.arch_at(inside[0])]
    path.write_text(f"{WHOLE.index((0,) * 6)}\n")
    with pytest.raises(OptionError, match=r"no arch of nasbench201 under 'list:.* remains"):
        SPACE.population(f"list:{path}")


def test_copies_and_restrictions_of_restrictions():
    assert copy.deepcopy(SPACE) is SPACE
    assert pickle.loads(pickle.dumps(SPACE)).restriction == SPACE.restriction
    narrower = RestrictedSpace(SPACE, {"0->1": ["skip_connect", "none"]})
    assert narrower.allowed_options[0] == (1,)
    assert narrower.n_archs == SPACE.n_archs // 2
    assert narrower.whole is WHOLE
    with pytest.raises(OptionError, match="0->1 is left without options by two restrictions"):
        RestrictedSpace(SPACE, {"0->1": ["none"]})
    assert (
        restricted(WHOLE, {})
        is restricted(WHOLE, {"0->1": list(WHOLE.decisions[0].options)})
        is WHOLE
    )
    own = ProductSpace("own", {"kernel": (1, 3), "width": (2, 4)})
    assert space_facts(restricted(own, {"kernel": ["3"]})) == {"decisions": own.options}


def test_one_arch_alone_has_no_neighbours():
    arch = (3, 0, 1, 2, 4, 1)
    space = RestrictedSpace(WHOLE, only(WHOLE, arch))
    assert list(space.enumerate()) == [arch]
    assert space.sample(1, rng=np.random.default_rng(0), measure="encodings") == [arch]
    with pytest.raises(ArchError, match="has no neighbour"):
        space.mutate(arch, rng=np.random.default_rng(0))
    with pytest.raises(OptionError, match="cannot draw 2 archs: nasbench201 has 1"):
        space.sample(2, rng=np.random.default_rng(0), measure="encodings")


# Spaces that refuse combinations ---------------------------------------------------------------------------


def test_small_spaces_that_refuse_are_listed():
    whole, chosen = SPACES["nasbench101-v4"], {"op1": ["maxpool3x3"], "0->3": ["present"]}
    space = RestrictedSpace(whole, chosen)
    expected = slow_archs(whole, chosen)
    assert sorted(space.enumerate()) == expected
    assert space.n_archs == len(expected) > 5
    assert not space.is_product
    assert set(space.population("archs")) < set(expected)
    assert space.population("encodings") == list(space.enumerate())


def large(monkeypatch, limit=100, tries=300):
    """The same space as if it were too large to be listed."""
    monkeypatch.setattr(module, "MAX_ENUMERATED", limit)
    monkeypatch.setattr(module, "MAX_TRIES", tries)
    return SPACES["nasbench101-v4"]


def test_large_spaces_that_refuse_are_drawn_from_by_rejection(monkeypatch):
    whole, chosen = large(monkeypatch), {"op1": ["maxpool3x3"], "0->3": ["present"]}
    expected = slow_archs(whole, chosen)
    space, rng = RestrictedSpace(whole, chosen), np.random.default_rng(0)
    assert space.population("encodings") is None
    assert set(space.sample(len(expected), rng=rng, measure="encodings")) == set(expected)
    drawn = space.sample(1000, rng=rng, measure="encodings", has_repeats=True)
    counts = np.array([drawn.count(arch) for arch in expected])
    p = 1 / len(expected)
    assert counts.sum() == 1000
    assert (np.abs(counts - 1000 * p) < 5 * np.sqrt(1000 * p * (1 - p))).all()
    with pytest.raises(OptionError, match=f"{len(expected)} of nasbench101-v4 were found"):
        space.sample(len(expected) + 1, rng=rng, measure="encodings")
    with pytest.raises(OptionError, match="cannot draw 0 archs"):
        space.sample(0, rng=rng, measure="encodings")
    for use in (lambda: space.n_archs, lambda: space.arch_at(0), lambda: space.index(expected[0])):
        with pytest.raises(OptionError, match="cannot be counted"):
            use()


def test_restrictions_too_narrow_to_draw_from_say_so(monkeypatch):
    whole = large(monkeypatch)
    # The input feeds nothing, so that no path leads on.
    chosen = {name: ["absent"] for name in ("0->1", "0->2", "0->3")}
    space = RestrictedSpace(whole, chosen)
    with pytest.raises(OptionError, match=r"none of 300 archs .* remains"):
        space.draw(rng=np.random.default_rng(0), measure="encodings")
    with pytest.raises(OptionError, match="no arch of nasbench101-v4 under 'archs' remains"):
        space.population("archs")


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("nasbench201", CHOSEN),
        ("cell64", {"0->1": ["max_pool_3x3", "dil_conv"]}),
        ("nasbench101-v4", {"op1": ["conv3x3-bn-relu"], "0->1": ["present"]}),
        ("darts", {"normal/2/0/op": ["skip_connect"], "reduce/5/inputs": ["0,1", "1,0"]}),
    ],
)
@pytest.mark.parametrize("contract", DESCRIPTION)
def test_restrictions_keep_the_contracts_of_spaces(name, chosen, contract):
    space = RestrictedSpace(SPACES[name], chosen)
    check_contract(contract, Subject(space, lambda: None, n_archs=8))


# Texts -----------------------------------------------------------------------------------------------------


def test_restrictions_are_read_from_texts():
    texts = ["2->3=none", "0->1=nor_conv_3x3|skip_connect", "0->3=none|nor_conv_1x1|avg_pool_3x3"]
    parsed = parse_restriction(texts, WHOLE)
    assert parsed == SPACE.restriction
    # In the space's own order, whatever the order of the texts.
    assert list(parsed) == ["0->1", "0->3", "2->3"]
    assert parsed["0->1"] == ["skip_connect", "nor_conv_3x3"]
    assert parse_restriction([], WHOLE) == {}
    bars = ProductSpace("bars", {"a": ("x|y", "x", "y")})
    assert parse_restriction(["a=x|y"], bars) == {"a": ["x|y"]}
    assert parse_restriction(["a=y|x"], bars) == {"a": ["x", "y"]}


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (["0->1"], OptionError, "'0->1' must read DECISION=OPTION"),
        ([""], OptionError, "must read DECISION=OPTION"),
        (["0->1=none", "0->1=none"], OptionError, "0->1 is restricted twice"),
        (
            ["0->4=none"],
            UnknownNameError,
            "no decision of nasbench201 named '0->4'. Did you mean 0->",
        ),
        (
            ["0->1=skip"],
            UnknownNameError,
            "no 0->1 of nasbench201 named 'skip'. Did you mean skip_connect",
        ),
        (["0->1="], UnknownNameError, "named ''"),
        (["0->1=none|"], UnknownNameError, "named ''"),
        (["\0" * 999 + "=none"], UnknownNameError, "no decision of nasbench201"),
    ],
)
def test_bad_texts_are_refused(texts, error, message):
    with pytest.raises(error, match=message) as caught:
        parse_restriction(texts, WHOLE)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("values", [{"0->1": []}, {"0->1": "none"}, {"0->1": 3}, [], "none", None])
def test_values_that_are_no_lists_are_refused(values):
    with pytest.raises(OptionError, match="must"):
        restriction_of(WHOLE, values)
