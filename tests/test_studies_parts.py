"""Bias, pruning and picks of one campaign: planted effects, slow doubles, and the page that shows them."""

import json
import math
import sys
from itertools import combinations

import numpy as np
import pytest
from test_report_page import Page
from test_studies_analyze import ARCHS, N_ARCHS, OPTIONS, TEXTS, write_scores, write_truth_csv

from wsx.analysis import Resampling, SummaryOptions
from wsx.cli import main
from wsx.errors import ShapeError
from wsx.spaces import Decision
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.studies.analyze import compare, report_comparison
from wsx.studies.parts.bias import bias_part
from wsx.studies.parts.campaign import campaign_parts, decisions_of, depths_of, known_sizes
from wsx.studies.parts.picks import picks_part
from wsx.studies.parts.pruning import KEPT, pruning_part

DECISIONS = [Decision("first", ("a", "b")), Decision("second", ("a", "c", "d"))]
DRAWN = Resampling(n_resamples=200, seed=1)
NONE = Resampling(n_resamples=0)


def rows_of(table):
    """Return the rows as mappings; heads are all different."""
    assert len(set(table.columns)) == len(table.columns)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def planted_archs(n, rng):
    return np.column_stack([rng.integers(2, size=n), rng.integers(3, size=n)]).astype(np.int16)


def fractions(values):
    """Return the share of the others that each beats, ties as halves."""
    return np.array(
        [
            sum((v > w) + 0.5 * (v == w) for j, w in enumerate(values) if j != i)
            for i, v in enumerate(values)
        ]
    ) / (len(values) - 1)


def slow_bias(scores, truth, has):
    residuals = fractions(scores) - fractions(truth)
    return residuals[has].mean() - residuals[~has].mean()


def test_a_planted_preference_is_found_on_its_option_and_nowhere_else():
    rng = np.random.default_rng(3)
    archs = planted_archs(300, rng)
    truth = rng.uniform(0.5, 0.9, 300)
    liked = archs[:, 1] == 2
    predicted = truth + 0.15 * liked + rng.normal(0, 0.01, 300)
    flops = rng.uniform(1, 2, 300)
    part = bias_part(DECISIONS, archs, predicted, truth, {"FLOPs": flops}, resampling=DRAWN)
    rows = rows_of(part.tables[0])
    over = [(row["decision"], row["option"]) for row in rows if row["valued"] == "over"]
    assert over == [("second", "d")]
    assert not any(row["valued"] for row in rows if row["decision"] in ("first", "FLOPs"))
    (found,) = [row for row in rows if row["option"] == "d"]
    assert found["archs"] == liked.sum()
    assert found["bias"] == pytest.approx(slow_bias(predicted, truth, liked), abs=1e-12)
    assert found["low"] < found["bias"] < found["high"]
    assert found["low"] > 0
    alone = slow_bias(flops, truth, liked)
    assert found["by FLOPs alone"] == pytest.approx(alone, abs=1e-12)


def test_a_preference_for_size_is_a_bias_of_its_bins_and_explained_by_it():
    rng = np.random.default_rng(4)
    archs = planted_archs(400, rng)
    truth = rng.uniform(0.5, 0.9, 400)
    params = rng.uniform(1e3, 1e5, 400)
    predicted = truth + 0.2 * np.log(params)
    part = bias_part(DECISIONS, archs, predicted, truth, {"params": params}, resampling=DRAWN)
    bins = [row for row in rows_of(part.tables[0]) if row["decision"] == "params"]
    assert [row["archs"] for row in bins] == [100] * 4
    by_start = sorted(bins, key=lambda row: float(row["option"].split(" to ")[0]))
    assert (by_start[0]["valued"], by_start[-1]["valued"]) == ("under", "over")
    explained = {row["variance of"]: row for row in rows_of(part.tables[1])}
    residuals = fractions(predicted) - fractions(truth)
    share = 100 * np.corrcoef(residuals, np.log(params))[0, 1] ** 2
    residual_row = explained["rank residuals"]
    assert residual_row["share explained, %"] == pytest.approx(share, abs=1e-9)
    assert residual_row["low"] > 20
    assert explained["truth"]["share explained, %"] < 5
    # Sizes are no decision of the space, and have no place in the figure.
    assert [plot.key for plot in part.plots] == ["bias", "bias-1"]
    assert list(part.plots[0].series[0].x) == ["first", "second"]


