import itertools
import threading

import numpy as np
import pytest

from wsx.errors import ExportError
from wsx.exporters.weights import ALIGNMENT, WEIGHT_FILE, WeightFile

RNG = np.random.default_rng(0)
TENSORS = {
    "a": RNG.standard_normal((3, 5)).astype(np.float32),
    "b": RNG.standard_normal(7),
    "scalar": np.array(2.5, dtype=np.float32),
    "empty": np.zeros((0, 4), dtype=np.float32),
    "counts": np.arange(9),
    "transposed": RNG.standard_normal((4, 6)).astype(np.float32).T,
}


def test_weights_lie_aligned_apart_and_unchanged():
    weights = WeightFile(TENSORS)
    ends = 0
    for name, tensor in TENSORS.items():
        place = weights[name]
        assert place.offset % ALIGNMENT == 0
        assert place.offset >= ends
        assert (place.shape, place.dtype, place.n_bytes) == (
            tensor.shape,
            tensor.dtype,
            tensor.nbytes,
        )
        ends = place.offset + place.n_bytes
        np.testing.assert_array_equal(weights.array(name), tensor)
    assert weights.n_bytes == weights.buffer.nbytes >= ends
    assert set(weights.places) == set(TENSORS)
    assert "a" in weights
    assert "c" not in weights


def test_the_file_holds_raw_little_endian_values(tmp_path):
    weights = WeightFile(TENSORS)
    weights.write(tmp_path)
    raw = (tmp_path / WEIGHT_FILE).read_bytes()
    place = weights["a"]
    values = np.frombuffer(raw[place.offset : place.offset + place.n_bytes], dtype="<f4")
    np.testing.assert_array_equal(values.reshape(3, 5), TENSORS["a"])
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHT_FILE]


def test_derived_weights_are_stored_once_per_content_and_never_move():
    weights = WeightFile(TENSORS)
    first = weights.add_derived(TENSORS["a"][:2])
    place = weights[first]
    early = weights.buffer
    names = [weights.add_derived(np.full((50, 20), i, dtype=np.float32)) for i in range(40)]
    assert len(set(names)) == 40
    assert weights.add_derived(TENSORS["a"][:2].copy()) == first
    assert weights.add_derived(TENSORS["a"][:1]) != first
    # The same bytes in another shape or of another type are another weight.
    assert weights.add_derived(TENSORS["a"][:2].reshape(5, 2)) != first
    assert weights[first] is place
    np.testing.assert_array_equal(weights.buffer[: early.nbytes], early)
    for i, name in enumerate(names):
        assert weights[name].offset % ALIGNMENT == 0
        assert (weights.array(name) == i).all()


def test_threads_may_add_at_once():
    weights = WeightFile(TENSORS)
    arrays = [np.full(i % 17 + 1, i % 50, dtype=np.float32) for i in range(400)]
    found = [{} for _ in range(4)]
    start = threading.Barrier(4)

    def add(mine, order):
        start.wait()
        for i in order:
            mine[i] = weights.add_derived(arrays[i])
            np.testing.assert_array_equal(weights.array(mine[i]), arrays[i])

    orders = [np.random.default_rng(seed).permutation(400) for seed in range(4)]
    threads = [threading.Thread(target=add, args=pair) for pair in zip(found, orders, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1] == found[2] == found[3]
    assert len(found[0]) == 400
    places = sorted((weights[name] for name in set(found[0].values())), key=lambda p: p.offset)
    assert len(places) == len({(a.shape, a[0]) for a in arrays})
    for before, after in itertools.pairwise(places):
        assert before.offset + before.n_bytes <= after.offset


@pytest.mark.parametrize("dtype", [np.float16, np.bool_, np.int32, np.complex64, ">f4"])
def test_other_types_are_refused(dtype):
    with pytest.raises(ExportError, match=r"weight w is .*; subnets are exported from float32"):
        WeightFile({"w": np.zeros(3, dtype=dtype)})
    with pytest.raises(ExportError, match="exported from float32"):
        WeightFile({}).add_derived(np.zeros(3, dtype=dtype))


def stored(weights):
    named = {n: p for n, p in weights.places.items() if n.startswith("derived.")}
    return WeightFile.from_buffer(weights.buffer.copy(), named)


def test_adopted_derived_weights_keep_their_places():
    old = WeightFile(TENSORS)
    arrays = [np.full(i + 1, i, dtype=np.float32) for i in range(20)]
    names = [old.add_derived(array) for array in arrays]
    new = WeightFile(TENSORS)
    new.adopt(stored(old))
    # Another order than the first time: the places are those of the file.
    again = [new.add_derived(array) for array in reversed(arrays)][::-1]
    assert again == names
    assert [new[name] for name in names] == [old[name] for name in names]
    extra = new.add_derived(np.full(300, 7, dtype=np.float32))
    assert new[extra].offset >= old.n_bytes
    for name, array in zip(names, arrays, strict=True):
        np.testing.assert_array_equal(new.array(name), array)


@pytest.mark.parametrize("change", ["value", "shorter", "empty"])
def test_other_weights_are_not_adopted(change):
    buffer = WeightFile(TENSORS).buffer.copy()
    if change == "value":
        buffer[1] ^= 1
    else:
        buffer = buffer[: {"shorter": -ALIGNMENT, "empty": 0}[change]]
    with pytest.raises(ExportError, match="holds other weights than the checkpoint"):
        WeightFile(TENSORS).adopt(WeightFile.from_buffer(buffer, {}))


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    old = WeightFile(TENSORS)
    old.write(tmp_path)
    before = (tmp_path / WEIGHT_FILE).read_bytes()

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        WeightFile({"a": np.ones(1000, dtype=np.float32)}).write(tmp_path)
    assert (tmp_path / WEIGHT_FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHT_FILE]
