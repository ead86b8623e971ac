import io
import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from wsx.data import load_data
from wsx.errors import DataError, UnknownNameError


def encode(array):
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def pixels(n, seed, shape=(6, 5, 3)):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def table(arrays, labels, names=("cat", "dog"), image="img", label="label"):
    images = pa.array([{"bytes": encode(a), "path": None} for a in arrays], IMAGE)
    features = {image: {"_type": "Image"}, label: {"_type": "ClassLabel", "names": names}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.table({image: images, label: labels}).replace_schema_metadata(
        metadata if names else None
    )


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TRAIN, TEST = pixels(20, 0), pixels(6, 1)
LABELS, TEST_LABELS = [0, 1] * 10, [0, 1] * 3


def write(folder, train=None, test=None):
    pq.write_table(table(TRAIN, LABELS) if train is None else train, folder / "train.parquet")
    pq.write_table(table(TEST, TEST_LABELS) if test is None else test, folder / "test.parquet")
    return f"toy={folder}"


def check(images, arrays, labels):
    for position, row in enumerate(images.ids):
        assert np.array_equal(images.pixels[position], arrays[row].transpose(2, 0, 1))
        assert images.labels[position] == labels[row]


def test_parquet_folder_gives_the_pixels_and_labels_written(tmp_path):
    before = sorted(tmp_path.iterdir())
    data = load_data(write(tmp_path), n_valid=4)
    assert data.train.class_names == ("cat", "dog")
    assert [len(s) for s in (data.train, data.valid, data.test)] == [16, 4, 6]
    assert (data.name, data.valid.source, data.test.source) == ("toy", "train", "test")
    check(data.train, TRAIN, LABELS)
    check(data.valid, TRAIN, LABELS)
    check(data.test, TEST, TEST_LABELS)
    names = {path.name for path in tmp_path.iterdir()} - {path.name for path in before}
    assert names == {"train.parquet", "test.parquet"}


def test_shards_are_joined_in_order(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    whole = table(TRAIN, LABELS)
    for index, (start, n) in enumerate([(0, 7), (7, 0), (7, 13)]):
        shard = folder / f"train-0000{index}-of-00003.parquet"
        pq.write_table(whole.slice(start, n), shard, row_group_size=3)
    pq.write_table(table(TEST, TEST_LABELS), folder / "test-00000-of-00001.parquet")
    (tmp_path / "README.md").write_text("passed over")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "statistics.parquet")
    data = load_data(f"toy={tmp_path}", n_valid=5)
    check(data.train, TRAIN, LABELS)
    (folder / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(DataError, match=r"'train' has 2 of 3 files"):
        load_data(f"toy={tmp_path}")


@pytest.mark.parametrize("kind", [pa.ipc.new_file, pa.ipc.new_stream])
def test_arrow_files_and_streams_equal_parquet(tmp_path, kind):
    (tmp_path / "p").mkdir()
    (tmp_path / "a").mkdir()
    expected = load_data(write(tmp_path / "p"))
    for name, content in [("train", table(TRAIN, LABELS)), ("test", table(TEST, TEST_LABELS))]:
        with kind(tmp_path / "a" / f"{name}.arrow", content.schema) as writer:
            writer.write_table(content, max_chunksize=4)
    found = load_data(f"toy={tmp_path / 'a'}")
    assert found.train.digest == expected.train.digest
    assert found.test.digest == expected.test.digest


def test_folder_that_datasets_saved_itself(tmp_path):
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    saved = datasets.DatasetDict(
        {
            name: datasets.Dataset.from_dict(
                {"image": [Image.fromarray(a) for a in arrays], "label": labels}, features=features
            )
            for name, arrays, labels in [
                ("train", TRAIN, LABELS),
                ("validation", TEST, TEST_LABELS),
            ]
        }
    )
    for name, split in saved.items():
        split.to_parquet(tmp_path / f"{name}-00000-of-00001.parquet")
    data = load_data(f"toy={tmp_path}", n_valid=2)
    check(data.train, TRAIN, LABELS)
    assert data.test.source == "valid"
    check(data.test, TEST, TEST_LABELS)


def test_one_file_needs_n_test(tmp_path):
    write(tmp_path)
    spec = f"toy={tmp_path / 'train.parquet'}"
    with pytest.raises(DataError, match="cut n_test of its 20 images"):
        load_data(spec)
    data = load_data(spec, n_test=6, n_valid=4)
    assert {s.source for s in (data.train, data.valid, data.test)} == {"all"}
    assert sorted([*data.train.ids, *data.valid.ids, *data.test.ids]) == list(range(20))
    check(data.test, TRAIN, LABELS)


def test_columns_are_found_or_chosen(tmp_path):
    both = table(TRAIN, LABELS, image="picture", label="coarse")
    extra = table(TRAIN, LABELS[::-1], image="picture", label="fine")
    features = {
        "picture": {"_type": "Image"},
        "coarse": {"_type": "ClassLabel", "names": ["a", "b"]},
        "fine": {"_type": "ClassLabel", "names": ["c", "d"]},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    both = both.append_column("fine", extra["fine"]).replace_schema_metadata(metadata)
    spec = f"toy={tmp_path / 'one.parquet'}"
    pq.write_table(both, tmp_path / "one.parquet")
    with pytest.raises(DataError, match=r"several label columns fit: coarse, fine; .*label_column"):
        load_data(spec, n_test=4)
    data = load_data(spec, n_test=4, label_column="fine")
    assert data.train.class_names == ("c", "d")
    check(data.train, TRAIN, LABELS[::-1])
    with pytest.raises(UnknownNameError, match=r"'fines'.*Did you mean fine"):
        load_data(spec, n_test=4, label_column="fines")
    with pytest.raises(DataError, match="'coarse' is int64, not encoded images"):
        load_data(spec, n_test=4, label_column="fine", image_column="coarse")
    with pytest.raises(DataError, match="labels must be integers"):
        load_data(spec, n_test=4, label_column="picture")


def test_plain_columns_without_metadata(tmp_path):
    plain = pa.table(
        {"image": [encode(a) for a in TRAIN], "labels": LABELS, "row": list(range(20))}
    )
    pq.write_table(plain, tmp_path / "one.parquet")
    data = load_data(f"toy={tmp_path / 'one.parquet'}", n_test=4)
    assert data.train.class_names == ("0", "1")
    check(data.train, TRAIN, LABELS)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (table(TRAIN, LABELS).drop_columns("label"), "no label column.*Columns: img"),
        (table(TRAIN, LABELS).drop_columns("img"), "no image column.*Columns: label"),
        (table(TRAIN, [0.5] * 20, names=None), "no label column"),
        (table(TRAIN, [None, *LABELS[1:]]), "train.parquet row 0 has no label"),
        (table(TRAIN, [*LABELS[:-1], 2]), "train.parquet row 19 has label 2, outside 0 to 1"),
        (table(TRAIN, [-1] * 20), "-1 marks data without labels"),
        (table(TRAIN, pa.array([2**63] * 20, pa.uint64())), "out of range"),
        (table(TRAIN, LABELS, names=("cat", "cow")), "has.*'cow'.*before it have.*'dog'"),
        (table(TRAIN, LABELS).slice(0, 0), "train split is empty"),
        (table(TRAIN, LABELS).slice(0, 1), "no training image is left"),
        (table(pixels(20, 0, (5, 6, 3)), LABELS), "train has 5x6, test has 6x5.*image_size"),
        (table([*pixels(19, 0), pixels(1, 0, (7, 7, 3))[0]], LABELS), "7x7.*; .*with image_size"),
        (table([*TEST, *TRAIN], TEST_LABELS + LABELS), "every image.* test is also in train"),
    ],
    ids=[
        "no label", "no image", "float label", "null label", "label range", "unlabelled", "uint64",
        "other names", "empty", "one row", "other size", "one other size", "copied test",
    ],
)  # fmt: skip
def test_wrong_tables_are_refused(tmp_path, train, message):
    with pytest.raises(DataError, match=message):
        load_data(write(tmp_path, train))


def test_unreadable_images_name_file_and_row(tmp_path):
    good = table(TRAIN, LABELS)
    for value, message in [
        (encode(TRAIN[3])[:-30], "train.parquet row 3: not a readable image"),
        (None, "train.parquet row 3 holds no image bytes"),
    ]:
        images = good["img"].to_pylist()
        images[3] = {"bytes": value, "path": "elsewhere.png"}
        bad = good.set_column(0, "img", pa.array(images, IMAGE))
        with pytest.raises(DataError, match=message):
            load_data(write(tmp_path, bad))


def test_damaged_and_missing_files_are_refused(tmp_path):
    spec = write(tmp_path)
    path = tmp_path / "train.parquet"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"PAR1" * 9):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"train.parquet cannot be read as parquet"):
            load_data(spec)
    path.write_bytes(b"PAR1" + bytes(len(whole) - 400) + whole[-396:])
    with pytest.raises(DataError, match=r"train.parquet"):
        load_data(spec)
    (tmp_path / "train.arrow").write_bytes(b"ARROW1")
    with pytest.raises(DataError, match=r"train\.arrow"):
        load_data(f"toy={tmp_path / 'train.arrow'}")
    for missing in (tmp_path / "none", tmp_path / "none.parquet"):
        with pytest.raises(DataError, match="does not exist"):
            load_data(f"toy={missing}")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"is no \.parquet"):
        load_data(f"toy={tmp_path / 'notes.txt'}")


