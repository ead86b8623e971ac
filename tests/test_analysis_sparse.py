import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from wsx.analysis import bin_accuracies, kendall_tau, sparse_kendall_tau
from wsx.errors import OptionError, ShapeError


def paper_sparse_tau(predicted: list[float], truth: list[Fraction], width: Fraction) -> float:
    """Literal walk of the published code, in exact arithmetic."""
    n_archs = len(truth)
    bins, current, last = [0] * n_archs, 0, None
    in_truth_order = sorted(range(n_archs), key=lambda i: truth[i])
    for arch in in_truth_order:
        step = math.floor(truth[arch] / width)
        if last is not None and step > last:
            current += 1
        last = step
        bins[arch] = current
    x = [bins[arch] for arch in in_truth_order]
    y = [bins[arch] for arch in sorted(range(n_archs), key=lambda i: predicted[i])]
    return float(scipy.stats.kendalltau(x, y).statistic)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 1000)), min_size=2, max_size=40),
    st.sampled_from([Fraction(1, 10_000), Fraction(1, 1000), Fraction(1, 100), Fraction(1, 7)]),
)
def test_paper_variant_follows_the_published_walk(
    points: list[tuple[int, int]], width: Fraction
) -> None:
    # Accuracies on 1,000 images: many lie exactly on the edge of a bin.
    truth = [Fraction(n_correct, 1000) for _, n_correct in points]
    predicted = [p / 50 for p, _ in points]
    value = sparse_kendall_tau(
        predicted, [float(t) for t in truth], width=float(width), variant="paper"
    )
    expected = paper_sparse_tau(predicted, truth, width)
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-12)


def test_the_two_variants_differ_where_positions_do_not_pair_up() -> None:
    truth, predicted = [0.1, 0.2, 0.3], [1, 3, 2]
    # Bins 0, 0, 1: of two pairs across them one agrees. In predicted order they are 0, 1, 0.
    assert sparse_kendall_tau(predicted, truth, width=0.25) == 0
    paper = sparse_kendall_tau(predicted, truth, width=0.25, variant="paper")
    assert paper == kendall_tau([0, 0, 1], [0, 1, 0]) == -0.5


def test_rank_changes_inside_a_bin_do_not_count() -> None:
    truth = [0.9001, 0.9005, 0.9302, 0.9308]
    swapped = [2, 1, 4, 3]
    assert kendall_tau(swapped, truth) == pytest.approx(1 / 3, rel=0, abs=1e-12)
    # Four pairs across the bins agree; the two inside are tied in truth only.
    expected = 4 / math.sqrt(6 * 4)
    assert sparse_kendall_tau(swapped, truth) == pytest.approx(expected, rel=0, abs=1e-12)
    assert sparse_kendall_tau(swapped, truth, variant="paper") == 1


def test_bins_finer_than_the_truth_change_nothing() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.permutation(200) / 200, rng.random(200)
    for variant in ("pairwise", "paper"):
        value = sparse_kendall_tau(predicted, truth, width=1e-4, variant=variant)
        assert value == pytest.approx(kendall_tau(predicted, truth), rel=0, abs=1e-12)


def test_edges_of_bins_belong_to_the_bin_above() -> None:
    counts = np.arange(10_001)
    np.testing.assert_array_equal(bin_accuracies(counts / 10_000, 0.001), counts // 10)


@pytest.mark.parametrize("variant", ["pairwise", "paper"])
def test_one_bin_or_too_few_archs_have_no_value(variant: str) -> None:
    for predicted, truth in [([], []), ([0.1], [0.1]), ([0.1, 0.2], [0.9001, 0.9002])]:
        assert math.isnan(sparse_kendall_tau(predicted, truth, variant=variant))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("truth", "options", "message"),
    [
        ([93.1, 94.2], {}, "divide percent by 100"),
        ([-0.1, 0.2], {}, r"in \[0, 1\], got -0.1"),
        ([0.1, 0.2], {"width": 0}, "bin width"),
        ([0.1, 0.2], {"width": math.nan}, "bin width"),
        ([0.1, 0.2], {"width": 1.5}, "got 1.5"),
        ([0.1, 0.2], {"variant": "papre"}, "'papre'"),
    ],
)
def test_wrong_options_are_refused(truth: list[float], options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        sparse_kendall_tau([1, 2], truth, **options)


def test_lengths_must_agree() -> None:
    with pytest.raises(ShapeError):
        sparse_kendall_tau([1, 2, 3], [0.1, 0.2])
