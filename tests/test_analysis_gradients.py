import math

import numpy as np
import pytest

from wsx.analysis import (
    Resampling,
    WeightGradients,
    gradient_cosines,
    gradients,
    mean_over_pairs,
    means_by_shared,
)
from wsx.errors import OptionError, ShapeError

N_ARCHS = 5


def random_parts(seed: int = 0) -> list[WeightGradients]:
    """Parts that some archs use whole, some in part and some not at all."""
    rng = np.random.default_rng(seed)
    parts = []
    for n_weights, is_sliced in ((7, False), (1, False), (12, True), (4, True)):
        archs = np.sort(rng.permutation(N_ARCHS)[: rng.integers(1, N_ARCHS + 1)])
        values = rng.normal(size=(archs.size, n_weights)).astype(np.float32)
        used = rng.random(values.shape) < 0.6 if is_sliced else None
        parts.append(
            WeightGradients(archs, values if used is None else np.where(used, values, 0), used)
        )
    return parts


def slow_cosine(parts: list[WeightGradients], a: int, b: int) -> tuple[float, int]:
    """Cosine and number of the weights that both use, one weight after another."""
    dot = square_a = square_b = 0.0
    n = 0
    for part in parts:
        rows = part.archs.tolist()
        if a not in rows or b not in rows:
            continue
        for weight in range(part.values.shape[1]):
            row_a, row_b = rows.index(a), rows.index(b)
            if part.is_used is not None and not (
                part.is_used[row_a, weight] and part.is_used[row_b, weight]
            ):
                continue
            x, y = float(part.values[row_a, weight]), float(part.values[row_b, weight])
            dot, square_a, square_b, n = dot + x * y, square_a + x * x, square_b + y * y, n + 1
    norm = math.sqrt(square_a) * math.sqrt(square_b)
    return (dot / norm if norm else math.nan), n


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block", [1, 16, 1 << 22])
def test_cosines_are_those_of_a_loop_over_weights(monkeypatch, seed, block):
    monkeypatch.setattr(gradients, "_BLOCK", block)
    parts = random_parts(seed)
    found = gradient_cosines(parts, N_ARCHS)
    for a in range(N_ARCHS):
        for b in range(N_ARCHS):
            cosine, n = slow_cosine(parts, a, b)
            assert found.n_weights[a, b] == n
            assert found.cosine[a, b] == pytest.approx(cosine, rel=0, abs=1e-12, nan_ok=True)


def test_planted_angles():
    third = np.array([math.cos(2.0), math.sin(2.0), 0.0])
    values = np.array([[1, 0, 0], [5, 0, 0], [-2, 0, 0], [0, 3, 0], third]).astype(np.float32)
    found = gradient_cosines([WeightGradients(np.arange(5), values)], 5).cosine
    right = [1, 1, -1, 0, math.cos(2.0)]
    assert found[0].tolist() == pytest.approx(right, rel=0, abs=1e-7)
    assert np.array_equal(found, found.T)


def test_what_one_arch_alone_uses_does_not_count():
    shared = WeightGradients(np.array([0, 1]), np.array([[3.0, 4.0], [4.0, 3.0]], np.float32))
    own = WeightGradients(np.array([0]), np.full((1, 9), 100.0, np.float32))
    found = gradient_cosines([shared, own], 3)
    assert found.cosine[0, 1] == pytest.approx(24 / 25, rel=0, abs=1e-12)
    assert found.n_weights.tolist() == [[11, 2, 0], [2, 2, 0], [0, 0, 0]]
    assert np.isnan(found.cosine[2]).all()


def test_a_gradient_of_zero_has_no_cosine():
    values = np.array([[0.0, 0.0, 1.0], [1.0, 2.0, 0.0]], np.float32)
    used = np.array([[True, True, True], [True, True, False]])
    found = gradient_cosines([WeightGradients(np.arange(2), values, used)], 2)
    assert np.isnan(found.cosine[0, 1])
    assert found.n_weights[0, 1] == 2
    assert np.diag(found.cosine) == pytest.approx([1, 1], rel=0, abs=1e-12)


