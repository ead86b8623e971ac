"""Many campaigns of one file together: planted effects, slow doubles, bad input, the command and its page."""

import json
import math
from itertools import combinations

import numpy as np
import pytest
from test_report_page import Page
from test_store_samples import make_key, make_score
from timeline_runs import ARCHS as CELLS
from timeline_runs import IMAGES, SPACE, choose, timeline_run

from wsx.errors import OptionError, StoreError, StoreKeyError, TruthError
from wsx.store import open_store
from wsx.studies.analyze_panel import PanelOptions, analyze_panel, report_panel
from wsx.studies.panel import read_panel
from wsx.studies.timeline import evaluate_checkpoints

N_IMAGES = 64
ARCHS = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
TEXTS = ["|".join(map(str, arch)) for arch in ARCHS]
QUALITY = np.array([0.3, 0.1, 0.5, 0.2, 0.4])
OPTIONS = PanelOptions(n_resamples=100, seed=1)


def rows_of(table):
    assert len(set(table.columns)) == len(table.columns)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def tables_of(analysis, key):
    (part,) = [part for part in analysis.parts if part.key == key]
    return [rows_of(table) for table in part.tables]


def info(seed, step, **more):
    return {
        "run": f"run-{seed}",
        "run_seed": seed,
        "run_config": {"seed": seed},
        "checkpoint": f"step-{step:07d}",
        "step": step,
        "epoch": 1,
        **more,
    }


def fill(path, *where, **what):
    with open_store(path, "a") as store:
        add(store, *where, **what)


def add(store, seed, step, correct, losses, *, archs=ARCHS, facts=None, **changes):
    sha = f"{seed}/{step}/{facts}".ljust(64, ".")[:64]
    key = make_key(space="someone's", checkpoint_sha256=sha, **changes)
    facts = info(seed, step, **(facts or {}))
    rows = []
    for arch, n, loss in zip(archs, correct, losses, strict=True):
        bits = np.packbits(np.arange(N_IMAGES) < n).tobytes()
        more = {"correct": int(n), "bits": bits, "loss_sum": float(loss)}
        rows.append(make_score(arch, N_IMAGES, **more))
    store.campaign(key, image_ids=range(N_IMAGES), info=facts).append(rows)


def planted(path, scores, *, first=1, apart=1):
    """Write scores (run, checkpoint, arch) in [0, 1] as accuracies, and as losses without rounding."""
    with open_store(path, "a") as store:
        for run, table in enumerate(scores):
            for checkpoint, row in enumerate(table):
                step = first + apart * checkpoint
                add(store, run, step, np.rint(N_IMAGES * row), N_IMAGES * (1 - row))
    return path


def noisy(n_runs, n_checkpoints, *, noise=0.15, seed=0):
    rng = np.random.default_rng(seed)
    return np.clip(QUALITY + noise * rng.normal(size=(n_runs, n_checkpoints, len(ARCHS))), 0, 1)


def write_truth(path, values, texts=TEXTS):
    rows = [f"{text},{value}" for text, value in zip(texts, values, strict=True)]
    path.write_text("\n".join(["arch,accuracy", *rows]) + "\n")
    return str(path)


def slow_tau(first, second):
    """Return Kendall's tau-b by counting pairs."""
    pairs = list(combinations(range(len(first)), 2))
    a = np.array([np.sign(first[i] - first[j]) for i, j in pairs])
    b = np.array([np.sign(second[i] - second[j]) for i, j in pairs])
    return (a * b).sum() / math.sqrt((a != 0).sum() * (b != 0).sum())