def test_two_names_of_one_split_are_refused(tmp_path):
    write(tmp_path)
    for name in ("val", "validation"):
        pq.write_table(table(TEST, TEST_LABELS), tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match="both mean the valid split"):
        load_data(f"toy={tmp_path}")


def test_gray_and_colour_mix_across_splits(tmp_path):
    gray = pixels(20, 4, (6, 5))
    data = load_data(write(tmp_path, table(gray, LABELS)))
    assert data.train.n_channels == data.test.n_channels == 3
    assert np.array_equal(data.train.pixels[0], np.stack([gray[data.train.ids[0]]] * 3))
    alone = load_data(write(tmp_path, table(gray, LABELS), table(gray[:6] ^ 1, TEST_LABELS)))
    assert alone.train.n_channels == 1


def test_hub_goes_through_datasets_without_bars(tmp_path, monkeypatch):
    Image.fromarray(TEST[0]).save(tmp_path / "beside.png")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )

    def made(arrays, labels):
        images = [Image.fromarray(array) for array in arrays]
        if arrays is TEST:
            images[0] = str(tmp_path / "beside.png")
        return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)

    calls = []

    def fake(path, config):
        calls.append((path, config, datasets.is_progress_bar_enabled()))
        return datasets.DatasetDict(
            {
                "train": made(TRAIN, LABELS),
                "test": made(TEST, TEST_LABELS),
                "unsupervised": made(TEST, [-1] * 6),
            }
        )

    monkeypatch.setattr(datasets, "load_dataset", fake)
    was_enabled = datasets.is_progress_bar_enabled()
    data = load_data("owner/pets:small")
    assert calls == [("owner/pets", "small", False)]
    assert datasets.is_progress_bar_enabled() == was_enabled
    assert data.name == "owner/pets:small"
    check(data.train, TRAIN, LABELS)
    check(data.test, TEST, TEST_LABELS)


def test_hub_offline_says_what_to_do(monkeypatch):
    def offline(path, config):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError, match=r"'owner/pets'.*no route to host.*NAME=FOLDER"):
        load_data("owner/pets")
