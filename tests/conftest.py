import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

# Facts and tables from public sources lie beside the checkout where they are at all.
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread():
    # Set only where a collected module imported torch: the torch-free tests stay torch-free.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory):
    # What was once measured on this machine must not decide how a test runs.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(autouse=True)
def _one_stream_of_random_numbers():
    # Dropout draws from the global generator: a test's luck must not hang on what ran before it.
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no shared data beside the checkout ({SHARED_DATA})")
    return SHARED_DATA


def _randomise_norms(module, seed: int = 0):
    """Give BatchNorm layers values that a wrong slice, order or default would show."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if not isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                continue
            if layer.weight is not None:
                layer.weight.uniform_(0.5, 1.5, generator=generator)
                layer.bias.normal_(0.0, 0.5, generator=generator)
            if layer.running_mean is not None:
                layer.running_mean.normal_(0.0, 0.5, generator=generator)
                layer.running_var.uniform_(0.5, 2.0, generator=generator)
    return module


@pytest.fixture(scope="session")
def randomise_norms() -> Callable:
    return _randomise_norms


@pytest.fixture(scope="session")
def make_supernet() -> Callable:
    """Makes a NAS-Bench-201 supernet in evaluation mode, tiny unless told, norms randomised."""
    from wsx.supernets import build_supernet

    def make(seed: int = 0, **options):
        tiny = {"channels": 4, "cells": 1, "n_classes": 5, "image_size": 9}
        supernet = build_supernet("nasbench201", tiny | options, seed=seed)
        return _randomise_norms(supernet, seed).eval()

    return make


@pytest.fixture
def tiny_supernet(make_supernet):
    return make_supernet()


@pytest.fixture
def run_onnx(tmp_path) -> Callable:
    """Runs a model in plain ONNX Runtime as a user would: one file, weights.bin beside it."""
    import onnxruntime

    def run(model, weights, images: np.ndarray) -> list[np.ndarray]:
        weights.write(tmp_path)
        # Only models that are never saved need it.
        weights.scratch.write(tmp_path)
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        return session.run(None, {"images": images})

    return run


@pytest.fixture(scope="module")
def driver():
    """A headless browser."""
    import browser

    with browser.chromium() as started:
        yield started


@pytest.fixture
def wsx(monkeypatch, capsys):
    """Return a function that runs a command in this process: exit code, stdout, stderr."""

    def call(*arguments):
        from wsx.cli import main

        monkeypatch.setattr(sys, "argv", ["wsx", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