def test_planted_variance_comes_out_as_planted(tmp_path):
    # Effects of archs, of runs and of checkpoints, and nothing else.
    runs, moments = np.array([0.0, 0.1, 0.25]), np.array([[0.0, 0.02], [0.05, 0.0], [0.01, 0.04]])
    scores = QUALITY + runs[:, None, None] + moments[..., None]
    path = planted(tmp_path / "s.h5", scores)
    found = analyze_panel(path, options=PanelOptions(n_resamples=100, by="loss"))
    (rows,) = tables_of(found, "variance")
    by_name = {row["component"]: row for row in rows}
    arch = by_name["arch"]
    # Losses are no accuracies: -loss has no percent.
    assert arch["variance"] == pytest.approx(QUALITY.var(ddof=1), rel=1e-9)
    inside = moments.var(axis=1, ddof=1).mean()
    between = (runs + moments.mean(axis=1)).var(ddof=1) - inside / 2
    assert by_name["checkpoint in run"]["variance"] == pytest.approx(inside, rel=1e-9)
    assert by_name["run"]["variance"] == pytest.approx(between, rel=1e-9)
    assert by_name["arch x run"]["variance"] == pytest.approx(0, abs=1e-12)
    whole = QUALITY.var(ddof=1) + inside + between
    assert arch["share, %"] == pytest.approx(100 * QUALITY.var(ddof=1) / whole, rel=1e-6)
    assert arch["share low"] < arch["share, %"] < arch["share high"]
    assert any(name.startswith("evaluation images (needs") for name in by_name)


def test_accuracies_have_the_noise_of_their_images_taken_out(tmp_path, monkeypatch):
    found = analyze_panel(planted(tmp_path / "s.h5", noisy(2, 2)), options=OPTIONS)
    (rows,) = tables_of(found, "variance")
    (images,) = [row for row in rows if row["component"] == "evaluation images"]
    assert images["variance, %²"] > 0
    monkeypatch.setattr("wsx.studies.analyze_panel.MAX_OUTCOMES", 2 * 2 * 5 * N_IMAGES - 1)
    (rows,) = tables_of(analyze_panel(tmp_path / "s.h5", options=OPTIONS), "variance")
    assert [row for row in rows if row["component"].startswith("evaluation images (needs")]


def test_agreement_of_rankings_is_that_of_slow_counting(tmp_path):
    scores = noisy(3, 4)
    found = analyze_panel(
        planted(tmp_path / "s.h5", scores), options=PanelOptions(n_resamples=100, window=2)
    )
    rounded = np.rint(N_IMAGES * scores)
    (rows,) = tables_of(found, "stability")
    taus = [slow_tau(a, b) for a, b in combinations(rounded[:, -1], 2)]
    between = rows[0]
    assert between["between"] == "runs, at step-0000004"
    assert between["S-Tau"] == pytest.approx(np.mean(taus), abs=1e-12)
    ends = (between["lowest tau"], between["highest tau"])
    assert ends == pytest.approx((min(taus), max(taus)), abs=1e-12)
    assert between["low"] <= between["S-Tau"] <= between["high"]
    assert [row["rankings"] for row in rows[1:]] == [2, 2, 2]
    for row, table in zip(rows[1:], rounded, strict=True):
        assert row["S-Tau"] == pytest.approx(slow_tau(table[-2], table[-1]), abs=1e-12)
        assert row["low"] is None


def test_agreement_with_truth_is_that_of_slow_counting(tmp_path):
    scores = noisy(2, 3, seed=1)
    path = planted(tmp_path / "s.h5", scores)
    values = np.array([0.7, 0.9, 0.6, 0.8])
    # Truth knows four of five archs, in another order.
    truth = write_truth(tmp_path / "t.csv", values[::-1], TEXTS[:4][::-1])
    options = PanelOptions(n_resamples=100, window=2)
    found = analyze_panel(path, truth=truth, options=options)
    assert (found.n_without_truth, found.as_dict()["n_without_truth"]) == (1, 1)
    (rows,) = tables_of(found, "truth")
    rounded = np.rint(N_IMAGES * scores)[..., :4]
    tau = np.array([[slow_tau(row, values) for row in table] for table in rounded])
    gt, mean, std, first, third = rows
    assert [gt["run-0"], gt["run-1"]] == pytest.approx(tau[:, -1], abs=1e-12)
    assert gt["mean over runs"] == pytest.approx(tau[:, -1].mean(), abs=1e-12)
    assert mean["mean over runs"] == pytest.approx(tau[:, -2:].mean(), abs=1e-12)
    assert std["mean over runs"] == pytest.approx(tau[:, -2:].std(axis=1).mean(), abs=1e-12)
    order = np.argsort(np.argsort(-values)) + 1
    for run, name in enumerate(("run-0", "run-1")):
        assert len(set(rounded[run, -1])) == 4
        best = np.argsort(-rounded[run, -1])
        assert first[name] == order[best[0]]
        assert third[name] == min(order[best[:3]])
    assert first["of"].endswith("(T1R)")
    (part,) = [part for part in found.parts if part.key == "truth"]
    for run, line in enumerate(part.plots[0].series):
        assert list(line.x) == [1, 2, 3]
        assert line.y == pytest.approx(tau[run], abs=1e-12)


