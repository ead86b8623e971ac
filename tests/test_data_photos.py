import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from wsx.data import load_data, photos
from wsx.data.hub import _holds_images
from wsx.data.photos import LazyPixels
from wsx.errors import DataError
from wsx.studies.images import ImageChoice

CLASSES = ("ant", "bee")
SIZE = 6


def write_photos(root, n=12, splits=("train", "val")):
    """Photographs of as many sizes, some of them grey."""
    for index, split in enumerate(splits):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                rng = np.random.default_rng([index, label, i])
                shape = (8 + i % 5, 7 + i % 3) if i % 4 == 0 else (8 + i % 5, 7 + i % 3, 3)
                pixels = rng.integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return f"bugs={root}"


def load(spec, **options):
    return load_data(spec, n_valid=6, image_size=SIZE, **options)


@pytest.fixture
def stays_on_disk(monkeypatch):
    monkeypatch.setattr(photos, "IN_MEMORY_BYTES", 3 * SIZE * SIZE * 5)


@pytest.fixture
def counted(monkeypatch):
    """How many images were decoded, call by call."""
    counts = []
    decode = photos._decode

    def count(split, ids, image_size):
        counts.append(len(ids))
        return decode(split, ids, image_size)

    monkeypatch.setattr(photos, "_decode", count)
    return counts


def test_a_split_on_disk_is_the_array_that_it_stands_for(tmp_path, stays_on_disk, monkeypatch):
    spec = write_photos(tmp_path)
    on_disk = load(spec)
    monkeypatch.undo()
    in_memory = load(spec)
    for name in ("train", "valid", "test"):
        lazy, array = getattr(on_disk, name), getattr(in_memory, name)
        assert isinstance(lazy.pixels, LazyPixels)
        assert isinstance(array.pixels, np.ndarray)
        assert lazy.pixels.shape == array.pixels.shape
        assert lazy.pixels.size == array.pixels.size
        assert lazy.digest == array.digest
        assert (lazy.mean, lazy.std) == (array.mean, array.std)
        assert (lazy.n_channels, lazy.image_size, len(lazy.pixels)) == (3, (SIZE, SIZE), len(array))
        assert np.array_equal(lazy.floats(2, 5), array.floats(2, 5))
        assert lazy.floats(3, 3).shape == (0, 3, SIZE, SIZE)
        assert np.array_equal(lazy.pixels[np.array([4, 0, 4])], array.pixels[[4, 0, 4]])


def test_grey_images_alone_have_three_channels_on_disk(tmp_path, stays_on_disk):
    spec = write_photos(tmp_path)
    for path in tmp_path.rglob("*.png"):
        with Image.open(path) as image:
            image.convert("L").save(path)
    pixels = load(spec).train.pixels[:3]
    assert pixels.shape == (3, 3, SIZE, SIZE)
    assert np.array_equal(pixels[:, 0], pixels[:, 2])


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path, stays_on_disk, counted):
    data = load(write_photos(tmp_path))
    # The training images that means are measured on, here all of them.
    assert counted == [18]
    data.test.floats(0, 2)
    few = data.test.take(4)
    many = ImageChoice("test", 9).images(data)
    assert counted == [18, 2, 4]
    assert isinstance(few.pixels, np.ndarray)
    assert isinstance(many.pixels, LazyPixels)
    assert np.array_equal(many.pixels[:4], few.pixels)


def test_means_of_many_images_are_those_of_the_first(tmp_path, stays_on_disk, counted, monkeypatch):
    monkeypatch.setattr("wsx.data.load._N_MEASURED", 7)
    train = load(write_photos(tmp_path)).train
    assert counted == [7]
    floats = train.take(5).pixels
    assert floats.shape[0] == 5
    mean = train.pixels[:7].mean(axis=(0, 2, 3)) / 255
    np.testing.assert_allclose(train.mean, mean, rtol=1e-12)


def test_a_split_on_disk_travels_as_an_array(tmp_path, stays_on_disk):
    train = load(write_photos(tmp_path)).train
    copy = pickle.loads(pickle.dumps(train))
    assert isinstance(copy.pixels, np.ndarray)
    assert copy.read_photos is None
    assert copy.digest == train.digest


def test_a_photograph_that_breaks_later_is_named(tmp_path, stays_on_disk):
    data = load(write_photos(tmp_path))
    for path in (tmp_path / "val").rglob("03.png"):
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"03\.png: not a readable image"):
        data.test.floats()


def test_photographs_come_whole_and_by_id(tmp_path):
    train = load(write_photos(tmp_path)).train
    rows = np.array([3, 0, 5])
    for photo, row in zip(train.read_photos(train.ids[rows]), rows, strict=True):
        label, number = divmod(int(train.ids[row]), 12)
        with Image.open(tmp_path / "train" / CLASSES[label] / f"{number:02}.png") as image:
            assert np.array_equal(photo, np.array(image))
    taken = train.take(4)
    assert np.array_equal(taken.read_photos(taken.ids[:1])[0], train.read_photos(train.ids[:1])[0])
    assert load(f"bugs={tmp_path}").valid.read_photos is None


def test_differing_sizes_are_told_by_the_first_images(tmp_path, counted):
    spec = write_photos(tmp_path, n=40)
    with pytest.raises(DataError, match="choose one with image_size"):
        load_data(spec)
    assert counted == [64]


def write_table(path, n=10):
    files = [path.with_name(f"{i}.png") for i in range(n)]
    for i, file in enumerate(files):
        rng = np.random.default_rng([5, i, len(path.stem)])
        Image.fromarray(rng.integers(0, 256, (9, 8 + i % 2, 3), dtype=np.uint8)).save(file)
    rows = {
        "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
        "label": [i % 2 for i in range(n)],
    }
    for file in files:
        file.unlink()
    pq.write_table(pa.table(rows), path)


def test_tables_give_photographs_and_are_read_once(tmp_path, monkeypatch):
    for split in ("train", "test"):
        write_table(tmp_path / f"{split}.parquet")
    train = load_data(f"t={tmp_path}", n_valid=2, image_size=SIZE).train
    monkeypatch.setattr(pq, "ParquetFile", None)
    shapes = {photo.shape for photo in train.read_photos(train.ids)}
    assert shapes == {(9, 8, 3), (9, 9, 3)}


def test_a_table_beyond_what_is_kept_is_read_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("wsx.data.tables._KEPT_BYTES", 10)
    for split in ("train", "test"):
        write_table(tmp_path / f"{split}.parquet")
    train = load_data(f"t={tmp_path}", n_valid=2, image_size=SIZE).train
    first, again = (train.read_photos(train.ids[:3]) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_hub_tables_that_hold_their_images_are_told():
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    whole = [{"bytes": b"x", "path": None}] * 2
    for rows, expected in ((whole, True), ([*whole, {"bytes": None, "path": "a.png"}], False)):
        table = pa.table({"image": pa.array(rows, kind), "label": list(range(len(rows)))})
        assert _holds_images(table) is expected


def test_real_photographs(shared_data):
    data = load_data(
        f"clothes={shared_data / 'imagefolder'}", image_size=32, n_train=40, n_valid=20, n_test=20
    )
    assert data.train.pixels.shape == (40, 3, 32, 32)
    sizes = {photo.shape for photo in data.train.read_photos(data.train.ids[:12])}
    assert len(sizes) > 1
    assert {min(size[:2]) for size in sizes} == {160}
