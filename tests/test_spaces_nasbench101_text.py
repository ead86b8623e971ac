import json
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsx.errors import ArchError, UnknownNameError
from wsx.spaces import SPACES
from wsx.spaces.lists import read_archs

SPACE = SPACES["nasbench101"]
V5 = SPACES["nasbench101-v5"]
BEST = "110011000101000100101-13m33"
NAMES = {"3": "conv3x3-bn-relu", "1": "conv1x1-bn-relu", "m": "maxpool3x3"}


def as_json(text):
    """The benchmark's form of a text: matrix and operations."""
    bits, ops = text.split("-")
    n = len(ops) + 2
    matrix, taken = [[0] * n for _ in range(n)], iter(bits)
    for i in range(n):
        for j in range(i + 1, n):
            matrix[i][j] = int(next(taken))
    return json.dumps([matrix, ["input", *(NAMES[op] for op in ops), "output"]])


@pytest.mark.parametrize(
    "space", [SPACE, V5, SPACES["nasbench101-1shot1c"]], ids=lambda space: space.name
)
def test_texts_go_round(space):
    archs = space.sample(300, rng=np.random.default_rng(0), measure="encodings")
    texts = [space.format(arch) for arch in archs]
    assert len(set(texts)) == len(texts)
    assert [space.parse(text) for text in texts] == archs
    assert [space.parse(as_json(text)) for text in texts] == archs
    assert [space.format(space.parse(f" {text}\n")) for text in texts] == texts


def test_the_text_spells_bits_and_operations():
    arch = SPACE.parse(BEST)
    assert arch == (*map(int, "110011000101000100101"), 1, 0, 2, 0, 0)
    assert SPACE.format(arch) == BEST


def test_smaller_cells_take_the_first_vertices():
    for text in ("1-", "111-m", "110111-3m", "1111001011-31m"):
        arch = SPACE.parse(text)
        n_inner = len(text.split("-")[1])
        cell = SPACE.cell(arch)
        assert cell.inner == tuple(range(1, n_inner + 1))
        assert SPACE.parse(as_json(text)) == arch
        assert SPACE.truth_text(arch) == V5.truth_text(V5.parse(text))
        assert SPACE.parse(SPACE.format(arch)) == arch


def test_files_take_texts_and_indices(tmp_path):
    path = tmp_path / "archs.txt"
    path.write_text(f"{BEST}\n{SPACE.index(SPACE.parse(BEST))}\n111-m\n")
    assert read_archs(path, SPACE) == [SPACE.parse(t) for t in (BEST, BEST, "111-m")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must read BITS-OPERATIONS"),
        ("110011000101000100101", "must read BITS-OPERATIONS"),
        ("110011000101000100101-10200", "must read BITS-OPERATIONS"),
        ("110011000101000100101-13m3", "has 21 bits; 4 operations make 6 vertices, which have 15"),
        ("11001100010100010010-13m33", "has 20 bits"),
        ("1" * 28 + "-" + "3" * 6, "has 8 vertices; at most 7 are allowed"),
        ("-", "must read"),
        ("[", "is no list of a matrix and operations"),
        ("[" * 100_000, "is no list of a matrix and operations"),
        ("[[], []]", "needs a square matrix"),
        ("[[[0]], [null]]", "needs a square matrix"),
        ("[1, 2]", "is no list of a matrix"),
        ("[[[0,1],[0,0]], null]", "is no list of a matrix"),
        ('[[[0,1],[0,0]], {"a":1,"b":2}]', "is no list of a matrix"),
        ("[[[0,1],[0,0]],[1],[2]]", "is no list of a matrix"),
        ('[[[0,1],[0]],["input","output"]]', "needs a square matrix"),
        ('[[[0,1],[0,0]],["output","input"]]', "needs a square matrix"),
        ('[[[0,2],[0,0]],["input","output"]]', "other than 0, and 1 above the diagonal"),
        ('[[[0,1],[1,0]],["input","output"]]', "other than 0, and 1 above the diagonal"),
        ('[[[1,1],[0,0]],["input","output"]]', "other than 0, and 1 above the diagonal"),
        ('[[[0,NaN],[0,0]],["input","output"]]', "other than 0, and 1 above the diagonal"),
        ('[["01","00"],["input","output"]]', "other than 0, and 1 above the diagonal"),
        ('[[[0,[1]],[0,0]],["input","output"]]', "other than 0, and 1 above the diagonal"),
        ('[[[0,0],[0,0]],["input","output"]]', "is no arch of nasbench101"),
    ],
)
def test_malformed_text_says_what_is_wrong(text, message):
    with pytest.raises(ArchError, match=re.escape(message)) as caught:
        SPACE.parse(text)
    assert len(str(caught.value)) < 700


def test_unknown_operations_are_suggested():
    text = as_json("111-3").replace("conv3x3-bn-relu", "conv3x3-bn")
    with pytest.raises(UnknownNameError, match=r"'conv3x3-bn'. Did you mean conv3x3-bn-relu"):
        SPACE.parse(text)
    with pytest.raises(UnknownNameError, match="no nasbench101 operation named '7'"):
        SPACE.parse('[[[0,1,1],[0,0,1],[0,0,0]],["input",7,"output"]]')


@given(st.text())
@example("1" * 100_000 + "-")
@example("1-" + "3" * 100_000)
@example("\u0661-")
@example("[[[0,1],[0,0]],[" + "9" * 10_000 + "]]")
def test_parse_never_fails_otherwise_than_by_its_own_errors(text):
    problem = ""
    try:
        arch = SPACE.parse(text)
    except (ArchError, UnknownNameError) as error:
        problem = str(error)
    else:
        assert SPACE.check(arch) == arch
    assert len(problem) < 700


# Nearly right texts reach deeper into the parser than noise does.
@given(
    st.sampled_from([BEST, "111-m", as_json("110111-3m")]),
    st.integers(0, 120),
    st.integers(0, 4),
    st.sampled_from(["", "0", "1", "-", "3", "m", "[", "]", ",", '"', "1.0", "true", "{}"]),
)
def test_parse_reads_nearly_right_text_as_one_arch_or_refuses(text, start, n_cut, inserted):
    broken = text[:start] + inserted + text[start + n_cut :]
    try:
        arch = SPACE.parse(broken)
    except (ArchError, UnknownNameError):
        return
    assert SPACE.parse(SPACE.format(arch)) == arch
    if not broken.startswith("["):
        bits, ops = broken.split("-")
        n_inner = len(ops)
        assert SPACE.format(arch)[-5:][:n_inner] == ops
        assert len(bits) == (n_inner + 2) * (n_inner + 1) // 2