def test_options_of_too_few_archs_are_counted_and_constant_scores_have_no_bias():
    archs = np.array([[0, 0], [1, 1], [1, 2], [0, 1]], np.int16)
    truth = np.array([0.1, 0.2, 0.3, 0.4])
    part = bias_part(DECISIONS, archs, truth, truth, {}, resampling=DRAWN)
    assert part.tables[0].rows == []
    assert "5 options have no number" in part.tables[0].note
    assert part.plots == []
    many = np.tile(archs, (20, 1))
    flat = bias_part(DECISIONS, many, np.ones(80), np.tile(truth, 20), {}, resampling=DRAWN)
    assert "predicted is constant" in flat.tables[0].note
    with pytest.raises(ShapeError):
        bias_part(DECISIONS, archs, truth[:3], truth[:3], {}, resampling=DRAWN)


def test_a_planted_preference_for_depth_is_found():
    rng = np.random.default_rng(4)
    archs = np.array(NASBENCH201.sample(300, rng=rng, measure="reachable"), np.int16)
    depths = depths_of("nasbench201", archs)
    assert depths.tolist() == [NASBENCH201.depth(tuple(arch)) for arch in archs.tolist()]
    truth = rng.uniform(0.5, 0.9, 300)
    predicted = truth + 0.2 * (depths == 3) + rng.normal(0, 0.01, 300)
    part = bias_part(
        NASBENCH201.decisions, archs, predicted, truth, {}, resampling=DRAWN, depths=depths
    )
    rows = {(row["decision"], row["option"]): row for row in rows_of(part.tables[0])}
    deep = rows["depth", "3"]
    assert deep["bias"] == pytest.approx(slow_bias(predicted, truth, depths == 3), abs=1e-9)
    assert deep["valued"] == "over"
    assert deep["archs"] == (depths == 3).sum()
    # Spaces that do not say, or whose archs are all as deep, have no such rows.
    assert depths_of("cell64", np.zeros((4, 3), np.int16)) is None
    assert depths_of("nasbench201", np.ones((4, 6), np.int16)) is None
    assert depths_of("someone's", archs) is None


def slow_loss(scores, truth, k):
    """Return the mean loss of the best over all ways to keep k archs, ties at the cut among them."""
    best = max(
        (sum(scores[i] for i in kept) for kept in combinations(range(len(scores)), k)), default=0
    )
    kept = [c for c in combinations(range(len(scores)), k) if sum(scores[i] for i in c) == best]
    return truth.max() - np.mean([max(truth[list(c)]) for c in kept])


def test_pruning_costs_what_slow_counting_says():
    truth = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    predicted = np.array([1.0, 3, 3, 3, 8, 7, 6, 5])
    sizes = {"FLOPs": np.array([8.0, 7, 6, 5, 4, 3, 2, 1])}
    part = pruning_part(predicted, truth, sizes, top_fraction=0.25, resampling=NONE)
    found = {(row["cut by"], row["archs kept"]): row for row in rows_of(part.tables[0])}
    rankings = {"supernet": predicted, "random": np.zeros(8), **sizes}
    for name, scores in rankings.items():
        for k in (4, 6):
            row = found[name, k]
            slow = slow_loss(scores, truth, k)
            assert row["loss of the best, %"] == pytest.approx(100 * slow, abs=1e-9)
            assert row["best kept, %"] == pytest.approx(100 * (0.9 - slow), abs=1e-9)
    column = "of the true top 25 % kept, %"
    # Half is kept: the lower half of truth by the supernet, the upper by FLOPs.
    assert (found["supernet", 4][column], found["FLOPs", 4][column]) == (0, 100)
    assert found["random", 4][column] == pytest.approx(50, abs=1e-9)
    # Six are kept, two of the three tied at the cut: of the top two the second, in two cases of three.
    assert found["supernet", 6][column] == pytest.approx(100 / 3, abs=1e-9)


