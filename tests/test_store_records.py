import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_store_samples import assert_same_table, make_failed, make_key, make_score

from wsx.errors import OptionError, ShapeError, StoreError
from wsx.store import Score, ScoreKey, ScoreTable


def test_digest_is_pinned() -> None:
    # A changed digest would silently start new campaigns in everybody's files.
    assert make_key().digest() == "a01722d846173bddd64d9a662ec44dc9a6192ae0c931d1c33c2a3d09dfda7a9c"


def test_digest_tells_every_field_apart() -> None:
    keys = [make_key(), make_key(batch_size=64)]
    keys += [make_key(**{name: "x"}) for name in make_key().as_dict() if name != "batch_size"]
    assert len({key.digest() for key in keys}) == len(keys) == 10


def test_key_from_dict_is_strict() -> None:
    values = make_key().as_dict()
    assert ScoreKey.from_dict(values) == make_key()
    with pytest.raises(StoreError, match=r"missing fields \['bn'\]"):
        ScoreKey.from_dict({name: value for name, value in values.items() if name != "bn"})
    with pytest.raises(StoreError, match=r"unknown fields \['seed'\]"):
        ScoreKey.from_dict({**values, "seed": 1})
    with pytest.raises(StoreError, match="batch_size must be an int"):
        ScoreKey.from_dict({**values, "batch_size": "64"})


@pytest.mark.parametrize("value", ["a\x00b", "\ud800", "x" * 8193, 3])
def test_key_refuses_what_cannot_be_stored(value: Any) -> None:
    with pytest.raises(OptionError, match="dataset"):
        make_key(dataset=value)


def test_differences_name_each_field() -> None:
    assert make_key().differences(make_key()) == []
    assert make_key().differences(make_key(bn="batch", batch_size=64)) == [
        "bn: 'calibrated:4x256' != 'batch'",
        "batch_size: 0 != 64",
    ]


def test_score_takes_numpy_scalars_and_keeps_plain_numbers() -> None:
    score = make_score((1, 2), correct=np.int32(3), loss_sum=np.float32(0.5), params=np.int64(7))
    assert [type(v) for v in (score.correct, score.loss_sum, score.params)] == [int, float, int]
    assert make_score(tuple(np.array([1, 2], dtype=np.int8))) == make_score((1, 2))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "done"),
        ("text", "a\x00"),
        ("text", "\udcff"),
        ("text", "x" * 8193),
        ("flops", 2**63),
        ("params", -2),
    ],
)
def test_score_refuses_what_cannot_be_stored(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=name):
        make_score((1,), **{name: value})


@given(st.text(alphabet=st.characters(), max_size=50))
def test_any_error_message_makes_a_row(error: str) -> None:
    score = make_failed((0,), error=error)
    assert "\x00" not in score.error
    assert score.error.encode().decode() == score.error


def test_long_error_is_clipped() -> None:
    assert make_failed((0,), error="é" * 10**6).error == "é" * 2000


def test_accuracy_is_nan_unless_ok() -> None:
    table = ScoreTable.from_scores(
        make_key(), {}, np.arange(11), [make_score((0,)), make_failed((1,)), make_score((2,))]
    )
    scores = [table.score(i) for i in range(3)]
    expected = [scores[0].correct / 11, math.nan, scores[2].correct / 11]
    np.testing.assert_array_equal(table.accuracy, expected)
    np.testing.assert_array_equal([score.accuracy for score in scores], expected)
    assert table.ok.tolist() == [True, False, True]


def test_outcomes_unpack_to_the_image_axis() -> None:
    score = make_score((3, 1), n_images=13)
    outcomes = ScoreTable.from_scores(make_key(), {}, np.arange(13), [score]).outcomes()
    slow = [bool(score.bits[i // 8] >> (7 - i % 8) & 1) for i in range(13)]
    assert outcomes.tolist() == [slow]
    assert sum(slow) == score.correct


def test_merging_replaces_in_place() -> None:
    def table(*scores: Score) -> ScoreTable:
        return ScoreTable.from_scores(make_key(), {}, np.arange(11), scores)

    old = table(make_score((0, 0)), make_failed((0, 1)), make_score((0, 2)))
    new = table(make_score((0, 3)), make_score((0, 1), seed=5), make_score((0, 3), seed=6))
    expected = table(
        make_score((0, 0)),
        make_score((0, 1), seed=5),
        make_score((0, 2)),
        make_score((0, 3), seed=6),
    )
    assert_same_table(old.merged(new), expected)
    assert_same_table(table().merged(table()), table())


def test_table_refuses_scores_that_do_not_fit() -> None:
    for scores in ([make_score((0,)), make_score((0, 1))], [make_score((0,), n_images=20)]):
        with pytest.raises(ShapeError, match="one length and 0 or 2 bytes"):
            ScoreTable.from_scores(make_key(), {}, np.arange(11), scores)
