import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from wsx.data import ImageSet, load_data, photos
from wsx.errors import DataError, OptionError
from wsx.spaces.choice import ArchChoice
from wsx.store import open_store
from wsx.studies.evaluate_run import evaluate_run
from wsx.studies.run_subnets import RunSubnets
from wsx.training import RECIPES, DataSpec, RunConfig, train_supernet
from wsx.training.augment import Batches
from wsx.training.photos import PhotoCrops
from wsx.training.recipes import Recipe

SIZE = 8
CPU = torch.device("cpu")
SIZES = ((40, 60), (60, 40), (30, 30), (90, 20))


def planted_photo(i):
    """A photograph whose red and green grow downwards and to the right; blue says which it is."""
    height, width = SIZES[i % len(SIZES)]
    photo = np.empty((height, width, 3), np.uint8)
    photo[:, :, 0] = np.linspace(0, 250, height).round()[:, None]
    photo[:, :, 1] = np.linspace(0, 250, width).round()
    photo[:, :, 2] = 10 * i
    return photo


def planted_set(n=12, read=None):
    pixels = np.random.default_rng(0).integers(0, 256, (n, 3, SIZE, SIZE), dtype=np.uint8)
    ids = np.arange(n)[::-1].copy()
    return ImageSet(
        "planted", "train", pixels, ids % 3, ids, "train", ("a", "b", "c"), (0.0,) * 3, (1.0,) * 3,
        read_photos=read or (lambda ids: [planted_photo(i) for i in ids.tolist()]),
    )  # fmt: skip


def make_batches(images=None, **recipe):
    values = {"batch_size": 4, "crop_area": 0.25, "flips": False, "channels_last": False, **recipe}
    return Batches(images or planted_set(), Recipe(**values), seed=1, device=CPU)


def stored(x):
    return x.numpy().astype(np.float64) * 255


def test_batches_are_a_function_of_seed_and_step_whatever_the_order():
    batches, again = make_batches(flips=True), make_batches(flips=True)
    forwards = [batches[step] for step in range(7)]
    for step in (6, 2, 3, 0, 5, 1, 4, 4):
        x, labels = again[step]
        assert torch.equal(x, forwards[step][0])
        assert torch.equal(labels, forwards[step][1])
    assert not torch.equal(forwards[0][0], forwards[3][0])


def test_every_image_comes_once_an_epoch_with_its_label():
    batches = make_batches()
    seen = []
    for step in range(6):
        x, labels = batches[step]
        images = (stored(x)[:, 2].mean(axis=(1, 2)) / 10).round().astype(int)
        assert labels.tolist() == [image % 3 for image in images]
        seen += images.tolist()
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12))
    assert seen[:12] != seen[12:]


def edges(view):
    """Top, bottom, left and right of a crop of a planted photograph, as shares of its sides, by extrapolation."""
    places = (np.arange(SIZE) + 0.5) / SIZE
    ends = []
    for channel, axis in ((0, 1), (1, 0)):
        slope, start = np.polyfit(places[1:-1], view[channel].mean(axis=axis)[1:-1] / 250, 1)
        ends += [start, start + slope]
    return ends


def test_crops_have_the_areas_and_ratios_asked_for():
    batches = make_batches(crop_area=0.3, crop_ratio=1.5)
    areas, ratios = [], []
    for step in range(120):
        x, _ = batches[step]
        for view in stored(x):
            height, width = SIZES[round(view[2].mean() / 10) % len(SIZES)]
            top, bottom, left, right = edges(view)
            area = (bottom - top) * (right - left)
            ratio = (right - left) * width / ((bottom - top) * height)
            assert -0.05 < top < bottom < 1.05
            assert -0.05 < left < right < 1.05
            if (height, width) == (90, 20):
                continue
            assert 0.25 < area < 1.1
            assert 1 / 1.8 < ratio < 1.8
            areas.append(area)
            ratios.append(math.log(ratio))
    assert np.ptp(areas) > 0.5
    assert max(ratios) > 0.3
    assert min(ratios) < -0.3