def test_pruning_plots_run_from_cutting_little_to_cutting_much_with_limits_of_the_supernet():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 0.9, 200)
    part = pruning_part(truth, truth, {}, top_fraction=0.1, resampling=DRAWN)
    assert [plot.key for plot in part.plots] == ["pruning-top", "pruning-loss"]
    series = {one.name: one for one in part.plots[0].series}
    assert list(series) == ["supernet", "random"]
    assert series["supernet"].x == pytest.approx(sorted(100 * (1 - k) for k in KEPT), abs=1e-9)
    assert series["supernet"].y == pytest.approx([100] * 5 + [50, 10], abs=1e-9)
    at_random = [100 * round(200 * k) / 200 for k in sorted(KEPT, reverse=True)]
    assert series["random"].y == pytest.approx(at_random, abs=1e-9)
    assert series["supernet"].low is not None
    assert series["random"].low is None
    assert set(part.plots[1].series[0].y) == {0.0}


def test_picks_of_a_perfect_ranking_and_of_none():
    truth = np.linspace(0.5, 0.9, 40)[np.random.default_rng(2).permutation(40)]
    part = picks_part(truth, truth, {"params": -truth}, resampling=NONE)
    found = {(row["picked by"], row["K"]): row for row in rows_of(part.tables[0])}
    assert {k for _, k in found} == {1, 3, 5, 10, 20}
    top = np.sort(truth)[::-1]
    for k in (1, 5, 20):
        best, worst = found["supernet", k], found["params", k]
        assert best["mean truth, %"] == pytest.approx(100 * top[:k].mean(), abs=1e-9)
        assert best["deviation"] == pytest.approx(100 * top[:k].std(), abs=1e-6)
        assert (best["best, %"], best["true rank of the best"]) == (pytest.approx(90), 1)
        assert best["P>R, %"] == pytest.approx(100 * (1 - 1 / 40) ** k, abs=1e-9)
        assert worst["true rank of the best"] == 41 - k
        blind = found["random", k]
        assert blind["mean truth, %"] == pytest.approx(100 * truth.mean(), abs=1e-9)
        assert blind["true rank of the best"] == pytest.approx(41 / (k + 1), abs=1e-9)
    ranks = {(row["picked by"], row["K"]): row for row in rows_of(part.tables[1])}
    five = ranks["supernet", 5]
    assert [five[n] for n in ("best", "median", "worst")] == pytest.approx([2.5, 7.5, 12.5])
    assert [ranks["params", 1][n] for n in ("best", "worst")] == [100, 100]
    subsets = rows_of(part.tables[2])
    assert [row["archs"] for row in subsets] == [10, 20]
    assert {row["mean tau-b"] for row in subsets} == {1.0}


def test_picks_have_limits_over_archs():
    rng = np.random.default_rng(5)
    truth = rng.uniform(0.5, 0.9, 60)
    part = picks_part(truth + rng.normal(0, 0.1, 60), truth, {}, resampling=DRAWN)
    for row in rows_of(part.tables[0]):
        if row["picked by"] == "supernet":
            assert row["low"] < row["high"]
            assert row["P>R low"] <= row["P>R, %"] <= row["P>R high"]


def test_scores_that_are_no_accuracies_have_no_percent():
    truth = -np.linspace(1, 3, 20)
    part = picks_part(truth, truth, {}, resampling=NONE)
    assert rows_of(part.tables[0])[0]["mean truth"] == -1.0
    assert (
        "loss of the best"
        in pruning_part(truth, truth, {}, top_fraction=0.1, resampling=NONE).tables[0].columns
    )


def test_sizes_that_are_unknown_or_all_alike_are_left_out():
    counts = np.array([3, 4, 5])
    assert list(known_sizes(counts, counts)) == ["params", "FLOPs"]
    assert list(known_sizes(np.array([3, -1, 5]), np.array([7, 7, 7]))) == []