def test_ranks_of_archs_are_those_of_the_window(tmp_path):
    scores = noisy(2, 5, seed=3)
    options = PanelOptions(n_resamples=0, window=3)
    found = analyze_panel(planted(tmp_path / "s.h5", scores), options=options)
    (rows,) = tables_of(found, "ranks")
    last = np.rint(N_IMAGES * scores)[:, -3:].reshape(6, -1)
    ranks = np.array([[1 + (r > x).sum() + ((r == x).sum() - 1) / 2 for x in r] for r in last])
    assert [row["arch"] for row in rows] == [
        TEXTS[a] for a in np.argsort(ranks.mean(axis=0), kind="stable")
    ]
    for row in rows:
        mine = ranks[:, TEXTS.index(row["arch"])]
        assert row["mean rank"] == pytest.approx(mine.mean(), abs=1e-12)
        assert (row["best"], row["worst"]) == (mine.min(), mine.max())
        quarters = [row["25 %"], row["median"], row["75 %"]]
        assert quarters == pytest.approx(np.quantile(mine, [0.25, 0.5, 0.75]), abs=1e-12)


def test_a_planted_period_stands_out_and_noise_does_not(tmp_path):
    time = np.arange(30)
    wave = 0.2 * np.sin(2 * np.pi * (time[:, None] + np.arange(5)) / 5)
    rng = np.random.default_rng(0)
    scores = np.stack([QUALITY + wave + 0.2, QUALITY + 0.2 + 0.05 * rng.normal(size=(30, 5))])
    found = analyze_panel(planted(tmp_path / "s.h5", scores), options=OPTIONS)
    (rows,) = tables_of(found, "periodicity")
    assert [(row["period, steps"], row["cycles"]) for row in rows] == [(5, 6), (5, 6)]
    assert rows[0]["share, %"] > 95
    assert rows[0]["p"] < 0.05
    assert rows[0]["largest of the periods beside it, %"] < 50
    assert rows[1]["share, %"] < 30
    other = analyze_panel(tmp_path / "s.h5", options=PanelOptions(n_resamples=20, period=7))
    assert tables_of(other, "periodicity")[0][0]["share, %"] < 50


def test_steps_that_are_not_consecutive_have_no_period(tmp_path):
    path = planted(tmp_path / "s.h5", noisy(1, 12), apart=2)
    found = analyze_panel(path, options=OPTIONS)
    assert "periodicity" not in found.as_dict()["parts"]
    with pytest.raises(OptionError, match="a period of 5 steps needs checkpoints of consecutive"):
        analyze_panel(path, options=PanelOptions(period=5))


def test_runs_with_one_checkpoint_and_one_run_with_several_are_enough(tmp_path):
    seeds = analyze_panel(planted(tmp_path / "seeds.h5", noisy(3, 1)), options=OPTIONS)
    assert [part.key for part in seeds.parts] == ["variance", "stability", "ranks"]
    assert len(tables_of(seeds, "stability")[0]) == 1
    alone = analyze_panel(planted(tmp_path / "alone.h5", noisy(1, 3)), options=OPTIONS)
    assert tables_of(alone, "stability")[0][0]["between"] == "the last 3 checkpoints of run-0"
    for found in (seeds, alone):
        json.dumps(found.as_dict(), allow_nan=False)
        report_panel(found, tmp_path / "r.html", title="r")


