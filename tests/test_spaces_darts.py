import itertools
import json
import re
from collections import namedtuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from wsx.errors import ArchError, UnknownNameError
from wsx.spaces import SPACES
from wsx.truth.nds import genotype_text

SPACE = SPACES["darts"]
NDS = SPACES["darts-nds"]
MACRO = {"channels": 36, "cells": 20, "n_classes": 10, "in_channels": 3, "image_size": 32}
Genotype = namedtuple("Genotype", "normal normal_concat reduce reduce_concat")

# DARTS' second-order result, as its repository (quark0/darts) spells it.
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), "
    "('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)
# The first sample of NDS' DARTS family that its authors publish (facebookresearch/unnas, 00004).
NDS_SAMPLE = (
    "Genotype(normal=[('avg_pool_3x3', 1), ('sep_conv_3x3', 1), ('sep_conv_5x5', 1), ('dil_conv_5x5', 1), "
    "('none', 0), ('dil_conv_3x3', 2), ('dil_conv_3x3', 2), ('sep_conv_3x3', 1)], "
    "normal_concat=range(2, 6), reduce=[('sep_conv_3x3', 0), ('dil_conv_3x3', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 0), ('none', 1), ('dil_conv_5x5', 1), ('dil_conv_3x3', 4), ('skip_connect', 4)], "
    "reduce_concat=range(2, 6))"
)


def evaluated(text):
    """The genotype as DARTS' own code reads it."""
    return eval(text, {"Genotype": Genotype, "range": range})


@pytest.fixture(scope="module")
def table(shared_data):
    return pq.read_table(shared_data / "darts" / "ground_truth.parquet").to_pydict()


def drawn(space, n, seed=0):
    return space.sample(n, rng=np.random.default_rng(seed), measure="encodings")


# Text ------------------------------------------------------------------------------------------------------


def test_both_texts_of_the_public_table_go_round(table):
    archs = [SPACE.parse(text) for text in table["genotype"]]
    assert [SPACE.parse(text) for text in table["architecture"]] == archs
    assert [SPACE.format(arch) for arch in archs] == table["genotype"]
    assert [SPACE.format_choices(arch) for arch in archs] == table["architecture"]


@pytest.mark.parametrize("space", [SPACE, NDS])
def test_text_says_what_dartss_own_code_reads(space):
    for arch in drawn(space, 50):
        text = space.format(arch)
        assert space.parse(text) == space.parse(space.format_choices(arch)) == arch
        genotype = evaluated(text)
        assert genotype.normal_concat == genotype.reduce_concat == range(2, 6)
        for pairs, cell in zip((genotype.normal, genotype.reduce), space.cells(arch), strict=True):
            assert [pair for node in cell for pair in node] == pairs


def test_spelling_variants_are_read_alike():
    arch = SPACE.parse(DARTS_V2)
    assert SPACE.format(arch) == DARTS_V2
    variants = [
        DARTS_V2.replace("range(2, 6)", "[2, 3, 4, 5]"),
        DARTS_V2.replace("'", '"').replace(", ", ",\n    "),
        " " + DARTS_V2.replace(" ", "") + "\n",
        DARTS_V2.replace(")],", "),],"),
        json.dumps(json.loads(SPACE.format_choices(arch)), indent=2),
    ]
    assert [SPACE.parse(text) for text in variants] == [arch] * len(variants)


def test_the_published_nds_sample_is_of_nds_and_not_of_darts():
    assert NDS.format(NDS.parse(NDS_SAMPLE)) == NDS_SAMPLE
    with pytest.raises(ArchError, match=r"normal/2 has the inputs \[1, 1\].*0..1 and differ"):
        SPACE.parse(NDS_SAMPLE)
    with pytest.raises(UnknownNameError, match="no darts operation named 'none'"):
        SPACE.parse(DARTS_V2.replace("dil_conv_3x3", "none"))


DEEP = "{" + '"a":[' * 900 + "]" * 900 + "}"


@given(st.text())
@example("")
@example(
    "Genotype(normal=__import__('os').system('false'), normal_concat=1, reduce=[], reduce_concat=1)"
)
@example("{}")
@example("{" * 4000)
@example(DEEP)
@example('{"normal/2/0/op": NaN}')
@example("[" * 100_000)
@example(DARTS_V2.replace("0", "\u0660"))
@example(DARTS_V2.replace("0", "9" * 4000))
@example(DARTS_V2.replace("sep_conv_3x3", "x" * 500))
def test_parse_never_fails_otherwise_than_by_its_own_errors(text):
    with pytest.raises((ArchError, UnknownNameError)) as caught:
        SPACE.parse(text)
    assert len(str(caught.value)) < 2000