def test_decisions_of_a_space_that_is_not_known_are_numbered():
    archs = np.array(ARCHS, np.int16)
    assert decisions_of("nasbench201", archs) == NASBENCH201.decisions
    numbered = decisions_of("someone's own", archs)
    assert [d.name for d in numbered] == [f"decision {i}" for i in range(6)]
    assert all(int(archs[:, i].max()) < len(d.options) for i, d in enumerate(numbered))


def test_a_single_arch_has_no_parts():
    one = np.ones(1)
    whole = np.ones(1, np.int64)
    archs = np.zeros((1, 2), np.int16)
    options = SummaryOptions(n_resamples=0)
    assert campaign_parts("x", archs, one, one, params=whole, flops=whole, options=options) == []


@pytest.fixture
def scores(tmp_path):
    return write_scores(tmp_path / "scores.h5")


def test_the_report_of_a_campaign_shows_all_parts_between_baselines_and_provenance(
    scores, tmp_path
):
    truth = write_truth_csv(tmp_path / "t.csv", np.linspace(0.5, 0.9, N_ARCHS))
    comparison = compare(scores, truth=truth, options=OPTIONS)
    files = report_comparison(comparison, tmp_path / "r.html", title="r")
    page = Page(files.page.read_text(encoding="utf-8"))
    assert page.open == []
    names = list(page.rows)
    mine = names[names.index("baselines") + 1 : names.index("provenance")]
    assert [name for name in mine if not name.startswith("plot-")] == [
        *("bias", "bias-1", "pruning", "picks", "picks-1", "picks-2"),
    ]
    assert {"plot-pruning-top", "plot-pruning-loss", "plot-picks"} <= set(mine)
    assert set(files.pictures) >= {"pruning-top", "pruning-loss", "picks"}
    assert all(path.stat().st_size > 5000 for path in files.pictures.values())
    drawn = page.json("figure-pruning-top")
    assert [trace["name"] for trace in drawn["data"]] == ["supernet", "random", "params", "FLOPs"]
    head, *rows = page.rows["pruning"]
    assert head[0] == "cut by"
    assert len(rows) == 4 * len(KEPT)


def test_without_truth_there_are_no_parts(scores, tmp_path):
    files = report_comparison(compare(scores, truth=None), tmp_path / "r.html", title="r")
    page = Page(files.page.read_text(encoding="utf-8"))
    assert not {"bias", "pruning", "picks"} & set(page.rows)


def test_one_arch_with_truth_still_has_a_report(scores, tmp_path):
    truth = write_truth_csv(tmp_path / "t.csv", [0.5], TEXTS[:1])
    comparison = compare(scores, truth=truth, options=OPTIONS)
    assert report_comparison(comparison, tmp_path / "r.html", title="r").page.exists()


def test_the_command_tells_all_parts_as_json(scores, tmp_path, monkeypatch, capsys):
    truth = write_truth_csv(tmp_path / "t.csv", np.linspace(0.5, 0.9, N_ARCHS))
    options = {"with": ["--truth", truth], "without": []}
    found = {}
    for name, more in options.items():
        command = ["wsx", "analyze", str(scores), "--resamples", "20", "--json", "--quiet", *more]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0
        found[name] = json.loads(capsys.readouterr().out)["parts"]
    assert list(found["with"]) == ["bias", "pruning", "picks"]
    assert found["without"] == {}


def test_parts_are_clean_json():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 0.9, 12)
    archs = planted_archs(12, rng)
    counts = np.arange(1, 13)
    options = SummaryOptions(n_resamples=20)
    parts = campaign_parts("own", archs, truth, truth, params=counts, flops=counts, options=options)
    for part in parts:
        told = json.loads(json.dumps(part.as_dict(), allow_nan=False))
        assert set(told) == {"key", "tables", "plots"}
        assert not any(isinstance(x, float) and math.isnan(x) for t in told["tables"] for x in t)
