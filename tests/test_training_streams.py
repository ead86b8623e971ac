import numpy as np
import pytest
import torch

from wsx.data import ImageSet
from wsx.errors import DataError
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.training.augment import Batches
from wsx.training.recipes import Recipe
from wsx.training.sampling import ArchSampler

HEIGHT, WIDTH = 6, 7
CPU = torch.device("cpu")


def planted_images(n, *, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0)):
    """Images whose channels say which image, which row and which column a pixel is of, counted from 1."""
    pixels = np.empty((n, 3, HEIGHT, WIDTH), np.uint8)
    pixels[:, 0] = 1 + np.arange(n)[:, None, None]
    pixels[:, 1] = 1 + np.arange(HEIGHT)[:, None]
    pixels[:, 2] = 1 + np.arange(WIDTH)
    ids = np.arange(n)
    return ImageSet("planted", "train", pixels, ids % 3, ids, "all", ("a", "b", "c"), mean, std)


def make_batches(n=12, *, seed=0, batch_size=4, mean=(0.5,) * 3, std=(1.0,) * 3, **recipe):
    values = {"crop_padding": 2, "flips": True, "cutout": 0, "channels_last": False, **recipe}
    images = planted_images(n, mean=mean, std=std)
    return Batches(images, Recipe(batch_size=batch_size, **values), seed=seed, device=CPU)


def stored(x, mean=0.5, std=1.0):
    """Stored pixel values of a normalised batch, as floats."""
    return (x.numpy().astype(np.float64) * std + mean) * 255


def slow_crop(image, top, left, *, is_flipped):
    """One shifted, perhaps mirrored image, pixel by pixel; 0 outside."""
    out = np.zeros((3, HEIGHT, WIDTH))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            source = left + (WIDTH - 1 - x if is_flipped else x)
            if 0 <= y + top < HEIGHT and 0 <= source < WIDTH:
                out[:, y, x] = (image + 1, y + top + 1, source + 1)
    return out


def read_crops(batches, steps, padding):
    """For each image trained on: (image, top, left, is_flipped), by trying all crops."""
    known = {
        (image, top, left, is_flipped): slow_crop(image, top, left, is_flipped=is_flipped)
        for image in range(12)
        for top in range(-padding, padding + 1)
        for left in range(-padding, padding + 1)
        for is_flipped in (False, True)
    }
    names, crops = list(known), np.stack(list(known.values()))
    found = []
    for step in steps:
        x, labels = batches[step]
        for pixels, label in zip(stored(x), labels.tolist(), strict=True):
            (row,) = np.flatnonzero((np.abs(crops - pixels) < 1e-3).all(axis=(1, 2, 3)))
            assert label == names[row][0] % 3
            found.append(names[row])
    return found


def within_5_sigma(counts, n, p):
    return np.all(np.abs(np.asarray(counts) - n * p) < 5 * np.sqrt(n * p * (1 - p)))


def test_every_crop_is_one_of_the_slow_ones_and_all_are_equally_likely():
    n_steps = 300
    found = read_crops(make_batches(crop_padding=2), range(n_steps), 2)
    n = len(found)
    assert n == 4 * n_steps
    for place in (1, 2):
        shifts = np.array([crop[place] for crop in found])
        assert within_5_sigma([np.sum(shifts == shift) for shift in range(-2, 3)], n, 1 / 5)
    assert within_5_sigma(sum(crop[3] for crop in found), n, 1 / 2)
    joint = {crop[1:] for crop in found}
    assert len(joint) == 5 * 5 * 2


def test_no_crops_and_no_flips_leave_images_whole():
    found = read_crops(make_batches(crop_padding=0, flips=False), range(6), 0)
    assert {crop[1:] for crop in found} == {(0, 0, False)}


def test_flips_off_never_mirrors():
    found = read_crops(make_batches(crop_padding=1, flips=False), range(60), 1)
    assert {crop[3] for crop in found} == {False}


@pytest.mark.parametrize("cutout", [1, 2, 3, 4])
def test_cutout_sets_one_clipped_square_to_the_mean(cutout):
    batches = make_batches(crop_padding=0, flips=False, cutout=cutout)
    n_cut = {HEIGHT: np.zeros(HEIGHT), WIDTH: np.zeros(WIDTH)}
    for step in range(150):
        x, _ = batches[step]
        for image in x.numpy():
            is_cut = (image == 0).all(axis=0)
            assert np.array_equal(is_cut, (image == 0).any(axis=0))
            ys, xs = np.flatnonzero(is_cut.any(axis=1)), np.flatnonzero(is_cut.any(axis=0))
            assert is_cut.sum() == len(ys) * len(xs) > 0
            for places, size in ((ys, HEIGHT), (xs, WIDTH)):
                is_clipped = places[0] == 0 or places[-1] == size - 1
                assert len(places) == cutout or (len(places) < cutout and is_clipped)
                n_cut[size][places] += 1
    for size, counts in n_cut.items():
        centres = np.arange(size)[:, None] - cutout // 2
        covers = (centres <= np.arange(size)) & (np.arange(size) < centres + cutout)
        assert within_5_sigma(counts, 600, covers.mean(axis=0))


