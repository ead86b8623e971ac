import json
import math
from dataclasses import replace

import numpy as np
import pytest
from small_run import some_archs

from wsx.analysis import SummaryOptions, kendall_tau
from wsx.console import summary_table
from wsx.errors import OptionError, StoreError, TruthError, UnknownNameError
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.store import Score, ScoreKey, open_store
from wsx.studies.analyze import compare, report_comparison

N_ARCHS, N_IMAGES = 30, 64
ARCHS = some_archs(N_ARCHS, seed=7)
TEXTS = [NASBENCH201.format(arch) for arch in ARCHS]
OPTIONS = SummaryOptions(n_resamples=50)


def a_key(checkpoint="0"):
    return ScoreKey(
        "nasbench201", checkpoint * 64, "digits", "1" * 64, "running", "", 0, "float32", "CPU"
    )


def a_score(index, *, status="ok"):
    hits = np.arange(N_IMAGES) < 10 + index
    return Score(
        arch=ARCHS[index],
        text=TEXTS[index],
        function_key=str(index),
        correct=int(hits.sum()),
        total=N_IMAGES,
        # The loss ranks the other way round.
        loss_sum=100.0 + index if status == "ok" else math.nan,
        bits=np.packbits(hits).tobytes() if status == "ok" else b"",
        seconds_record=0.0,
        seconds_calibrate=0.0,
        seconds_build=0.0,
        seconds_run=0.0,
        status=status,
        error="" if status == "ok" else "cannot run",
        params=1000 + index,
        flops=5000 - index,
    )


def write_scores(path, *, keys=("0",), n_failed=0, n=N_ARCHS, info=None):
    with open_store(path, "a") as store:
        for name in keys:
            campaign = store.campaign(
                a_key(name), image_ids=range(N_IMAGES), info=info or {"seed": 0}
            )
            campaign.append(
                [a_score(i, status="failed" if i < n_failed else "ok") for i in range(n)]
            )
    return path


def write_truth_csv(path, values, texts=TEXTS):
    rows = [f"{text},{value}" for text, value in zip(texts, values, strict=True)]
    path.write_text("\n".join(["arch,accuracy", *rows]) + "\n")
    return str(path)


@pytest.fixture
def scores(tmp_path):
    return write_scores(tmp_path / "scores.h5")


@pytest.fixture
def truth(tmp_path):
    return write_truth_csv(tmp_path / "truth.csv", np.linspace(0.5, 0.9, N_ARCHS))


def test_scores_in_the_order_of_truth_have_tau_one(scores, truth):
    comparison = compare(scores, truth=truth, options=OPTIONS)
    assert comparison.summary.metrics["kendall_tau"].value == pytest.approx(1.0, abs=1e-12)
    values = json.loads(json.dumps(comparison.as_dict(), allow_nan=False))
    tau = values["summary"]["metrics"]["kendall_tau"]
    assert tau["value"] == pytest.approx(1.0, abs=1e-12)
    assert {"archs", "images"} <= set(tau["intervals"])
    assert (values["n_scored"], values["n_failed"], values["n_without_truth"]) == (N_ARCHS, 0, 0)
    assert values["key"] == a_key().as_dict()
    assert values["accuracy"]["min"] == 10 / N_IMAGES


def test_ranking_by_loss_takes_the_smaller_loss_for_the_better(scores, truth):
    comparison = compare(scores, truth=truth, by="loss", options=OPTIONS)
    assert comparison.summary.metrics["kendall_tau"].value == pytest.approx(-1.0, abs=1e-12)
    assert comparison.as_dict()["ranked_by"] == "loss"
    assert comparison.predicted.tolist() == [-(100.0 + i) / N_IMAGES for i in range(N_ARCHS)]


def test_another_ranking_is_refused(scores):
    with pytest.raises(OptionError, match="accuracy, loss, not by 'speed'"):
        compare(scores, truth=None, by="speed")


def test_without_truth_there_are_scores_and_no_measures(scores):
    comparison = compare(scores, truth=None)
    assert comparison.summary is None
    assert comparison.as_dict()["summary"] is None
    assert len(comparison.texts) == N_ARCHS


@pytest.mark.parametrize(
    ("info", "chooser"),
    [
        ({"race": {"k": 3}}, "a race for the top 3"),
        ({"search": {"algorithm": "evolution"}}, "a search"),
        ({"rescored": {}}, "a search"),
        ({"n": 100, "resumed": [{"n": 200}, {"race": {"k": 5}}]}, "a race for the top 5"),
    ],
)
def test_archs_that_were_chosen_by_their_scores_are_said_to_be(tmp_path, truth, info, chooser):
    chosen = compare(write_scores(tmp_path / "chosen.h5", info=info), truth=truth, options=OPTIONS)
    assert chosen.selection.startswith(f"{chooser} chose archs by their scores")
    assert chosen.facts()["selection"] == chosen.as_dict()["selection"] == chosen.selection
    page = report_comparison(chosen, tmp_path / "chosen.html", title="chosen").page
    assert chosen.selection in page.read_text()
    drawn = compare(write_scores(tmp_path / "drawn.h5"), truth=truth, options=OPTIONS)
    assert "selection" not in drawn.facts()
    assert drawn.as_dict()["selection"] is None