pieces = st.sampled_from(
    [
        *SPACE.operations,
        "none",
        "(",
        ")",
        "[",
        "]",
        "'",
        ",",
        " ",
        "0",
        "2",
        "6",
        "('none', 0)",
        "eval",
    ]
)


@example(0, 1, 0, " ")
@example(0, 19, 0, " ")
@given(st.integers(0, SPACE.n_archs - 1), st.integers(0, 600), st.integers(0, 15), pieces)
def test_nearly_right_text_is_refused_or_reads_as_what_it_says(index, start, n_cut, inserted):
    text = SPACE.format(SPACE.arch_at(index))
    broken = text[:start] + inserted + text[start + n_cut :]
    try:
        arch = SPACE.parse(broken)
    except (ArchError, UnknownNameError):
        return
    assert evaluated(broken.strip()) == evaluated(SPACE.format(arch))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("('sep_conv_3x3', 0), ", "", "PAIRS being 8 of"),
        ("range(2, 6)", "range(2, 5)", "must read Genotype("),
        (
            "('dil_conv_3x3', 2)",
            "('dil_conv_3x3', 5)",
            "normal/5 has the inputs [0, 5]; they must lie in 0..4",
        ),
        (
            "('max_pool_3x3', 0), ('max_pool_3x3', 1)",
            "('max_pool_3x3', 1), ('max_pool_3x3', 1)",
            "reduce/2",
        ),
        ("reduce=", "reduced=", "must read Genotype("),
    ],
)
def test_malformed_genotypes_say_what_is_wrong(old, new, message):
    with pytest.raises(ArchError, match=re.escape(message)):
        SPACE.parse(DARTS_V2.replace(old, new, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normal/2/0/input": True}, "has 'True' for 'normal/2/0/input'; it must be of type int"),
        ({"normal/2/0/input": 1.0}, "must be of type int"),
        ({"normal/2/0/input": -1}, "normal/2 has the inputs [-1, 1]"),
        ({"normal/2/0/op": None}, "must be of type str"),
        ({"normal/2/0/op": ...}, "has no key 'normal/2/0/op'"),
        ({"normal/6/0/op": "skip_connect"}, "has 33 keys; it needs 32"),
    ],
)
def test_malformed_json_says_what_is_wrong(change, message):
    choices = json.loads(SPACE.format_choices(SPACE.parse(DARTS_V2))) | change
    text = json.dumps({key: value for key, value in choices.items() if value is not ...})
    with pytest.raises(ArchError, match=re.escape(message)):
        SPACE.parse(text)


def test_unknown_operations_are_suggested():
    with pytest.raises(UnknownNameError, match=r"named 'sep_conv_3X3'.*Did you mean sep_conv_3x3"):
        SPACE.parse(DARTS_V2.replace("sep_conv_3x3", "sep_conv_3X3", 1))


# Truth text ------------------------------------------------------------------------------------------------


def swapped(cells, which):
    """Cells with the pairs of the nodes in ``which`` in the other order."""
    return [
        tuple(node[::-1] if (kind, place) in which else node for place, node in enumerate(cell))
        for kind, cell in enumerate(cells)
    ]


@pytest.mark.parametrize("space", [SPACE, NDS])
def test_the_order_of_pairs_does_not_show_in_the_truth_text(space):
    places = list(itertools.product(range(2), range(4)))
    for arch in drawn(space, 5):
        texts, orders = set(), set()
        for n in (0, 1, 2, 8):
            for which in itertools.combinations(places, n):
                cells = swapped(space.cells(arch), which)
                pairs = [[pair for node in cell for pair in node] for cell in cells]
                other = space.parse(str(Genotype(pairs[0], range(2, 6), pairs[1], range(2, 6))))
                orders.add(other)
                texts |= {space.truth_text(other), genotype_text(*pairs)}
        assert len(texts) == 1
        assert len(orders) == 1 + 8 + 28 + 1 or space is NDS
        assert space.truth_text(space.parse(texts.pop())) == space.truth_text(arch)


def test_256_encodings_are_one_network():
    # By brute force for the first two nodes; the others follow the same rule.
    arch = SPACE.parse(DARTS_V2)
    for place, n_orders in enumerate((2, 6)):
        before, after = arch[: 3 * place], arch[3 * place + 3 :]
        nodes = itertools.product(range(7), range(7), range(n_orders))
        archs = [before + node + after for node in nodes]
        texts = {SPACE.truth_text(arch) for arch in archs}
        assert len(archs) == 2 * len(texts)
    assert SPACE.n_archs == (98 * 294 * 588 * 980) ** 2
    assert f"{SPACE.n_archs:.2e} {SPACE.n_archs // 256:.2e}" == "2.76e+20 1.08e+18"


# Order and sampling ----------------------------------------------------------------------------------------