def slow_box(height, width, draws, *, least, ratio):
    """The rule of random resized crops, written out."""
    for k in range(10):
        area = height * width * (least + draws[2 * k] * (1 - least))
        aspect = math.exp(math.log(1 / ratio) + draws[2 * k + 1] * 2 * math.log(ratio))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if h <= height and w <= width and h and w:
            top = [t for t in range(height - h + 1) if t / (height - h + 1) <= draws[20]][-1]
            left = [t for t in range(width - w + 1) if t / (width - w + 1) <= draws[21]][-1]
            return left, top, left + w, top + h
    return None


@pytest.mark.parametrize("size", [*SIZES, (1, 1), (3, 200)])
@pytest.mark.parametrize(("least", "ratio"), [(0.08, 4 / 3), (1.0, 1.0), (0.5, 3.0)])
def test_boxes_follow_the_rule(size, least, ratio):
    crops = PhotoCrops(planted_set(), Recipe(crop_area=least, crop_ratio=ratio))
    rng = np.random.default_rng(3)
    for _ in range(60):
        draws = rng.random(22)
        left, top, right, bottom = crops.box(size, draws)
        expected = slow_box(*size, draws, least=least, ratio=ratio)
        if expected is not None:
            assert (left, top, right, bottom) == expected
        else:
            # No attempt fits: the middle, with one side whole and the other as long as the ratio lets it.
            h, w = bottom - top, right - left
            assert h == size[0] or w == size[1]
            assert max(h / w, w / h) <= ratio * 1.02 or min(h, w) == 1
            assert abs((top + bottom) - size[0]) <= 1
            assert abs((left + right) - size[1]) <= 1


