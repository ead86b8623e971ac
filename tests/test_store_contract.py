"""The same calls on the store in memory and on the HDF5 store; what comes back must be the same."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_store_samples import assert_same_table, make_failed, make_key, make_score

from wsx.errors import OptionError, ShapeError, StoreError, StoreKeyError
from wsx.store import HDF5Store, MemoryStore, Score, ScoreStore, open_store, require_same_key
from wsx.store.memory import _MemoryCampaign

IDS = np.arange(100, 111)


@pytest.fixture(params=["memory", "hdf5"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ScoreStore]:
    opened: ScoreStore
    opened = (
        MemoryStore()
        if request.param == "memory"
        else HDF5Store(tmp_path / "scores.h5", "a", fold_rows=3)
    )
    with opened:
        yield opened


def check_contract(store: ScoreStore) -> None:
    """Append, fail, retry and reopen, and compare with a plain dict that does the same."""
    model: dict[tuple[int, ...], Score] = {}
    campaign = store.campaign(make_key(), image_ids=IDS, info={"seed": 0})
    batches: list[list[Score]] = [
        [make_score((0, 0)), make_failed((0, 1))],
        [],
        [make_score((1, 0))],
        [make_score((0, 1)), make_score((2, 2), status="not-finite", loss_sum=math.inf)],
        [make_failed((3, 3)), make_score((1, 1), function_key=make_score((0, 0)).function_key)],
        [make_score((1, 0), seed=9)],
    ]
    for n_batch, batch in enumerate(batches):
        campaign.append(batch)
        model |= {score.arch: score for score in batch}
        if n_batch == 3:
            campaign = store.campaign(make_key(), image_ids=IDS, info={"seed": 0})
        table = campaign.table()
        assert [tuple(row) for row in table.arch.tolist()] == list(model)
        for index, score in enumerate(model.values()):
            stored = table.score(index)
            assert stored.bits == (score.bits or bytes(2))
            np.testing.assert_equal({**vars(stored), "bits": b""}, {**vars(score), "bits": b""})
    assert campaign.finished() == {(0, 0), (0, 1), (1, 0), (2, 2), (1, 1)}
    known = campaign.known_functions()
    assert known == {model[arch].function_key: model[arch] for arch in [(0, 0), (0, 1), (1, 0)]}
    assert store.keys() == [make_key()]
    assert_same_table(store.read(), campaign.table())


def test_contract(store: ScoreStore) -> None:
    check_contract(store)


class _KeepsOldRow(_MemoryCampaign):
    def _keep(self, scores: Sequence[Score]) -> None:
        done = self.finished()
        super()._keep([score for score in scores if score.arch not in done])


class _DropsFailed(_MemoryCampaign):
    def _keep(self, scores: Sequence[Score]) -> None:
        super()._keep([score for score in scores if score.status != "failed"])


class _Reorders(_MemoryCampaign):
    def _keep(self, scores: Sequence[Score]) -> None:
        super()._keep(scores[::-1])


class _FlipsABit(_MemoryCampaign):
    def _keep(self, scores: Sequence[Score]) -> None:
        flipped = [
            replace(s, bits=bytes([s.bits[0] ^ 1, s.bits[1]])) if s.bits else s for s in scores
        ]
        super()._keep(flipped)


@pytest.mark.parametrize("broken", [_KeepsOldRow, _DropsFailed, _Reorders, _FlipsABit])
def test_contract_can_fail(broken: type[_MemoryCampaign], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsx.store.memory._MemoryCampaign", broken)
    with pytest.raises(AssertionError):
        check_contract(MemoryStore())


texts = st.text(alphabet=st.characters(exclude_characters="\x00", codec="utf-8"), max_size=20)
floats = st.floats(allow_nan=True, width=64)


@st.composite
def scores(draw: st.DrawFn) -> Score:
    status = draw(st.sampled_from(["ok", "failed", "not-finite"]))
    changes: dict[str, Any] = {
        "text": draw(texts),
        "function_key": draw(texts),
        "loss_sum": draw(floats),
        "seconds_run": draw(floats),
        "error": draw(st.one_of(st.text(max_size=10), st.just("x" * 3000))),
        "status": status,
        "params": draw(st.integers(-1, 2**63 - 1)),
    }
    if status != "ok" and draw(st.booleans()):
        changes |= {"bits": b"", "correct": 0, "total": draw(st.integers(0, 11))}
    arch = draw(st.tuples(st.integers(-(2**15), 2**15 - 1), st.integers(0, 3)))
    return make_score(arch, seed=draw(st.integers(0, 9)), **changes)


@settings(max_examples=15, deadline=None)
@given(
    batches=st.lists(st.tuples(st.integers(0, 2), st.lists(scores(), max_size=4)), max_size=4),
    fold_rows=st.integers(1, 8),
)
def test_twins_agree(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[tuple[int, list[Score]]],
    fold_rows: int,
) -> None:
    path = tmp_path_factory.mktemp("twins") / "scores.h5"
    memory = MemoryStore()
    with HDF5Store(path, "a", fold_rows=fold_rows) as disk:
        for store in (memory, disk):
            for seed, batch in batches:
                key = make_key(dataset=f"d{seed}")
                store.campaign(key, image_ids=IDS, info={"seed": seed}).append(batch)
        keys = memory.keys()
        assert disk.keys() == keys
        with open_store(path) as reader:
            for key in keys:
                assert_same_table(reader.read(key), memory.read(key))
                assert_same_table(disk.read(key), memory.read(key))
    assert [p.name for p in path.parent.iterdir()] == (["scores.h5"] if batches else [])
    if batches:
        with open_store(path) as reader:
            assert reader.keys() == keys
            for key in keys:
                assert_same_table(reader.read(key), memory.read(key))


def test_read_picks_a_campaign(store: ScoreStore) -> None:
    with pytest.raises(StoreError, match=r"no campaigns(.|\n)*empty"):
        store.read()
    keys = [make_key(), make_key(bn="batch", batch_size=64)]
    for n_scores, key in enumerate(keys, 1):
        campaign = store.campaign(key, image_ids=IDS, info={})
        campaign.append([make_score((i,)) for i in range(n_scores)])
    assert store.keys() == keys
    assert len(store.read(keys[0])) == len(store.read(keys[0].digest()[:9])) == 1
    assert len(store.read(keys[1].digest())) == 2
    with pytest.raises(StoreError, match="holds 2 campaigns") as error:
        store.read()
    assert all(key.digest()[:16] in str(error.value) for key in keys)
    with pytest.raises(StoreError, match="'zz' fits no campaigns"):
        store.read("zz")
    with pytest.raises(StoreError, match="no campaigns"):
        store.read(make_key(space="darts"))


def test_campaign_without_scores_is_kept(store: ScoreStore) -> None:
    table = store.campaign(make_key(), image_ids=IDS, info={"n": 5}).table()
    assert (len(table), table.arch.shape, table.bits.shape) == (0, (0, 0), (0, 2))
    assert table.outcomes().shape == (0, 11)
    assert table.accuracy.shape == (0,)
    assert store.keys() == [make_key()]


def test_other_images_are_refused(store: ScoreStore) -> None:
    store.campaign(make_key(), image_ids=IDS, info={})
    with pytest.raises(StoreKeyError, match="11 images, these 11 are others"):
        store.campaign(make_key(), image_ids=IDS[::-1], info={})


@pytest.mark.parametrize("ids", [[], [[1, 2]], [0.5], ["a"]])
def test_image_ids_must_be_integers(store: ScoreStore, ids: Any) -> None:
    with pytest.raises(ShapeError, match="image_ids"):
        store.campaign(make_key(), image_ids=ids, info={})


@pytest.mark.parametrize("info", [{"x": math.nan}, {"x": object()}])
def test_info_must_be_json(store: ScoreStore, info: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="JSON"):
        store.campaign(make_key(), image_ids=IDS, info=info)


def test_info_grows_with_resumptions(store: ScoreStore) -> None:
    for info in ({"seed": 0}, {"seed": 1}, {"seed": 0}, {"seed": 1}, {"seed": 2}):
        campaign = store.campaign(make_key(), image_ids=IDS, info=info)
        campaign.append([make_score((info["seed"],))])
    assert store.read().info == {"seed": 0, "resumed": [{"seed": 1}, {"seed": 2}]}


def test_info_may_be_long(store: ScoreStore) -> None:
    info = {"command": "é" * 200_000}
    store.campaign(make_key(), image_ids=IDS, info=info).append([make_score((0,))] * 5)
    assert store.read().info == info


WRONG: dict[str, tuple[Callable[[], Score], type[Exception], str]] = {
    "decisions": (lambda: make_score((1, 2, 3)), StoreKeyError, "3 decisions.*have 2"),
    "int16": (lambda: make_score((1, 2**15)), StoreError, "int16"),
    "bits missing": (lambda: make_score((1, 1), bits=b""), StoreError, "0 bytes of outcomes"),
    "bits long": (lambda: make_failed((1, 1), bits=bytes(3)), StoreError, "3 bytes"),
    "count": (lambda: make_score((1, 1), correct=1), StoreError, "contradicts itself: 1 of 11"),
    "total": (lambda: make_score((1, 1), total=10), StoreError, "contradicts|counts"),
    "padding": (
        lambda: make_score((1, 1), bits=b"\x00\x01", correct=1),
        StoreError,
        "contradicts itself",
    ),
    "negative": (lambda: make_failed((1, 1), correct=-1), StoreError, "-1 of 0"),
    "too many": (lambda: make_failed((1, 1), total=12), StoreError, "0 of 12"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_scores_add_nothing(store: ScoreStore, name: str) -> None:
    wrong, kind, message = WRONG[name]
    campaign = store.campaign(make_key(), image_ids=IDS, info={})
    campaign.append([make_score((0, 0))])
    with pytest.raises(kind, match=message):
        campaign.append([make_score((5, 5)), wrong()])
    assert campaign.finished() == {(0, 0)}


def test_decision_count_survives_reopening(store: ScoreStore) -> None:
    store.campaign(make_key(), image_ids=IDS, info={}).append([make_score((0, 0))])
    again = store.campaign(make_key(), image_ids=IDS, info={})
    with pytest.raises(StoreKeyError, match="1 decisions"):
        again.append([make_score((0,))])


def test_closed_store_refuses(store: ScoreStore) -> None:
    campaign = store.campaign(make_key(), image_ids=IDS, info={})
    campaign.append([make_score((0,))])
    store.close()
    store.close()
    with pytest.raises(StoreError, match="open"):
        campaign.append([make_score((1,))])
    with pytest.raises(StoreError, match="open"):
        store.campaign(make_key(space="x"), image_ids=IDS, info={})
    assert campaign.finished() == {(0,)}


def test_require_same_key_names_the_fields() -> None:
    require_same_key(make_key(), make_key())
    with pytest.raises(StoreKeyError, match="bn: 'calibrated:4x256' != 'batch'"):
        require_same_key(make_key(), make_key(bn="batch"))
