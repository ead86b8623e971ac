import re

import numpy as np
import pytest

from wsx.errors import ArchError, OptionError, UnknownNameError
from wsx.spaces import SPACES
from wsx.spaces.choice import ArchChoice
from wsx.spaces.lists import pinned, read_archs

SPACE = SPACES["nasbench201"]
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


def written(tmp_path, content):
    path = tmp_path / "archs.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_texts_indices_comments_and_blank_lines(tmp_path):
    path = written(tmp_path, f"# best first\n\n{BEST}\n  6111  \r\n0\n15624\n\t# end\n{BEST}")
    archs = read_archs(path, SPACE)
    best = SPACE.parse(BEST)
    assert archs == [best, SPACE.arch_at(6111), SPACE.arch_at(0), SPACE.arch_at(15624), best]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lists no archs"),
        ("# nothing\n\n", "lists no archs"),
        (f"{BEST}\n# x\n15625\n", r"line 3: index 15625 lies outside 0\.\.15624"),
        ("-1\n", "line 1: arch '-1' has 1 blocks"),
        ("9" * 5000, "line 1: '9{60}'... has 5000 digits"),
        ("x" * 100_000, "line 1: arch 'x{200}' has 1 blocks"),
        ("1\nfoo\nbar\n", r"line 2: arch 'foo'.* \(2 bad lines in all\)"),
        (BEST.replace("skip_connect", "skip_conect"), "line 1: .*Did you mean skip_connect"),
        (b"\xff\xfe\x00\x01", "cannot be read"),
        (b"\x00\x01\x02", r"line 1: arch '\\x00"),
    ],
)
def test_bad_files_name_the_first_bad_line(tmp_path, content, message):
    with pytest.raises(ArchError, match=message) as caught:
        read_archs(written(tmp_path, content), SPACE)
    assert "archs.txt" in str(caught.value)
    assert len(str(caught.value)) < 700


def test_missing_files_and_folders_are_named(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(ArchError, match=f"{re.escape(str(path))} cannot be read"):
            read_archs(path, SPACE)


def test_a_choice_of_texts():
    choice = ArchChoice(texts=(BEST, SPACE.format(SPACE.arch_at(3))))
    assert choice.archs(SPACE) == [SPACE.parse(BEST), SPACE.arch_at(3)]
    assert choice.facts(SPACE) == {"archs_from": "a list of 2"}
    with pytest.raises(ArchError, match="'foo'"):
        ArchChoice(texts=(BEST, "foo")).archs(SPACE)
    with pytest.raises(OptionError, match="exactly one of"):
        ArchChoice(texts=(BEST,), n=3).archs(SPACE)


def test_a_choice_draws_reads_or_takes_all(tmp_path):
    path = written(tmp_path, "5\n7\n")
    assert ArchChoice(file=path).archs(SPACE) == [SPACE.arch_at(5), SPACE.arch_at(7)]
    assert ArchChoice(takes_all=True).archs(SPACE) == list(SPACE.enumerate())
    assert len(ArchChoice(takes_all=True, measure="reachable").archs(SPACE)) == 15284
    expected = SPACE.sample(9, rng=np.random.default_rng(4), measure="encodings")
    assert ArchChoice(n=9, seed=4).archs(SPACE) == expected
    assert ArchChoice(n=9, seed=4).facts(SPACE) == {"measure": "encodings", "n": 9, "seed": 4}
    assert ArchChoice(file=path).facts(SPACE) == {"archs_from": "archs.txt"}


@pytest.mark.parametrize(
    "choice",
    [{}, {"n": 3, "takes_all": True}, {"n": 3, "file": "x"}, {"file": "x", "takes_all": True}],
)
def test_a_choice_needs_exactly_one_way(choice):
    with pytest.raises(OptionError, match="exactly one of --n, --archs and --all"):
        ArchChoice(**choice).archs(SPACE)


def test_a_choice_refuses_unknown_measures_and_impossible_numbers():
    with pytest.raises(UnknownNameError, match="reachable"):
        ArchChoice(n=3, measure="reachble").archs(SPACE)
    for n in (0, -1, 15_626):
        with pytest.raises(OptionError, match=f"cannot draw {n} archs"):
            ArchChoice(n=n).archs(SPACE)


def test_a_choice_draws_from_a_list(tmp_path):
    path = written(tmp_path, "5\n7\n9\n5\n")
    drawn = ArchChoice(n=2, seed=1, measure=f"list:{path}").archs(SPACE)
    assert len(set(drawn)) == 2
    assert set(drawn) < {SPACE.arch_at(index) for index in (5, 7, 9)}
    everything = ArchChoice(takes_all=True, measure=f"list:{path}").archs(SPACE)
    assert everything == [SPACE.arch_at(index) for index in (5, 7, 9)]
    with pytest.raises(OptionError, match="cannot draw 4 archs: nasbench201 has 3"):
        ArchChoice(n=4, measure=f"list:{path}").archs(SPACE)


def test_a_list_is_stored_with_its_digest(tmp_path):
    path = written(tmp_path, "5\n7\n")
    stored = ArchChoice(n=1, measure=f"list:{path}").facts(SPACE)["measure"]
    assert re.fullmatch(f"list:{re.escape(str(path))}@[0-9a-f]{{16}}", stored)
    assert pinned(stored) == stored
    assert SPACE.population(stored) == [SPACE.arch_at(5), SPACE.arch_at(7)]
    path.write_text("5\n8\n")
    # What is known of the stored list stays; another space has to read it, and sees the change.
    with pytest.raises(ArchError, match=r"archs\.txt has changed: its digest is [0-9a-f]{16}, not"):
        SPACES["nasbenchmacro"].population(stored)
    assert SPACE.population(f"list:{path}") == [SPACE.arch_at(5), SPACE.arch_at(8)]


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "lists no archs"), ("5\nfoo\n", "line 2"), (b"\xff\xfe", "cannot be read")],
)
def test_bad_lists_are_refused(tmp_path, content, message):
    with pytest.raises(ArchError, match=message):
        SPACE.population(f"list:{written(tmp_path, content)}")


@pytest.mark.parametrize("name", ["none.txt", "", "\0"])
def test_lists_that_are_not_there_are_named(tmp_path, name):
    with pytest.raises(ArchError, match="cannot be read"):
        SPACE.population(f"list:{tmp_path}/{name}")
