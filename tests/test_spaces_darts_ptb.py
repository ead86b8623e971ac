import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsx.errors import ArchError, UnknownNameError
from wsx.spaces import SPACES
from wsx.spaces.darts_ptb import ACTIVATIONS, nodes_of

SPACE = SPACES["darts-ptb"]
TEXT = (
    "Genotype(recurrent=[('sigmoid', 0), ('relu', 0), ('relu', 1), ('identity', 1), ('tanh', 2), "
    "('sigmoid', 3), ('tanh', 6), ('relu', 5)], concat=range(1, 9))"
)
ARCH = (2, 0, 1, 0, 1, 1, 3, 1, 0, 2, 2, 3, 0, 6, 1, 5)


def test_size_and_order():
    assert SPACE.n_archs == 4**8 * math.factorial(8)
    assert SPACE.arch_at(0) == (0,) * 16
    for index in (0, 1, 12345, SPACE.n_archs - 1):
        assert SPACE.index(SPACE.arch_at(index)) == index


def test_text_form_is_that_of_darts():
    assert SPACE.parse(TEXT) == ARCH
    assert SPACE.format(ARCH) == TEXT
    assert nodes_of(ARCH)[3] == (3, 1)


@given(st.integers(0, SPACE.n_archs - 1))
def test_texts_round_trip(index):
    arch = SPACE.arch_at(index)
    assert SPACE.parse(SPACE.format(arch)) == arch


def test_p1s_json_is_accepted():
    pairs = nodes_of(ARCH)
    values = {f"act/{i}": a for i, (a, _) in enumerate(pairs)}
    values |= {f"switch/{i}": p for i, (_, p) in enumerate(pairs)}
    assert SPACE.parse(json.dumps(values)) == ARCH


def test_the_published_archs_agree_in_both_spellings(shared_data):
    rows = pq.read_table(shared_data / "ptb" / "ground_truth.parquet").to_pylist()
    archs = {SPACE.parse(row["architecture"]) for row in rows}
    assert len(archs) == len(rows) == 137
    for row in rows:
        arch = SPACE.parse(row["architecture"])
        assert SPACE.format(arch) == row["genotype"]
        assert SPACE.parse(row["genotype"]) == arch
    assert {ACTIVATIONS[a] for arch in archs for a in arch[::2]} == set(ACTIVATIONS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Genotype",
        "Genotype(",
        "Genotype()",
        "{",
        "{}",
        "[1]",
        '{"act/0": 1}',
        "__import__('os').system('true')",
        TEXT.replace("range(1, 9)", "range(2, 9)"),
        TEXT.replace("('tanh', 6)", "('tanh', 7)"),
        TEXT.replace("('tanh', 6)", "('tanh', -1)"),
        TEXT.replace("('tanh', 6)", "('tanh', True)"),
        TEXT.replace("('tanh', 6)", "('tanh',)"),
        TEXT.replace("('tanh', 6)", "open('x')"),
        TEXT.replace("('tanh', 6), ", ""),
        TEXT.replace(")]", "), ('tanh', 0)]"),
        TEXT.replace("recurrent", "recurrence"),
        TEXT + "\x00",
        "(" * 1500,
        "Genotype(" + "[" * 100_000,
        json.dumps({f"{k}/{i}": 0.0 for k in ("act", "switch") for i in range(8)}),
        json.dumps({f"{k}/{i}": 9 for k in ("act", "switch") for i in range(8)}),
    ],
)
def test_bad_texts_are_refused(text):
    with pytest.raises(ArchError):
        SPACE.parse(text)


def test_an_unknown_activation_is_named():
    with pytest.raises(UnknownNameError, match="'sigmoidal'"):
        SPACE.parse(TEXT.replace("sigmoid", "sigmoidal"))


def test_a_predecessor_comes_before_its_node():
    for arch in SPACE.sample(200, rng=np.random.default_rng(0), measure="encodings"):
        assert all(source <= place for place, (_, source) in enumerate(nodes_of(arch)))
    with pytest.raises(ArchError, match="predecessor 1"):
        SPACE.check((0, 1, *ARCH[2:]))


def test_cost_is_that_of_the_published_model():
    # DARTS reports 23 million parameters for 850 units and 10,000 words.
    cost = SPACE.cost(ARCH, {"hidden_size": 850, "n_tokens": 10_000})
    assert cost.params == 10_000 * 850 + 10_000 + 1700 * 1700 + 8 * 850 * 1700
    assert cost == SPACE.cost((0,) * 16, {"hidden_size": 850, "n_tokens": 10_000})