def test_what_some_campaigns_lack_is_left_out_and_counted(tmp_path):
    path = planted(tmp_path / "s.h5", noisy(2, 2))
    fill(path, 0, 3, [5, 6, 7, 8, 9], [1] * 5)
    for run in (0, 1):
        fill(path, run, 4, [5, 6, 7], [1] * 3, archs=ARCHS[:3])
    found = analyze_panel(path, options=OPTIONS)
    # Step 3 is of one run only, and two archs are not scored at step 4.
    assert found.left_out == {"archs": 2, "checkpoints": 1}
    assert found.panel.checkpoints == ("step-0000001", "step-0000002", "step-0000004")
    assert found.panel.archs == tuple(TEXTS[:3])
    full = read_panel(path, has_gaps=True)
    assert np.array_equal(found.panel.correct, full.correct[:, [0, 1, 3]][..., :3])
    assert found.panel.steps.tolist() == [[1, 2, 4]] * 2


def test_archs_that_differ_are_left_out_until_fewer_than_two_remain(tmp_path):
    path = planted(tmp_path / "s.h5", noisy(1, 2))
    fill(path, 0, 3, [5, 6, 7], [1] * 3, archs=[*ARCHS[:2], (2, 1)])
    found = analyze_panel(path, options=OPTIONS)
    assert found.left_out == {"archs": 4, "checkpoints": 0}
    assert found.panel.archs == ("0|0", "0|1")
    assert found.facts()["archs left out"] == 4
    fill(path, 0, 4, [5, 6], [1] * 2, archs=[ARCHS[0], (2, 1)])
    with pytest.raises(StoreError, match="campaigns have 1 of 6 archs in common"):
        analyze_panel(path, options=OPTIONS)


def test_runs_without_a_checkpoint_in_common_are_refused(tmp_path):
    path = planted(tmp_path / "s.h5", noisy(1, 2))
    fill(path, 1, 9, [5, 6, 7, 8, 9], [1] * 5)
    with pytest.raises(StoreError, match=r"run-0, run-1 have no scored checkpoint in common"):
        analyze_panel(path, options=OPTIONS)


def test_one_campaign_is_refused_with_what_to_do(tmp_path):
    path = planted(tmp_path / "s.h5", noisy(1, 1))
    with pytest.raises(StoreError, match=r"one campaign to analyse, run-0 .*: analyse it without"):
        analyze_panel(path, options=OPTIONS)
    tuned = {"n_batches": 4, "checkpoint_sha256": "0", "lr": 0.1, "seed": 0, "momentum": "fresh"}
    sha = f"{0}/{1}/{None}".ljust(64, ".")
    facts = {"finetune": {**tuned, "checkpoint_sha256": sha}}
    fill(path, 0, 1, [9, 5, 7, 8, 1], [1] * 5, facts=facts)
    with pytest.raises(StoreError, match="are of fine-tuned subnets: add --finetuned"):
        analyze_panel(path, options=OPTIONS)
    found = analyze_panel(path, options=PanelOptions(n_resamples=20, is_finetuned=True))
    assert found.panel.checkpoints == ("step-0000001", "step-0000001+4")
    (part,) = [part for part in found.parts if part.key == "stability"]
    assert list(part.plots[0].series[0].x) == ["step-0000001", "step-0000001+4"]


