from pathlib import Path

import numpy as np
import pytest

from wsx.data import load_data

SHARED = Path(__file__).parents[2] / "shared" / "data"
CIFAR_MEAN, CIFAR_STD = (0.49125, 0.48209, 0.44652), (0.24523, 0.24278, 0.26063)

needs_cifar = pytest.mark.skipif(
    not (SHARED / "cifar10").is_dir(), reason="the shared CIFAR-10 images are not here"
)
needs_folder = pytest.mark.skipif(
    not (SHARED / "imagefolder").is_dir(), reason="the shared image folder is not here"
)


@needs_cifar
@pytest.mark.slow
def test_all_of_cifar10():
    data = load_data(f"cifar10={SHARED / 'cifar10'}", n_valid=5000)
    assert [len(s) for s in (data.train, data.valid, data.test)] == [45_000, 5_000, 10_000]
    assert data.train.class_names[3] == "cat"
    for images in (data.train, data.valid, data.test):
        assert np.all(np.bincount(images.labels) == len(images) // 10)
    pixels = np.concatenate([data.train.pixels, data.valid.pixels]) / np.float32(255)
    assert np.allclose(pixels.mean((0, 2, 3), dtype=np.float64), CIFAR_MEAN, rtol=0, atol=1e-5)
    assert np.allclose(pixels.std((0, 2, 3), dtype=np.float64), CIFAR_STD, rtol=0, atol=1e-5)
    assert np.allclose(data.train.mean, CIFAR_MEAN, rtol=0, atol=1e-3)
    assert np.allclose(data.train.std, CIFAR_STD, rtol=0, atol=1e-3)


@needs_cifar
def test_a_little_of_cifar10():
    data = load_data(f"cifar10={SHARED / 'cifar10'}", n_train=2000, n_valid=500, n_test=500)
    assert [len(s) for s in (data.train, data.valid, data.test)] == [2000, 500, 500]
    assert np.all(np.bincount(data.train.labels) == 200)
    assert np.allclose(data.train.mean, CIFAR_MEAN, rtol=0, atol=0.02)


@needs_folder
def test_image_folder_of_photographs():
    data = load_data(f"clothes={SHARED / 'imagefolder'}", image_size=32, n_valid=100)
    assert [len(s) for s in (data.train, data.valid, data.test)] == [540, 100, 120]
    assert data.test.source == "valid"
    assert data.train.pixels.shape[1:] == (3, 32, 32)
    assert data.train.class_names[-1] == "t-shirt"
