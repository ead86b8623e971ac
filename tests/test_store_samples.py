# Scores for the other store tests. Neither pytest nor hypothesis is loaded here, because the tests
# that kill processes start many of them.
import math
from typing import Any

import numpy as np

from wsx.store import Score, ScoreKey, ScoreTable
from wsx.store.records import COLUMNS


def make_key(**changes: Any) -> ScoreKey:
    values: dict[str, Any] = {
        "space": "nasbench201",
        "checkpoint_sha256": "a" * 64,
        "dataset": "digits",
        "images_sha256": "b" * 64,
        "bn": "calibrated:4x256",
        "bn_images_sha256": "c" * 64,
        "batch_size": 0,
        "precision": "float32",
        "provider": "CPUExecutionProvider",
    }
    return ScoreKey(**(values | changes))


def make_score(
    arch: tuple[int, ...], n_images: int = 11, seed: int | None = None, **changes: Any
) -> Score:
    rng = np.random.default_rng([abs(value) for value in arch] if seed is None else seed)
    outcomes = rng.random(n_images) < 0.7
    values: dict[str, Any] = {
        "arch": arch,
        "text": "|".join(map(str, arch)),
        "function_key": f"{hash(arch) % 2**64:064x}",
        "correct": int(outcomes.sum()),
        "total": n_images,
        "loss_sum": float(rng.random()),
        "bits": np.packbits(outcomes).tobytes(),
        "seconds_record": 0.001,
        "seconds_calibrate": float(rng.random()),
        "seconds_build": 0.01,
        "seconds_run": float(rng.random()),
        "status": "ok",
        "error": "",
        "params": int(rng.integers(1, 10**6)),
        "flops": -1,
    }
    return Score(**(values | changes))


def make_failed(
    arch: tuple[int, ...], error: str = "ExportError: no emitter", **changes: Any
) -> Score:
    lost = {"correct": 0, "total": 0, "loss_sum": math.nan, "bits": b"", "function_key": ""}
    return make_score(arch, **(lost | {"status": "failed", "error": error} | changes))


def assert_same_table(left: ScoreTable, right: ScoreTable) -> None:
    assert left.key == right.key
    assert left.info == right.info
    for name in ("image_ids", "arch", "bits", *(column.name for column in COLUMNS)):
        a, b = getattr(left, name), getattr(right, name)
        assert a.dtype == b.dtype, name
        assert a.shape == b.shape, name
        # Strict about everything but which of the many NaNs it is, which JSON does not keep.
        assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), name


def test_samples_count_what_their_bits_say() -> None:
    for number in range(20):
        score = make_score((number,), n_images=13)
        assert score.correct == sum(byte.bit_count() for byte in score.bits)
