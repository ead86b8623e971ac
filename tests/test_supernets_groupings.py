import pytest
from sharing_nets import ALL, CELL64

from wsx.errors import ArchError, OptionError, UnknownNameError
from wsx.spaces import SPACES
from wsx.spaces.folds import consecutive_folds, random_folds, structured_folds, write_groups
from wsx.spaces.restricted import restricted
from wsx.supernets.groupings import grouping_of, pinned_grouping


def test_groups_are_the_folds_of_the_lexicographic_list():
    of = grouping_of(CELL64, "random:8").of
    expected = random_folds(ALL, 8, seed=42)
    assert [[of(arch) for arch in fold] for fold in expected] == [[i] * 8 for i in range(8)]
    of = grouping_of(CELL64, "random:8:7").of
    assert [of(fold[0]) for fold in random_folds(ALL, 8, seed=7)] == list(range(8))
    # The benchmark's own order is shuffled: neighbours in it are not alike.
    whole = SPACES["nasbench201"]
    folds = consecutive_folds(list(whole.enumerate()), 7)
    grouping = grouping_of(whole, "consecutive:7")
    assert grouping.n_groups == 7
    assert all(grouping.of(fold[i]) == n for n, fold in enumerate(folds) for i in (0, -1))


def test_groups_by_decisions_are_the_combinations_of_their_options():
    one = grouping_of(CELL64, "by:0->2")
    folds = structured_folds(ALL, CELL64, "0->2")
    assert one.n_groups == 4
    assert [{one.of(a) for a in fold} for fold in folds.values()] == [{0}, {1}, {2}, {3}]
    two = grouping_of(CELL64, "by:1->2,0->1")
    assert two.n_groups == 16
    assert {(a[2], a[0]): two.of(a) for a in ALL} == {
        (i, j): 4 * i + j for i in range(4) for j in range(4)
    }
    fewer = restricted(CELL64, {"1->2": ["dil_conv", "sep_conv_3x3"]})
    assert grouping_of(fewer, "by:1->2").n_groups == 2
    assert [grouping_of(fewer, "by:1->2").of((0, 0, o)) for o in (1, 3)] == [0, 1]
    with pytest.raises(ArchError, match="allows sep_conv_3x3, dil_conv"):
        grouping_of(fewer, "by:1->2").of((0, 0, 0))
    assert grouping_of(SPACES["darts"], "by:normal/2/0/op").n_groups == 7


def test_groups_from_a_file(tmp_path):
    given = [ALL[10:13], ALL[:2], ALL[40:41]]
    text = write_groups(tmp_path / "groups.txt", CELL64, given)
    pinned = pinned_grouping(text)
    assert pinned_grouping(pinned) == pinned != text
    grouping = grouping_of(CELL64, pinned)
    assert [[grouping.of(arch) for arch in fold] for fold in given] == [[0, 0, 0], [1, 1], [2]]
    with pytest.raises(
        ArchError, match=r"arch 444 is in no group of .*groups\.txt; draw from archs that are"
    ):
        grouping.of((3, 3, 3))
    with pytest.raises(ArchError, match="has 2 decisions"):
        grouping.of((3, 3))
    (tmp_path / "groups.txt").write_text("111 0\n")
    with pytest.raises(ArchError, match="the groups have changed"):
        grouping_of(CELL64, pinned)
    assert grouping_of(CELL64, text).n_groups == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "groups \\[\\]; they must be 0, 1"),
        ("# nothing\n\n", "without a gap"),
        ("111 0\n112 2\n", r"groups \[0, 2\]"),
        ("111 0\n111 1\n", "line 2: '111 1' is in two groups"),
        ("111\n", "line 1: '111' must end in the number of a group"),
        ("111 -1\n", "must end in the number"),
        ("111 one\n", "must end in the number"),
        ("111 0\n555 0\n", "line 2: arch '555' must be three digits"),
        ("111 " + "9" * 5000, "must end in the number"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_bad_group_files_are_refused(tmp_path, content, message):
    path = tmp_path / "groups.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ArchError, match=message) as caught:
        grouping_of(CELL64, f"list:{path}")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("rndom:3", UnknownNameError, "no grouping named 'rndom'. Did you mean random"),
        ("", UnknownNameError, "no grouping named ''"),
        ("random", OptionError, "ends after random"),
        ("random:", OptionError, "ends after random"),
        ("random:x", OptionError, "must have numbers"),
        ("random:3:4:5", OptionError, "must have numbers"),
        ("consecutive:3:4", OptionError, "must have numbers"),
        ("random:" + "9" * 5000, OptionError, "must have numbers"),
        ("random:0", OptionError, "has 0 groups; there may be 1 to 1024"),
        ("random:65", OptionError, "cannot split 64 archs into 65 parts"),
        ("random:2:99999999999", OptionError, "seed is 99999999999"),
        ("consecutive:1025", OptionError, "there may be 1 to 1024"),
        ("by:0->9", UnknownNameError, "named '0->9'. Did you mean 0->"),
        ("by:0->1,0->1", OptionError, "names a decision twice"),
        ("list:/no/such/file", ArchError, "cannot be read"),
    ],
)
def test_bad_groupings_are_refused(text, error, message):
    with pytest.raises(error, match=message) as caught:
        grouping_of(CELL64, text)
    assert len(str(caught.value)) < 400


def test_spaces_too_large_to_list_are_grouped_by_decisions():
    with pytest.raises(OptionError, match="too many to list for 'random:3:42'; group by:DECISION"):
        grouping_of(SPACES["darts"], "random:3")
    darts = SPACES["darts"]
    names = ",".join(d.name for d in darts.decisions[:6])
    with pytest.raises(OptionError, match=r"has \d+ groups"):
        grouping_of(darts, f"by:{names}")
