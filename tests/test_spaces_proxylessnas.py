import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsx.errors import ArchError
from wsx.spaces import SPACES
from wsx.spaces.proxylessnas import PROXYLESSNAS, ZERO, cells, last_channels, scaled
from wsx.training.recipes import Recipe
from wsx.training.sampling import ArchSampler

N_OPTIONS = [6, 7, 7, 7] * 5 + [6]
IMAGENET = {"width_percent": 135, "n_classes": 1000, "in_channels": 3, "image_size": 224}
TEXT = "4063-3642-4614-5656-1550-3"
ARCH = (4, 0, 6, 3, 3, 6, 4, 2, 4, 6, 1, 4, 5, 6, 5, 6, 1, 5, 5, 0, 3)
archs = st.tuples(*(st.integers(0, n - 1) for n in N_OPTIONS))


def p1_text(arch):
    names = [
        f"stage{stage}_cell{cell}" for stage in range(6) for cell in range(4 if stage < 5 else 1)
    ]
    return json.dumps(dict(zip(names, arch, strict=True)))


def test_size_and_decisions():
    assert SPACES["proxylessnas"] is PROXYLESSNAS
    assert PROXYLESSNAS.n_archs == 6**6 * 7**15
    assert list(PROXYLESSNAS.n_options) == N_OPTIONS
    second = PROXYLESSNAS.decisions[1]
    assert second.name == "stage0_cell1"
    assert second.options == (
        "3x3_MB3", "3x3_MB6", "5x5_MB3", "5x5_MB6", "7x7_MB3", "7x7_MB6", "Zero"
    )  # fmt: skip


@given(archs)
@settings(max_examples=200, deadline=None)
def test_both_texts_come_back(arch):
    text = PROXYLESSNAS.format(arch)
    assert PROXYLESSNAS.parse(text) == PROXYLESSNAS.parse(p1_text(arch)) == arch
    assert PROXYLESSNAS.format(PROXYLESSNAS.parse(p1_text(arch))) == text
    assert PROXYLESSNAS.arch_at(PROXYLESSNAS.index(arch)) == arch


def test_text_is_the_documented_one():
    assert PROXYLESSNAS.format(ARCH) == TEXT
    assert PROXYLESSNAS.parse(f"  {TEXT}\n") == ARCH
    # Keys may come in any order.
    shuffled = dict(reversed(json.loads(p1_text(ARCH)).items()))
    assert PROXYLESSNAS.parse(json.dumps(shuffled)) == ARCH


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4063-3642-4614-5656-1550",
        "4063-3642-4614-5656-1550-33",
        "406336424614565615503",
        "4063-3642-4614-5656-15503-",
        "7063-3642-4614-5656-1550-3",
        "6063-3642-4614-5656-1550-3",
        "\u0664063-3642-4614-5656-1550-3",
        "-" * 1000,
        "4" * 10_000_000,
        "{" * 1999,
        '{"a": ' * 300,
        "{}",
        "{",
        p1_text(ARCH)[:-1],
        p1_text(ARCH).replace("cell0", "cell9"),
        p1_text(ARCH).replace('"stage0_cell0": 4, ', ""),
        p1_text(ARCH).replace('"stage0_cell0": 4', '"stage0_cell0": 4, "stage0_cell0": 4'),
        p1_text(ARCH).replace('"stage0_cell0": 4, ', '"stage0_cell0": 4, "stage9_cell0": 4, '),
        p1_text(ARCH).replace('"stage0_cell0": 4', '"stage0_cell0": 6'),
        *(
            p1_text(ARCH).replace('"stage0_cell0": 4', f'"stage0_cell0": {value}')
            for value in (
                "-1",
                "4.0",
                "true",
                "null",
                "NaN",
                "1e999",
                '"4"',
                "[4]",
                '{"a": 4}',
                "9" * 99,
            )
        ),
    ],
)
def test_bad_texts_are_refused(text):
    with pytest.raises(ArchError):
        PROXYLESSNAS.parse(text)


def make_divisible(value, divisor=8):
    """MobileNet's rule as it is published, in floats."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def test_channels_are_rounded_as_published():
    assert [width for width, _ in cells(135)][::4] == [32, 56, 112, 128, 256, 432]
    assert [stride for _, stride in cells(135)] == [2, 1, 1, 1] * 3 + [1] * 4 + [2, 1, 1, 1, 1]
    assert (scaled(32, 135), scaled(16, 135), last_channels(135)) == (40, 24, 1728)
    assert (last_channels(100), last_channels(30)) == (1280, 1280)
    for percent in (1, 25, 35, 50, 75, 100, 135, 140, 333):
        for channels in (16, 24, 32, 40, 80, 96, 192, 320, 1280):
            assert scaled(channels, percent) == make_divisible(channels * percent / 100)


def test_cost_equals_the_table(shared_data):
    table = pq.read_table(shared_data / "proxylessnas" / "ground_truth.parquet").to_pylist()
    assert len(table) == 36
    for row in table:
        cost = PROXYLESSNAS.cost(PROXYLESSNAS.parse(row["architecture"]), IMAGENET)
        assert cost.params == row["params"]
        # The table's sums were rounded to single precision, whose steps are 32 or 64 here.
        assert abs(cost.flops - row["flops"]) <= 32


def test_cost_of_published_parts():
    zeros = tuple(0 if n == 6 else ZERO for n in N_OPTIONS)
    least = PROXYLESSNAS.cost(zeros, IMAGENET)
    more = PROXYLESSNAS.cost((0, 0, *zeros[2:]), IMAGENET)
    # 32 channels at 56 pixels, threefold: 1x1, depthwise 3x3, 1x1 and their three norms.
    assert more.params - least.params == 2 * 32 * 96 + 9 * 96 + 2 * (96 + 96 + 32)
    assert more.flops - least.flops == (2 * 32 * 96 + 9 * 96) * 56**2
    plain = PROXYLESSNAS.cost(zeros, IMAGENET | {"is_affine": False})
    assert plain.flops == least.flops
    assert plain.params < least.params


def test_neighbours_and_mutation():
    neighbours = PROXYLESSNAS.neighbours(ARCH)
    assert len(set(neighbours)) == 6 * 5 + 15 * 6
    rng = np.random.default_rng(0)
    assert all(PROXYLESSNAS.mutate(ARCH, rng=rng) in neighbours for _ in range(50))


def test_fair_steps_use_every_option_though_decisions_differ_in_their_number():
    sampler = ArchSampler(PROXYLESSNAS, Recipe(sampler="fair"), seed=3)
    repeated = np.zeros(6)
    n_steps = 300
    for step in range(n_steps):
        columns = list(zip(*sampler[step], strict=True))
        for column, n in zip(columns, N_OPTIONS, strict=True):
            counts = np.bincount(column, minlength=n)
            assert sorted(counts) == [1] * 7 if n == 7 else [1] * 5 + [2]
            if n == 6:
                repeated += counts == 2
    n, p = 6 * n_steps, 1 / 6
    assert np.all(np.abs(repeated - n * p) < 5 * np.sqrt(n * p * (1 - p)))
