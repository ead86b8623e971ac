import numpy as np
import pytest

from wsx.data import LOADERS, load_data
from wsx.data.load import _plan
from wsx.data.source import Source, SourceSplit, check_labels
from wsx.errors import DataError, OptionError, UnknownNameError


def test_digits_have_the_promised_splits():
    data = load_data("digits")
    assert (data.name, data.spec) == ("digits", "digits")
    assert [len(s) for s in (data.train, data.valid, data.test)] == [1000, 397, 400]
    assert data.train.pixels.shape == (1000, 1, 8, 8)
    assert data.train.class_names == tuple("0123456789")
    assert {s.source for s in (data.train, data.valid, data.test)} == {"all"}
    everything = np.concatenate([data.train.ids, data.valid.ids, data.test.ids])
    assert np.array_equal(np.sort(everything), np.arange(1797))
    for images in (data.train, data.valid, data.test):
        share = np.bincount(images.labels) / len(images)
        assert np.all(np.abs(share - 0.1) < 0.01)


def test_digits_pixels_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    raw = load_digits()
    test = load_data("digits").test
    assert np.array_equal(test.labels, raw.target[test.ids])
    assert np.abs(test.pixels[:, 0] / 255 * 16 - raw.images[test.ids]).max() <= 0.5 / 255 * 16
    assert test.pixels.max() == 255


def test_digits_mean_and_std_normalise_the_training_split():
    floats = load_data("digits").train.floats().astype(np.float64)
    assert abs(floats.mean()) < 1e-6
    assert abs(floats.std() - 1) < 1e-6


def test_seed_moves_valid_but_never_test():
    one, same, other = (load_data("digits", seed=seed) for seed in (0, 0, 1))
    assert one.train.digest == same.train.digest
    assert one.valid.digest == same.valid.digest != other.valid.digest
    assert one.test.digest == other.test.digest


def test_fewer_training_images_move_nothing_else():
    full, capped = load_data("digits"), load_data("digits", n_train=200)
    assert len(capped.train) == 200
    assert set(capped.train.ids) < set(full.train.ids)
    assert capped.valid.digest == full.valid.digest
    assert capped.test.digest == full.test.digest


def test_order_is_mixed_over_classes():
    labels = load_data("digits").train.labels
    assert np.mean(labels[1:] == labels[:-1]) < 0.2


def test_digits_can_be_resized():
    assert load_data("digits", image_size=16).train.pixels.shape[1:] == (1, 16, 16)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_train": 0}, OptionError, "n_train is 0"),
        ({"n_valid": -1}, OptionError, "n_valid is -1"),
        ({"seed": -1}, OptionError, "seed is -1"),
        ({"image_size": (8, 0)}, OptionError, "image_size"),
        ({"n_train": 1001}, DataError, "train of 'digits': 1001 images asked for, 1000 there"),
        ({"n_test": 1798}, DataError, "test of 'digits': 1798 images asked for, 1797 there"),
        ({"n_test": 1797}, DataError, "valid of 'digits': 397 images asked for, 0 there"),
        ({"label_column": "x"}, OptionError, "digits is no table"),
    ],
)
def test_impossible_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        load_data("digits", **options)


def test_unknown_name_suggests_and_shows_the_other_forms():
    with pytest.raises(UnknownNameError, match=r"Did you mean digits.*NAME=PATH.*OWNER/NAME"):
        load_data("digit")
    assert list(LOADERS) == ["digits"]


@pytest.mark.parametrize("spec", ["", "=", "=x", "a b=x"])
def test_malformed_specs_are_refused(spec):
    with pytest.raises((DataError, UnknownNameError)):
        load_data(spec)


def test_a_path_without_name_says_how_to_name_it(tmp_path):
    with pytest.raises(DataError, match="is a path; give it a name"):
        load_data(str(tmp_path))


def source(**sizes):
    splits = {
        name: SourceSplit(name, np.arange(n) % 2, lambda rows, size: [], lambda row: f"row {row}")
        for name, n in sizes.items()
    }
    return Source(splits, ("a", "b"))


def plan(made, seed=0, **n_images):
    rows = _plan(made, "x", seed, {"train": None, "valid": None, "test": None} | n_images)
    return {split: (part.name, len(ids)) for split, (part, ids) in rows.items()}


def test_splits_of_the_source_are_kept_and_missing_ones_cut():
    whole = {"train": ("train", 40), "valid": ("valid", 8), "test": ("test", 6)}
    assert plan(source(train=40, valid=8, test=6)) == whole
    cut = {"train": ("train", 36), "valid": ("train", 4), "test": ("test", 6)}
    assert plan(source(train=40, test=6)) == cut
    renamed = {"train": ("train", 36), "valid": ("train", 4), "test": ("valid", 8)}
    assert plan(source(train=40, valid=8)) == renamed
    fewer = {"train": ("train", 10), "valid": ("valid", 4), "test": ("test", 2)}
    assert plan(source(train=40, valid=8, test=6), train=10, valid=4, test=2) == fewer
    one = {"train": ("all", 31), "valid": ("all", 4), "test": ("all", 5)}
    assert plan(source(all=40), test=5) == one


def test_missing_splits_are_named():
    with pytest.raises(DataError, match=r"no test split; add one, or cut n_test of its 40 images"):
        plan(source(train=40))
    with pytest.raises(DataError, match="no train split, only valid, test"):
        plan(source(valid=8, test=6))


def test_labels_are_checked():
    def split(labels):
        return SourceSplit(
            "t", np.array(labels, np.int64), lambda *_: [], lambda row: f"t row {row}"
        )

    assert check_labels([split([0, 2]), split([1])], None) == 3
    assert check_labels([split([0, 2])], 7) == 7
    with pytest.raises(DataError, match="t row 1 has label 3, outside 0 to 2"):
        check_labels([split([0, 3])], 3)
    with pytest.raises(DataError, match=r"t row 0 has label -1.*without labels"):
        check_labels([split([-1, -1])], 3)
    with pytest.raises(DataError, match="0 never occurs, though 2 does"):
        check_labels([split([1, 2])], None)
    with pytest.raises(DataError, match="row 1 has label 1099511627776"):
        check_labels([split([0, 2**40])], None)
