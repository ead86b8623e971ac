"""The study of interference: its plan, who was trained when, its verdicts on planted scores, and all of it."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from planted_cell64 import (
    QUALITY,
    SPACE,
    TEXTS,
    assert_alike_but_for,
    noisy,
    plant_truth,
    small,
    verdicts,
)
from safetensors.torch import load_file
from study_runs import run_twice

from wsx.analysis import Resampling, periodicity, relate_pairs, shared_decisions
from wsx.errors import OptionError
from wsx.store.pairs import PairTable
from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p3 import interference
from wsx.studies.papers.p3.gradients import agreements
from wsx.studies.papers.p3.interference import trained_archs
from wsx.training import train_supernet

N_RUNS, N_ARCHS, N_STEPS = 5, 64, 128
SETTINGS = small("interference")
FIRST = 3120 - N_STEPS
ORDER = (FIRST + np.arange(N_STEPS)) % N_ARCHS
DECISIONS = np.array(list(SPACE.enumerate()))


def findings(monkeypatch, accuracy):
    """Findings on accuracies (seed, step, arch) after the last steps."""
    plant_truth(monkeypatch)
    panel = SimpleNamespace(
        accuracy=accuracy,
        seeds=np.arange(N_RUNS),
        steps=np.tile(FIRST + 1 + np.arange(N_STEPS), (N_RUNS, 1)),
        decisions=DECISIONS,
    )

    def panel_of(folder, runs, archs):
        assert runs == tuple(f"seed-{seed}" for seed in range(N_RUNS))
        assert archs == TEXTS
        return panel

    monkeypatch.setattr(interference, "panel_of", panel_of)
    monkeypatch.setattr(interference, "read_agreements", lambda *_: planted_agreements())
    for function in (periodicity, relate_pairs):
        few = partial(function, resampling=Resampling(n_resamples=100))
        monkeypatch.setattr(interference, function.__name__, few)
    return STUDIES["interference"].findings(SETTINGS, Path("nowhere"))


def planted_agreements():
    shared = shared_decisions(DECISIONS)
    columns = {"cosine": shared / 9, "cosine_common": shared / 9, "n_shared_decisions": shared}
    return agreements([PairTable(TEXTS, columns, {"n_images": 32})] * N_RUNS, TEXTS)


def accuracies(noise, kicks=None):
    """Noise around the planted quality; each step moves archs by a row of kicks (step, arch)."""
    rng = np.random.default_rng(0)
    table = noisy(noise, N_RUNS, N_STEPS, rng=rng)
    return table if kicks is None else table + kicks


def last_trained(amount, order=ORDER):
    kicks = np.zeros((N_STEPS, N_ARCHS))
    kicks[np.arange(N_STEPS), order] = amount
    return kicks


@pytest.mark.parametrize(("amount", "right"), [(0.2, "holds"), (-0.2, "does not hold")])
def test_the_last_trained_wins_or_loses(monkeypatch, amount, right):
    found = findings(monkeypatch, accuracies(0.02, last_trained(amount)))
    assert verdicts(found)[:2] == ["holds", right]
    rows = {row[0]: row for row in found.tables[0].rows}
    assert rows["accuracy gained by the arch trained, in points"][1] == pytest.approx(
        100 * amount, abs=2.0
    )
    recency = found.plots[1].series[0]
    assert (recency.y[0] > 3) == (amount > 0)
    assert sum(recency.y) == pytest.approx(0, abs=12)
    heat = found.plots[3]
    assert [one.name for one in heat.series] == list(TEXTS)
    assert heat.series[5].y[5] == pytest.approx(100 * amount, abs=5.0)


def test_noise_alone_decides_nothing(monkeypatch):
    period, recency, _, sharing, _ = verdicts(findings(monkeypatch, accuracies(0.05)))
    assert (period, recency, sharing) == ("open", "open", "open")


def test_another_period_than_the_round_is_told(monkeypatch):
    order = np.arange(N_STEPS) % (N_ARCHS - 1)
    found = findings(monkeypatch, accuracies(0.02, last_trained(0.5, order)))
    assert verdicts(found)[0] == "does not hold"
    bars = found.plots[2].series[0]
    assert bars.x == ["61", "62", "63", "64", "65", "66", "67"]
    assert int(np.argmax(bars.y)) == 2


@pytest.mark.parametrize(
    ("noise", "right"), [(0.3, "holds"), (0.004, "does not hold"), (0.0, "open")]
)
def test_swings_of_agreement_with_truth(monkeypatch, noise, right):
    found = findings(monkeypatch, accuracies(noise))
    assert verdicts(found)[2] == right
    assert ("no width" in found.claims[2].evidence) == (noise == 0)
    rows = {row[0]: row for row in found.tables[0].rows}
    lowest, highest = rows["GT-Tau, smallest"], rows["GT-Tau, largest"]
    assert (lowest[3], highest[3]) == (0.0, 0.6)
    swing = np.mean([np.ptp(one.y) for one in found.plots[0].series])
    assert highest[1] - lowest[1] == pytest.approx(swing, abs=1e-12)


@pytest.mark.parametrize(("amount", "right"), [(0.01, "holds"), (-0.01, "does not hold")])
def test_archs_that_share_more_feel_more(monkeypatch, amount, right):
    kicks = np.cumsum(amount * shared_decisions(DECISIONS)[ORDER], axis=0)
    found = findings(monkeypatch, accuracies(0.001, kicks))
    assert verdicts(found)[3] == right
    slope = found.tables[0].rows[-1]
    assert slope[1] == pytest.approx(100 * amount, abs=0.1)


@pytest.mark.parametrize(("amount", "right"), [(0.0, "open"), (0.004, "holds")])
def test_an_arch_that_relaxes_is_not_hurt_by_its_successor(monkeypatch, amount, right):
    # The fixed order puts archs next to each other that share a lot.
    lags = (ORDER[:, None] - np.arange(N_ARCHS)) % N_ARCHS
    shared = np.cumsum(amount * shared_decisions(DECISIONS)[ORDER], axis=0)
    found = findings(monkeypatch, accuracies(0.02, 0.2 * 0.7**lags + shared))
    assert verdicts(found)[3] == right
    if amount:
        assert found.tables[0].rows[-1][1] == pytest.approx(100 * amount, abs=0.15)


def test_steps_train_archs_in_the_order_of_the_run(tmp_path):
    # A step moves the convolution of an edge if and only if the arch that it trains has it.
    settings = settings_of(STUDIES["interference"], "tiny", {"recipe.epochs": "1"})
    supernets = replace(settings, seeds=(3,)).supernets
    (config,) = supernets(order="shuffled", order_seed=7, checkpoint_steps=1).values()
    run = train_supernet(config, tmp_path / "run")
    paths = run.checkpoint_paths
    n_steps = len(paths)
    trained = trained_archs(config, list(range(1, n_steps + 1)), settings.texts)
    assert n_steps == len(settings.texts) == len(set(trained.tolist())) == 8
    assert trained.tolist() != list(range(8))
    archs = [SPACE.parse(text) for text in settings.texts]
    before = _weights(paths[0])
    for path, place in zip(paths[1:], trained[1:], strict=True):
        after = _weights(path)
        for edge, option in enumerate(archs[place]):
            of_convolution = [name for name in after if f"edges.{edge}.1." in name]
            assert of_convolution
            has_moved = any(not torch.equal(before[name], after[name]) for name in of_convolution)
            assert has_moved == (option == 1)
        before = after


def _weights(path):
    return {name: tensor for name, tensor in load_file(path).items() if tensor.ndim == 4}


def test_what_is_trained_and_scored():
    train, score, compare, _ = STUDIES["interference"].steps(SETTINGS, Path("nowhere"))
    assert list(train.configs) == [f"seed-{seed}" for seed in range(N_RUNS)]
    assert_alike_but_for(list(train.configs.values()), "seed")
    assert train.configs["seed-0"].recipe.checkpoint_last_steps == N_STEPS
    assert (score.checkpoints, score.n_checkpoints) == ("last:128", N_STEPS)
    assert compare.runs == train.configs
    assert settings_of(STUDIES["interference"], "tiny", {}).n_steps == 16
    trained = trained_archs(train.configs["seed-0"], range(FIRST + 1, 3121), TEXTS)
    assert trained.tolist() == ORDER.tolist()


@pytest.mark.parametrize(
    "values", [{"n_rounds": "1"}, {"recipe.sampler": "fair"}, {"recipe.n_paths": "2"}]
)
def test_steps_that_train_many_archs_are_refused(values):
    with pytest.raises(OptionError, match="at least 2 rounds and a sampler of one arch a step"):
        small("interference", **values)


def test_the_planted_quality_has_no_ties():
    assert np.unique(QUALITY).size == N_ARCHS


@pytest.mark.slow
def test_the_whole_study_at_its_smallest_scale(tmp_path, capsys):
    found, _ = run_twice("interference", tmp_path / "study", capsys)
    tau, recency, periods, effects, gradients = found["plots"]
    assert gradients["series"][0]["x"] == [0, 1, 2]
    assert {len(one["x"]) for one in tau["series"]} == {16}
    assert len(recency["series"][0]["x"]) == len(effects["series"]) == 8
    assert "8" in periods["series"][0]["x"]