def test_a_whole_crop_is_what_pillow_resizes():
    rows = np.arange(12)
    crops = PhotoCrops(planted_set(), Recipe(crop_area=1.0, crop_ratio=1.0, flips=False))
    found = crops(rows, np.random.default_rng(0))
    square = [row for row in rows if SIZES[(11 - row) % len(SIZES)] == (30, 30)]
    for row in square:
        whole = Image.fromarray(planted_photo(11 - row))
        expected = np.array(whole.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        assert np.array_equal(found[row].numpy().transpose(1, 2, 0), expected)
    assert len(square) == 3


def test_half_of_the_crops_are_mirrored():
    batches = make_batches(flips=True)
    slopes = []
    for step in range(100):
        x, _ = batches[step]
        slopes += [view[1, :, -2].mean() > view[1, :, 1].mean() for view in stored(x)]
    assert abs(sum(slopes) - 200) < 5 * math.sqrt(400 / 4)
    unmirrored = [stored(make_batches()[step][0]) for step in range(20)]
    assert all((x[:, 1, :, -1] > x[:, 1, :, 0]).all() for x in unmirrored)


def test_grey_photographs_join_coloured_ones():
    grey = planted_photo(2)[:, :, 0]
    batches = make_batches(planted_set(read=lambda ids: [grey for _ in ids]), crop_area=1.0)
    x, _ = batches[0]
    assert torch.equal(x[:, 0], x[:, 2])


@pytest.mark.parametrize(
    ("name", "enhancer"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_jitter_is_what_pillow_does_by_a_factor_within_bounds(name, enhancer):
    images = planted_set()
    plain, changed = make_batches(images), make_batches(images, **{name: 0.5})
    factors = []
    for step in range(10):
        for before, after in zip(stored(plain[step][0]), stored(changed[step][0]), strict=True):
            pillow = Image.fromarray(before.round().astype(np.uint8).transpose(1, 2, 0))
            errors = {
                factor: np.abs(
                    np.array(enhancer(pillow).enhance(factor)).transpose(2, 0, 1) - after
                ).max()
                for factor in np.arange(0.48, 1.53, 0.01)
            }
            factor = min(errors, key=errors.get)
            # Pillow rounds to integers, and factors here are a hundredth apart.
            assert errors[factor] < 3.5
            factors.append(factor)
    assert min(factors) < 0.65
    assert max(factors) > 1.35


def test_strong_jitter_stays_within_pixels():
    batches = make_batches(brightness=3.0, contrast=2.0, saturation=5.0)
    for step in range(10):
        x = stored(batches[step][0])
        assert -1e-3 <= x.min() <= x.max() <= 255 + 1e-3


def test_no_jitter_draws_nothing():
    x, y = (make_batches(planted_set(), crop_area=0.0, cutout=c)[0][0] for c in (0, 3))
    is_cut = y == 0
    assert torch.equal(x[~is_cut], y[~is_cut])
    assert is_cut.any()


def test_values_out_of_range_are_refused():
    for values in (
        {"crop_area": -0.1},
        {"crop_area": 1.01},
        {"crop_area": math.nan},
        {"crop_ratio": 0.9},
        {"crop_ratio": math.inf},
        {"brightness": -1.0},
        {"contrast": math.inf},
        {"saturation": math.nan},
    ):
        with pytest.raises(OptionError, match=next(iter(values))):
            Recipe(**values)


def test_pixels_alone_cannot_be_cropped():
    images = dataclasses.replace(planted_set(), read_photos=None)
    with pytest.raises(DataError, match="set crop_area to 0"):
        make_batches(images)


def test_what_stays_on_disk_needs_crops(monkeypatch):
    monkeypatch.setattr(photos, "IN_MEMORY_BYTES", 1000)
    train = load_data("digits", image_size=12).train
    with pytest.raises(DataError, match=r"set crop_area.*n_train"):
        make_batches(train, crop_area=0.0)
    x, _ = make_batches(train)[0]
    assert x.shape == (4, 3, 12, 12)


def test_a_broken_photograph_ends_the_step_that_needs_it():
    def read(ids):
        if 0 in ids:
            raise DataError("photo 0: not a readable image")
        return [planted_photo(i) for i in ids.tolist()]

    batches = make_batches(planted_set(read=read))
    n_failed = 0
    for step in range(3):
        try:
            batches[step]
        except DataError:
            n_failed += 1
    assert n_failed == 1


def test_p1s_recipe_is_the_papers():
    recipe = RECIPES["p1-proxylessnas"]
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.weight_decay) == (
        1000,
        128,
        0.025,
        5e-5,
    )
    assert (recipe.warmup_epochs, recipe.label_smoothing, recipe.clip) == (5, 0.1, 0)
    assert recipe.crop_area == 0.08
    assert recipe.crop_ratio == pytest.approx(4 / 3)
    assert dict(recipe.supernet) == {"width_percent": 135}


@pytest.mark.slow
def test_a_supernet_trains_on_real_photographs_and_is_scored(shared_data, tmp_path):
    spec = f"clothes={shared_data / 'imagefolder'}"
    settings = {"epochs": "1", "batch_size": "8", "width_percent": "10"}
    recipe = RECIPES["photos-smoke"].override(settings)
    data = DataSpec(spec, n_train=24, n_valid=10, n_test=10, image_size=32)
    losses = []
    run = train_supernet(
        RunConfig("proxylessnas", recipe, data, 0),
        tmp_path / "run",
        on_progress=lambda progress: losses.append(progress.loss),
    )
    assert len(losses) == 3
    # Ten classes, hardly trained.
    assert 1 < losses[-1] < 5
    archs = tmp_path / "archs.txt"
    archs.write_text("4063-3642-4614-5656-1550-3\n0000-0000-0000-0000-0000-0\n")
    subnets = RunSubnets(run, "calibrated:1x16")
    evaluate_run(subnets, tmp_path / "s.h5", choice=ArchChoice(file=archs), device="cpu")
    with open_store(tmp_path / "s.h5", "r") as store:
        table = store.read(None)
    assert table.ok.all()
    assert table.total.tolist() == [10, 10]
