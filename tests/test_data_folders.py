import numpy as np
import pytest
from PIL import Image

from wsx.data import load_data
from wsx.errors import DataError, OptionError

CLASSES = ("ant", "bee")


def write(root, n=5, splits=("train", "test"), size=(6, 5)):
    for index, split in enumerate(splits):
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                seed = np.random.default_rng([index, len(name), i, ord(name[0])])
                Image.fromarray(seed.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
                    folder / f"{i}.png"
                )
    return f"bugs={root}"


def test_folder_gives_pixels_labels_and_classes(tmp_path):
    spec = write(tmp_path)
    (tmp_path / "train" / "ant" / "notes.txt").write_text("passed over")
    (tmp_path / "train" / "ant" / ".hidden.png").write_text("passed over")
    data = load_data(spec, n_valid=2)
    assert data.train.class_names == CLASSES
    assert (len(data.train), len(data.valid), len(data.test)) == (8, 2, 10)
    for images, split in ((data.train, "train"), (data.valid, "train"), (data.test, "test")):
        for position, row in enumerate(images.ids):
            path = tmp_path / split / CLASSES[row // 5] / f"{row % 5}.png"
            with Image.open(path) as image:
                assert np.array_equal(images.pixels[position], np.array(image).transpose(2, 0, 1))
            assert images.labels[position] == row // 5


@pytest.mark.parametrize(
    ("splits", "valid", "test"),
    [
        (("train", "val", "test"), "valid", "test"),
        (("train", "valid"), "train", "valid"),
        (("train", "dev", "test"), "valid", "test"),
    ],
)
def test_split_folders_by_their_words(tmp_path, splits, valid, test):
    data = load_data(write(tmp_path, splits=splits), n_valid=2)
    assert (data.valid.source, data.test.source) == (valid, test)


def test_differing_sizes_need_image_size(tmp_path):
    spec = write(tmp_path)
    Image.new("RGB", (9, 8)).save(tmp_path / "test" / "bee" / "0.png")
    with pytest.raises(DataError, match=r"0\.png is 8x9|is 8x9,"):
        load_data(spec)
    data = load_data(spec, image_size=(4, 3))
    assert data.test.image_size == data.train.image_size == (4, 3)


def test_wrong_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"neither tables named after a split.*nor images"):
        load_data(f"bugs={tmp_path}")
    for split in ("train", "test"):
        (tmp_path / split / "ant").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no image in folders named after classes"):
        load_data(f"bugs={tmp_path}")
    spec = write(tmp_path / "b")
    with pytest.raises(OptionError, match="no table"):
        load_data(spec, label_column="label")
    broken = tmp_path / "b" / "test" / "bee" / "1.png"
    broken.write_bytes(broken.read_bytes()[:50])
    with pytest.raises(DataError, match=r"bee/1\.png: not a readable image"):
        load_data(spec)
    (tmp_path / "b" / "test" / "cow").mkdir()
    with pytest.raises(DataError, match="train has no class 'cow'"):
        load_data(spec)
