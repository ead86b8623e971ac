from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsx.data import Dataset, ImageSet
from wsx.data.sampling import stratified
from wsx.errors import DataError, OptionError, ShapeError


def make(n=30, *, split="train", first_id=0, seed=0, n_classes=3, n_channels=3, source="train"):
    generator = np.random.default_rng(seed)
    return ImageSet(
        dataset="toy",
        split=split,
        pixels=generator.integers(0, 256, (n, n_channels, 4, 5), dtype=np.uint8),
        labels=np.arange(n, dtype=np.int64) % n_classes,
        ids=np.arange(first_id, first_id + n, dtype=np.int64),
        source=source,
        class_names=tuple("abcdefg"[:n_classes]),
        mean=(0.4, 0.5, 0.6)[:n_channels],
        std=(0.2, 0.25, 0.3)[:n_channels],
    )


def test_properties():
    images = make()
    assert len(images) == 30
    assert (images.n_classes, images.n_channels, images.image_size) == (3, 3, (4, 5))


def test_floats_equal_the_formula_written_out():
    images = make()
    floats = images.floats(5, 9)
    assert floats.dtype == np.float32
    assert floats.flags.c_contiguous
    assert floats.shape == (4, 3, 4, 5)
    for i, c, y, x in np.ndindex(floats.shape):
        expected = (int(images.pixels[5 + i, c, y, x]) / 255 - images.mean[c]) / images.std[c]
        assert floats[i, c, y, x] == np.float32(expected)
    assert images.floats().shape == images.pixels.shape


def test_digest_is_stable_and_sees_every_change():
    images = make()
    assert images.digest == make().digest
    pixels, labels, ids = images.pixels.copy(), images.labels.copy(), images.ids.copy()
    pixels[-1, -1, -1, -1] ^= 1
    labels[0] = (labels[0] + 1) % 3
    ids[7] = 99
    changed = [
        replace(images, pixels=pixels),
        replace(images, labels=labels),
        replace(images, ids=ids),
        replace(images, dataset="other"),
        replace(images, source="test"),
        replace(images, pixels=images.pixels.reshape(30, 3, 5, 4)),
        images.take(29),
    ]
    assert len({images.digest, *(other.digest for other in changed)}) == len(changed) + 1


def test_digest_does_not_depend_on_memory_layout_or_split_name():
    images = make()
    fortran = replace(images, pixels=np.asfortranarray(images.pixels), split="valid")
    assert fortran.digest == images.digest


def test_take_first_and_stratified():
    images = make()
    assert images.take(4).ids.tolist() == [0, 1, 2, 3]
    sample = images.take(9, seed=1)
    assert np.bincount(sample.labels).tolist() == [3, 3, 3]
    assert sample.digest == images.take(9, seed=1).digest
    assert sample.digest != images.take(9, seed=2).digest
    for position, row in enumerate(sample.ids):
        assert np.array_equal(sample.pixels[position], images.pixels[row])
        assert sample.labels[position] == images.labels[row]


def test_take_refuses_too_many_and_too_few():
    with pytest.raises(DataError, match=r"cannot take 31 images.* has 30"):
        make().take(31)
    with pytest.raises(DataError, match="has 30"):
        make().take(31, seed=0)
    with pytest.raises(OptionError, match="cannot take 0"):
        make().take(0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pixels": np.zeros((30, 3, 4, 5), np.float32)}, ShapeError, "uint8"),
        ({"pixels": np.zeros((30, 3, 4), np.uint8)}, ShapeError, "uint8"),
        ({"labels": np.zeros(29, np.int64)}, ShapeError, "labels"),
        ({"labels": np.zeros(30, np.int32)}, ShapeError, "labels"),
        ({"ids": np.zeros((30, 1), np.int64)}, ShapeError, "ids"),
        ({"ids": np.zeros(30, np.int64)}, DataError, "id twice"),
        ({"labels": np.full(30, 3)}, DataError, "from 3 to 3, but there are 3 classes"),
        ({"labels": np.full(30, -1)}, DataError, "from -1"),
        ({"mean": (0.5,)}, ShapeError, "3 channels"),
        ({"std": (0.2, 0.0, 0.3)}, DataError, "constant"),
        ({"std": (0.2, float("nan"), 0.3)}, DataError, "constant"),
    ],
)
def test_images_that_do_not_fit_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        replace(make(), **change)


def test_empty_split_is_refused():
    with pytest.raises(DataError, match="no image"):
        make(0)


def dataset(**changes):
    splits = {
        "train": make(),
        "valid": make(split="valid", first_id=30, seed=1),
        "test": make(split="test", seed=2, source="test"),
    }
    return Dataset("toy", "toy", **{**splits, **changes})


def test_dataset_of_disjoint_splits():
    assert len(dataset().test) == 30


def test_dataset_refuses_shared_ids_copies_and_other_shapes():
    with pytest.raises(DataError, match="share 1 images, such as row 29"):
        dataset(valid=make(split="valid", first_id=29, seed=1))
    with pytest.raises(DataError, match="every image of 'toy' valid is also in train"):
        dataset(valid=make(split="valid", source="valid").take(5))
    with pytest.raises(ShapeError, match="classes"):
        dataset(test=make(split="test", seed=2, source="test", n_classes=4))
    with pytest.raises(ShapeError, match="shape"):
        dataset(test=make(split="test", seed=2, source="test", n_channels=1))


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_stratified_keeps_every_share_within_one(labels, share, seed):
    labels = np.array(labels, np.int64)
    n = max(1, round(share * labels.size))
    chosen = stratified(labels, n, np.random.default_rng(seed))
    assert chosen.size == n
    assert np.all(np.diff(chosen) > 0)
    for label in range(6):
        fair = n * np.sum(labels == label) / labels.size
        assert abs(np.sum(labels[chosen] == label) - fair) < 1


def test_stratified_draws_every_image_equally_often():
    labels = np.array([0] * 6 + [1] * 3 + [2], np.int64)
    generator = np.random.default_rng(0)
    n_draws = 4000
    counts = np.zeros(10)
    for _ in range(n_draws):
        counts[stratified(labels, 5, generator)] += 1
    # Quotas 3, 1.5, 0.5: the half image goes to either class by a fair draw.
    assert np.all(np.abs(counts / n_draws - 0.5) < 5 * np.sqrt(0.25 / n_draws))


def test_stratified_refuses_impossible_numbers():
    for n in (0, 4):
        with pytest.raises(DataError, match=f"cannot draw {n} of 3"):
            stratified(np.zeros(3, np.int64), n, np.random.default_rng(0))