def test_of_several_kinds_one_is_chosen_by_a_campaign(tmp_path):
    path = planted(tmp_path / "s.h5", noisy(2, 2))
    fill(path, 0, 1, [1, 2, 3, 4, 5], [1] * 5, bn="running")
    with pytest.raises(StoreKeyError, match="--campaign DIGEST takes those of its kind"):
        analyze_panel(path, options=OPTIONS)
    with open_store(path, "r") as store:
        digests = {table.key.bn: table.key.digest() for table in store.tables()}
    found = analyze_panel(path, campaign=digests["calibrated:4x256"][:12], options=OPTIONS)
    assert found.panel.correct.shape == (2, 2, 5)
    with pytest.raises(StoreError, match="one campaign"):
        analyze_panel(path, campaign=digests["running"], options=OPTIONS)


def test_campaigns_of_archs_that_a_search_chose_are_said_to_be(tmp_path):
    path = planted(tmp_path / "s.h5", noisy(1, 2))
    assert analyze_panel(path, options=OPTIONS).selection is None
    fill(path, 0, 3, [1, 2, 3, 4, 5], [1] * 5, facts={"race": {"k": 3}})
    found = analyze_panel(path, options=OPTIONS)
    assert found.selection.startswith("a race for the top 3")
    assert found.as_dict()["selection"] == found.facts()["selection"] == found.selection


def test_a_truth_that_knows_too_few_is_refused(tmp_path):
    path = planted(tmp_path / "s.h5", noisy(1, 2))
    truth = write_truth(tmp_path / "t.csv", [0.5], TEXTS[:1])
    with pytest.raises(TruthError, match="knows 1 of the 5 archs"):
        analyze_panel(path, truth=truth, options=OPTIONS)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"by": "speed"}, "not by 'speed'"),
        ({"window": 0}, "at least 1 checkpoint, got 0"),
        ({"period": 1}, "at least 2 steps, got 1"),
        ({"level": 1.0}, "level must lie"),
        ({"n_resamples": -1}, "0 or more"),
    ],
)
def test_options_out_of_range_are_refused(values, told):
    with pytest.raises(OptionError, match=told):
        PanelOptions(**values)


def test_a_window_longer_than_the_runs_is_refused(tmp_path):
    path = planted(tmp_path / "s.h5", noisy(2, 3))
    with pytest.raises(OptionError, match="a window of 4 checkpoints is more than the 3"):
        analyze_panel(path, options=PanelOptions(window=4))


def test_a_report_is_a_page(tmp_path):
    found = analyze_panel(planted(tmp_path / "s.h5", noisy(2, 2)), options=OPTIONS)
    with pytest.raises(OptionError, match=r"does not end in \.html"):
        report_panel(found, tmp_path / "r.txt", title="r")


@pytest.mark.slow
def test_runs_scored_over_time_are_analysed_together(tmp_path_factory, tmp_path):
    folder = tmp_path_factory.getbasetemp()
    runs = [timeline_run(folder, seed) for seed in (0, 1)]
    archs = [*CELLS, *(SPACE.parse(text) for text in ("121", "414", "143", "222"))]
    out = tmp_path / "scores.h5"
    choice = choose(tmp_path, archs)
    report = evaluate_checkpoints(
        runs, "all", out, choice=choice, bn="running", images=IMAGES, device="cpu"
    )
    assert report.n_failed == 0
    found = analyze_panel(out, truth="digits-cell64", options=OPTIONS)
    panel = read_panel(out)
    assert np.array_equal(found.panel.correct, panel.correct)
    (rows,) = tables_of(found, "stability")
    tau = slow_tau(*panel.correct[:, -1])
    assert rows[0]["S-Tau"] == pytest.approx(tau, abs=1e-12)
    files = report_panel(found, tmp_path / "r.html", title="cell64")
    assert {"variance", "truth", "ranks"} <= set(Page(files.page.read_text("utf-8")).rows)


def test_parts_are_told_one_after_another(tmp_path):
    told = []
    path = planted(tmp_path / "s.h5", noisy(2, 3))
    found = analyze_panel(path, options=OPTIONS, on_part=lambda *now: told.append(now))
    keys = [part.key for part in found.parts]
    assert [(done, name) for done, _, name in told] == [*enumerate(keys), (len(keys), "")]
    assert {n for _, n, _ in told} == {len(keys)}