def test_failed_archs_are_left_out_and_counted(tmp_path, truth):
    scores = write_scores(tmp_path / "failed.h5", n_failed=4)
    comparison = compare(scores, truth=truth, options=OPTIONS)
    facts = comparison.as_dict()
    assert (facts["n_scored"], facts["n_failed"]) == (N_ARCHS - 4, 4)
    assert comparison.texts == TEXTS[4:]
    assert comparison.summary.n_archs == N_ARCHS - 4


def test_truth_in_another_order_is_aligned_by_text(scores, tmp_path):
    order = np.random.default_rng(0).permutation(N_ARCHS)
    values = np.linspace(0.5, 0.9, N_ARCHS)
    path = write_truth_csv(tmp_path / "t.csv", values[order], [TEXTS[i] for i in order])
    comparison = compare(scores, truth=path, options=OPTIONS)
    np.testing.assert_allclose(comparison.truth, values, rtol=1e-12)


def test_archs_without_truth_are_counted(scores, tmp_path):
    path = write_truth_csv(tmp_path / "t.csv", np.linspace(0.5, 0.9, 20), TEXTS[:20])
    comparison = compare(scores, truth=path, options=OPTIONS)
    assert comparison.n_without_truth == 10
    assert comparison.summary.n_archs == 20


def test_truth_that_knows_none_of_the_archs_is_an_error(scores, tmp_path):
    other = [NASBENCH201.format(a) for a in some_archs(60, seed=8) if a not in ARCHS][:20]
    path = write_truth_csv(tmp_path / "t.csv", np.linspace(0.5, 0.9, 20), other)
    with pytest.raises(TruthError, match=r"knows none of the 30 scored archs, such as '\|"):
        compare(scores, truth=path)


def test_an_unknown_column_is_suggested(scores, tmp_path):
    path = write_truth_csv(tmp_path / "t.csv", np.linspace(0.5, 0.9, N_ARCHS))
    with pytest.raises(UnknownNameError, match="accuracy"):
        compare(scores, truth=f"{path}:acuracy")


def test_several_campaigns_are_listed_and_chosen_by_digest(tmp_path, truth):
    scores = write_scores(tmp_path / "two.h5", keys=("0", "2"))
    digests = [a_key(name).digest() for name in ("0", "2")]
    with pytest.raises(StoreError) as caught:
        compare(scores, truth=truth)
    assert all(digest[:16] in str(caught.value) for digest in digests)
    for name, digest in zip(("0", "2"), digests, strict=True):
        comparison = compare(scores, truth=None, campaign=digest[:12])
        assert comparison.table.key == a_key(name)
    with pytest.raises(StoreError, match="no campaign"):
        compare(scores, truth=None, campaign="zzz")


def test_scores_that_all_failed_are_an_error(tmp_path):
    scores = write_scores(tmp_path / "failed.h5", n_failed=N_ARCHS)
    with pytest.raises(OptionError, match="no usable score: 30 rows, all failed"):
        compare(scores, truth=None)


def test_constant_truth_gives_a_reason_and_no_number(scores, tmp_path):
    path = write_truth_csv(tmp_path / "t.csv", [0.7] * N_ARCHS)
    comparison = compare(scores, truth=path, options=OPTIONS)
    tau = comparison.as_dict()["summary"]["metrics"]["kendall_tau"]
    assert tau["value"] is None
    assert tau["reason"]
    json.dumps(comparison.as_dict(), allow_nan=False)


def test_one_arch_is_scored_and_not_ranked(tmp_path):
    scores = write_scores(tmp_path / "one.h5", n=1)
    facts = compare(scores, truth=None).as_dict()
    assert (facts["n_scored"], facts["accuracy"]["std"]) == (1, None)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"absent\.h5"):
        compare(tmp_path / "absent.h5", truth=None)


@pytest.mark.parametrize("with_truth", [True, False])
def test_the_report_holds_campaign_truth_and_failures(tmp_path, truth, with_truth):
    scores = write_scores(tmp_path / "failed.h5", n_failed=2)
    comparison = compare(scores, truth=truth if with_truth else None, options=OPTIONS)
    files = report_comparison(comparison, tmp_path / "r.html", title="A title")
    page = files.page.read_text()
    assert "A title" in page
    assert a_key().digest() in page
    assert "cannot run" in page
    assert ("truth.csv" in page) == with_truth
    assert all(path.stat().st_size > 1000 for path in files.pictures.values())