def test_nds_has_the_papers_number_of_cells():
    assert NDS.n_archs == (8**8 * (2 * 3 * 4 * 5) ** 2) ** 2
    assert round(NDS.n_archs**0.5 / 1e9) == 242


@given(st.integers(0, NDS.n_archs - 1))
@example(0)
@example(SPACE.n_archs - 1)
def test_index_and_arch_at_are_inverse(index):
    assert NDS.index(NDS.arch_at(index)) == index
    if index < SPACE.n_archs:
        assert SPACE.index(SPACE.arch_at(index)) == index


@pytest.mark.parametrize("index", [-1, SPACE.n_archs])
def test_indices_outside_are_refused(index):
    with pytest.raises(ArchError, match="lies outside"):
        SPACE.arch_at(index)


def test_draws_are_uniform_over_pairs_and_sources_differ():
    cells = [SPACE.cells(arch)[1] for arch in drawn(SPACE, 4000)]
    last = [cell[3] for cell in cells]
    counts = np.zeros((7, 5, 5))
    for (one, source), (_, other) in last:
        counts[SPACE.operations.index(one), source, other] += 1
    assert counts[:, range(5), range(5)].sum() == 0
    seen = counts.sum(0)[~np.eye(5, dtype=bool)]
    assert stats.chisquare(seen).pvalue > 0.01
    assert stats.chisquare(counts.sum((1, 2))).pvalue > 0.01


@pytest.mark.parametrize("space", [SPACE, NDS])
def test_neighbours_differ_in_one_decision(space):
    arch = drawn(space, 1)[0]
    found = space.neighbours(arch)
    assert len(set(found)) == sum(space.n_options) - len(space.n_options)
    assert all(sum(a != b for a, b in zip(arch, other, strict=True)) == 1 for other in found)


@pytest.mark.parametrize("method", ["format", "format_choices", "truth_text", "cells", "index"])
@pytest.mark.parametrize(
    "arch", [(), (0,) * 23, (7,) + (0,) * 23, (0, 0, 2) + (0,) * 21, (0.5,) * 24]
)
def test_what_is_no_arch_is_refused_everywhere(method, arch):
    with pytest.raises(ArchError):
        getattr(SPACE, method)(arch)


# Cost ------------------------------------------------------------------------------------------------------


def test_params_and_flops_of_the_public_table(table):
    assert dict(SPACE.reference_macro) == MACRO
    archs = [SPACE.parse(text) for text in table["genotype"]]
    costs = [SPACE.cost(arch, MACRO) for arch in archs]
    assert [cost.params for cost in costs] == table["params"]
    assert [SPACE.table_flops(arch, MACRO) for arch in archs] == table["flops"]
    # What its counter misses: k*k*C*H*W for every separable convolution of 18 normal and 2 reduction cells.
    size = {"normal": 6 * (36 * 32**2 + 72 * 16**2 + 144 * 8**2), "reduce": 72 * 16**2 + 144 * 8**2}
    for cost, flops, text in zip(costs, table["flops"], table["genotype"], strict=True):
        missed = sum(
            size[kind] * int(operation[-1]) ** 2
            for kind in size
            for operation, _ in getattr(evaluated(text), kind)
            if "conv" in operation
        )
        assert cost.flops == flops + missed + 10


# Reachability of NDS' cells --------------------------------------------------------------------------------


def nds_arch(normal, reduce):
    return NDS.parse(str(Genotype(normal, range(2, 6), reduce, range(2, 6))))


DEAD = [("none", 0), ("none", 1)] * 4
LIVE = [("skip_connect", 0), ("skip_connect", 1)] * 4
ONLY_BEFORE = [("skip_connect", 0)] * 8
ONLY_LAST = [("skip_connect", 1)] * 8


@pytest.mark.parametrize(
    ("normal", "reduce", "is_reachable", "is_exact"),
    [
        (LIVE, LIVE, True, True),
        (DEAD, LIVE, False, True),
        # Normal cells hand the signal past the reduction cells, and in turn they cannot.
        (LIVE, DEAD, True, True),
        (ONLY_LAST, DEAD, False, False),
        (ONLY_BEFORE, LIVE, True, False),
        (
            [("none", 0), ("none", 0), ("skip_connect", 2), ("skip_connect", 2)] * 2,
            LIVE,
            False,
            False,
        ),
    ],
)
def test_reachability(normal, reduce, is_reachable, is_exact):
    arch = nds_arch(normal, reduce)
    assert (NDS.is_reachable(arch), NDS.is_cost_exact(arch)) == (is_reachable, is_exact)


def test_every_darts_arch_is_reachable_and_its_cost_exact():
    assert all(SPACE.is_reachable(arch) and SPACE.is_cost_exact(arch) for arch in drawn(SPACE, 20))