def test_small_gradients_do_not_vanish_in_sums():
    # In float32 their squares are 0, and a large weight would swallow the sum of small ones.
    tiny = np.full((2, 3), 1e-30, np.float32)
    found = gradient_cosines([WeightGradients(np.arange(2), tiny)], 2)
    assert found.cosine[0, 1] == pytest.approx(1, rel=0, abs=1e-12)
    mixed = np.ones((2, 1_000_001), np.float32)
    mixed[0, 0], mixed[1, 0] = 2e4, -2e4
    found = gradient_cosines([WeightGradients(np.arange(2), mixed)], 2)
    right = (1e6 - 4e8) / (1e6 + 4e8)
    assert found.cosine[0, 1] == pytest.approx(right, rel=0, abs=1e-12)


def test_means_over_pairs_leave_out_the_diagonal_and_what_is_unknown():
    values = np.array([[9, 1, 2], [1, 9, math.nan], [2, math.nan, 9]])
    found = mean_over_pairs(values, resampling=Resampling(n_resamples=50))
    assert found.value == 1.5
    limits = found.intervals["archs"]
    assert (limits.low, limits.high) == (1, 2)
    assert mean_over_pairs(values, resampling=Resampling(n_resamples=0)).intervals == {}
    nothing = mean_over_pairs(np.full((2, 2), math.nan))
    assert math.isnan(nothing.value)
    assert "no pair" in str(nothing.reason)


def test_limits_of_the_mean_draw_archs_again():
    values = np.random.default_rng(0).normal(size=(6, 6))
    values = values + values.T
    resampling = Resampling(n_resamples=8, level=0.5)
    slow = []
    for row in resampling.weights(6, resampling.rngs(1)[0]):
        drawn = [i for i in range(6) for _ in range(int(row[i]))]
        slow.append(np.mean([values[i, j] for i in drawn for j in drawn if i != j]))
    limits = mean_over_pairs(values, resampling=resampling).intervals["archs"]
    right = np.quantile(slow, [0.25, 0.75]).tolist()
    assert [limits.low, limits.high] == pytest.approx(right, rel=0, abs=1e-12)


def test_means_by_what_is_shared():
    shared = np.array([[3, 0, 1, 2], [0, 3, 0, 1], [1, 0, 3, 0], [2, 1, 0, 3]])
    values = np.array(
        [[7, 1, 5, math.nan], [1, 7, 2, 6], [5, 2, 7, 3], [math.nan, 6, 3, 7]], dtype=float
    )
    found = means_by_shared(values, shared)
    assert list(found) == [0, 1, 2]
    assert (found[0], found[1]) == (2, 5.5)
    assert math.isnan(found[2])


def part(archs, values, used=None):
    return WeightGradients(np.array(archs), np.array(values, np.float32), used)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: part([0], [1.0]), ShapeError, r"\(row, weight\)"),
        (lambda: part([0, 1], [[1.0]]), ShapeError, r"archs \(2,\)"),
        (lambda: part([0], [[1.0]], np.ones((1, 2), bool)), ShapeError, r"is_used \(1, 2\)"),
        (lambda: gradient_cosines([part([0, 2], [[1], [1]])], 2), OptionError, "there are 2"),
        (lambda: gradient_cosines([part([-1], [[1]])], 2), OptionError, "run from -1"),
        (lambda: gradient_cosines([part([1, 1], [[1], [1]])], 2), OptionError, "one twice"),
        (
            lambda: gradient_cosines([part([0, 1], [[1], [math.nan]])], 2),
            OptionError,
            "arch 1 is not finite",
        ),
        (lambda: mean_over_pairs(np.ones((2, 3))), ShapeError, r"\(2, 3\)"),
        (lambda: means_by_shared(np.eye(2), np.eye(3)), ShapeError, r"\(3, 3\)"),
    ],
)
def test_wrong_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