def write_seeds_csv(path, per_seed, texts=TEXTS):
    """Write the trainings of each arch, shape (arch, run), as columns a, b, ...; nan as an empty cell."""
    names = "abcdef"[: per_seed.shape[1]]
    rows = [
        ",".join([text, *("" if math.isnan(v) else repr(float(v)) for v in values)])
        for text, values in zip(texts, per_seed, strict=True)
    ]
    path.write_text("\n".join([",".join(["arch", *names]), *rows]) + "\n")
    return f"{path}:{','.join(names)}"


def noisy_seeds(n_runs, n_archs=N_ARCHS):
    rng = np.random.default_rng(5)
    skill = np.linspace(0.5, 0.9, n_archs)[:, None]
    return skill + rng.normal(0, 0.1, size=(n_archs, n_runs)).clip(-0.1, 0.1)


def test_an_arch_that_misses_a_seed_is_left_out_of_that_seed_only(scores, tmp_path):
    per_seed = noisy_seeds(2)
    per_seed[3, 1] = math.nan
    truth = write_seeds_csv(tmp_path / "seeds.csv", per_seed)
    comparison = compare(scores, truth=truth, options=OPTIONS)
    both = np.delete(per_seed, 3, axis=0)
    expected = kendall_tau(both[:, 0], both[:, 1])
    facts = json.loads(json.dumps(comparison.as_dict(), allow_nan=False))["summary"]
    assert facts["n_archs"] == N_ARCHS
    for name in ("seed_against_others", "seed_against_seed"):
        tau = facts[name]["kendall_tau"]
        assert tau["value"] == pytest.approx(expected, rel=0, abs=1e-12)
        assert tau["n_archs"] == N_ARCHS - 1
    agreement = comparison.truth_table.seed_agreement()
    assert agreement.kendall == facts["seed_against_seed"]["kendall_tau"]["value"]


def test_one_training_alone_is_measured_over_the_compared_archs(tmp_path):
    # The seeds agree on the archs that were scored and contradict one another on the rest.
    per_seed = np.linspace(0.5, 0.9, N_ARCHS)[:, None].repeat(3, axis=1)
    per_seed[10:, 1] = per_seed[10:, 1][::-1]
    # The table lists the scored archs last.
    truth = write_seeds_csv(tmp_path / "seeds.csv", per_seed[::-1], TEXTS[::-1])
    comparison = compare(write_scores(tmp_path / "few.h5", n=10), truth=truth, options=OPTIONS)
    assert comparison.truth_table.seed_agreement().kendall < 0.9
    for found in (comparison.summary.seed_against_seed, comparison.summary.seed_against_others):
        assert found["kendall_tau"].value == pytest.approx(1.0, rel=0, abs=1e-12)
        assert found["kendall_tau"].n_archs == 10


def test_losses_of_single_trainings_are_turned_round(scores, truth):
    table = compare(scores, truth=truth).truth_table
    losses = np.arange(2.0 * N_ARCHS).reshape(N_ARCHS, 2)
    turned = replace(
        table, accuracy=np.full(N_ARCHS, math.nan), loss=losses.mean(axis=1), per_seed=losses
    )
    assert np.array_equal(turned.goodness_runs, -losses.T)


@pytest.mark.parametrize("n_runs", [1, 3])
def test_tables_show_one_training_alone_where_there_are_two_seeds(scores, tmp_path, n_runs):
    truth = write_seeds_csv(tmp_path / "seeds.csv", noisy_seeds(n_runs))
    comparison = compare(scores, truth=truth, options=OPTIONS)
    page = report_comparison(comparison, tmp_path / "r.html", title="T").page.read_text()
    heads = [column.header for column in summary_table(comparison.summary).columns]
    assert ("one training alone" in heads) == ("one training alone" in page) == (n_runs > 1)
    assert ("against the mean of the others" in page) == (n_runs > 1)
    if n_runs > 1:
        overlap = comparison.summary.seed_against_others["top_overlap@0.25"].value
        assert f"{100 * overlap:.1f} %" in page


def test_seeds_of_which_no_arch_has_two_say_nothing(scores, tmp_path):
    per_seed = noisy_seeds(2)
    per_seed[::2, 0] = per_seed[1::2, 1] = math.nan
    truth = write_seeds_csv(tmp_path / "seeds.csv", per_seed)
    assert compare(scores, truth=truth, options=OPTIONS).summary.seed_against_others == {}