def test_every_pixel_can_be_cut():
    batches = make_batches(crop_padding=0, flips=False, cutout=3)
    is_cut = np.zeros((HEIGHT, WIDTH), bool)
    for step in range(200):
        is_cut |= (batches[step][0].numpy() == 0).all(axis=1).any(axis=0)
    assert is_cut.all()


def test_normalisation_and_padding_value():
    mean, std = (0.1, 0.4, 0.7), (0.2, 0.5, 0.9)
    batches = make_batches(crop_padding=0, flips=False, mean=mean, std=std)
    images = planted_images(12, mean=mean, std=std)
    for step in range(3):
        x, _ = batches[step]
        for image in x.numpy().astype(np.float64):
            row = round((image[0, 0, 0] * std[0] + mean[0]) * 255) - 1
            for channel in range(3):
                expected = (images.pixels[row, channel] / 255.0 - mean[channel]) / std[channel]
                np.testing.assert_allclose(image[channel], expected, rtol=0, atol=2e-6)
    x, _ = make_batches(crop_padding=6, mean=mean, std=std)[0]
    outside = np.array([(0 - m) / s for m, s in zip(mean, std, strict=True)])
    is_outside = np.abs(x.numpy() - outside[None, :, None, None]) < 1e-6
    assert is_outside.all(axis=1).any()
    assert np.array_equal(is_outside.all(axis=1), is_outside.any(axis=1))


def images_of(batches, step):
    """Which images a step holds; needs whole images."""
    return [round(value) - 1 for value in stored(batches[step][0])[:, 0, 0, 0]]


@pytest.mark.parametrize(("n", "batch_size"), [(12, 4), (11, 4), (12, 12), (5, 1)])
def test_every_image_at_most_once_per_epoch(n, batch_size):
    batches = make_batches(n, batch_size=batch_size, crop_padding=0, flips=False)
    n_steps = batches.n_steps_per_epoch
    assert n_steps == n // batch_size
    left_out, orders = set(), []
    for epoch in range(20):
        seen = [
            image
            for step in range(epoch * n_steps, (epoch + 1) * n_steps)
            for image in images_of(batches, step)
        ]
        assert len(seen) == len(set(seen)) == n_steps * batch_size
        left_out |= set(range(n)) - set(seen)
        orders.append(tuple(seen))
    assert len(set(orders)) > 15
    assert left_out == (set(range(n)) if n % batch_size else set())


def same_batch(a, b):
    return torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


def test_batches_depend_on_seed_and_step_alone():
    in_order = [make_batches(cutout=2, seed=3)[step] for step in range(9)]
    one = make_batches(cutout=2, seed=3)
    for step in (8, 0, 3, 2, 2, 5, 1, 8, 7, 4, 6):
        torch.rand(step + 1)
        assert same_batch(one[step], in_order[step]), step
    other = make_batches(cutout=2, seed=4)
    assert not any(same_batch(other[step], in_order[step]) for step in range(9))


def test_augmentation_differs_between_epochs():
    found = read_crops(make_batches(crop_padding=2, batch_size=12), range(8), 2)
    per_image = {image: {crop[1:] for crop in found if crop[0] == image} for image in range(12)}
    assert all(len(crops) > 3 for crops in per_image.values())


def test_channels_last_changes_the_layout_alone():
    plain, laid_out = make_batches(cutout=2), make_batches(cutout=2, channels_last=True)
    x = laid_out[1][0]
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert not x.is_contiguous()
    assert torch.equal(x, plain[1][0])
    assert x.dtype == torch.float32


def test_fewer_images_than_a_batch_are_refused():
    with pytest.raises(DataError, match=r"planted has 3 training images.*batch of 4"):
        make_batches(3)


@pytest.mark.parametrize("sampler", ["uniform", "fair"])
@pytest.mark.parametrize("measure", ["encodings", "reachable"])
def test_archs_depend_on_seed_and_step_alone(sampler, measure):
    recipe = Recipe(sampler=sampler, measure=measure, n_paths=3)
    in_order = [ArchSampler(NASBENCH201, recipe, seed=2)[step] for step in range(20)]
    one = ArchSampler(NASBENCH201, recipe, seed=2)
    for step in (19, 3, 3, 0, 7, 12, 1):
        assert one[step] == in_order[step]
    other = ArchSampler(NASBENCH201, recipe, seed=3)
    assert not any(other[step] == in_order[step] for step in range(20))
    assert len(set(map(tuple, in_order))) == 20


def test_order_crops_and_archs_use_streams_of_their_own():
    # One generator for all would make what is drawn first decide what comes after.
    plain = make_batches(crop_padding=0, flips=False)
    cut = make_batches(crop_padding=2, cutout=2)
    for step in range(9):
        assert torch.equal(plain[step][1], cut[step][1])
    with_cutout = make_batches(crop_padding=2, cutout=2)
    without = make_batches(crop_padding=2)
    for step in range(9):
        x, y = with_cutout[step][0], without[step][0]
        assert torch.equal(x[x != 0], y[x != 0])
