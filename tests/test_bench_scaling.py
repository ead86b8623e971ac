import numpy as np
import pytest

from wsx.bench.scaling import Campaign, CostModel, Fit, fit_costs
from wsx.errors import OptionError
from wsx.store import MemoryStore, Score, ScoreKey

KEY = ScoreKey("toy", "0" * 64, "noise", "0" * 64, "running", "", 0, "float32", "none")
N_IMAGES, N_CALIBRATION = 16, 64
TRUE = {"run": (2e-4, 5e-3), "calibrate": (7e-4, 1.1e-2), "record": 0.004, "build": 0.02}


def score(number, gflops, *, noise=1.0, **changes):
    run, calibrate = (a + b * gflops for a, b in (TRUE["run"], TRUE["calibrate"]))
    values = {
        "arch": (number // 10, number % 10),
        "text": str(number),
        "function_key": str(number),
        "correct": 0,
        "total": N_IMAGES,
        "loss_sum": 1.0,
        "bits": bytes(N_IMAGES // 8),
        "seconds_record": TRUE["record"],
        "seconds_calibrate": N_CALIBRATION * calibrate * noise,
        "seconds_build": TRUE["build"],
        "seconds_run": N_IMAGES * run * noise,
        "status": "ok",
        "error": "",
        "params": 1,
        "flops": int(gflops * 1e9),
        **changes,
    }
    return Score(**values)


def table_of(scores):
    store = MemoryStore()
    store.campaign(KEY, image_ids=range(N_IMAGES), info={}).append(scores)
    return store.read(KEY)


def fitted(scores):
    return fit_costs(table_of(scores), n_calibration=N_CALIBRATION, rng=np.random.default_rng(1))


def test_planted_costs_are_found():
    gflops = np.linspace(0.01, 0.3, 40)
    noise = np.random.default_rng(0).normal(1, 0.05, 40)
    model = fitted(
        [score(i, g, noise=n) for i, (g, n) in enumerate(zip(gflops, noise, strict=True))]
    )
    pairs = {
        "run_fixed": TRUE["run"][0],
        "run_per_gflop": TRUE["run"][1],
        "calibrate_fixed": TRUE["calibrate"][0],
        "calibrate_per_gflop": TRUE["calibrate"][1],
    }
    for name, planted in pairs.items():
        fit = getattr(model, name)
        assert fit.low < planted < fit.high, name
        assert fit.high - fit.low < 0.4 * planted, name
    assert model.record == Fit(0.004, 0.004, 0.004)
    assert model.build.value == 0.02
    assert 0.9 < model.explained < 1


def test_copied_and_failed_scores_cost_nothing():
    good = [score(i, 0.01 * (i + 1)) for i in range(20)]
    # A copied row has no seconds, a failed one none that count.
    copied = [score(20 + i, 0.3, seconds_run=0.0, seconds_record=0.0) for i in range(20)]
    failed = [
        score(60, 0.2, status="failed", error="x", seconds_run=99.0, loss_sum=np.nan, bits=b"")
    ]
    assert fitted([*good, *copied, *failed]).run_per_gflop.value == pytest.approx(
        TRUE["run"][1], rel=1e-6
    )


def test_costs_are_never_negative():
    # Times that fall with FLOPs would give a negative slope.
    model = fitted([score(i, 0.01 * (i + 1), seconds_run=1.0 - 0.01 * i) for i in range(20)])
    assert model.run_per_gflop.value == 0
    assert model.run_fixed.value > 0


def test_too_little_to_fit_is_refused():
    with pytest.raises(OptionError, match="7 subnets were run with known FLOPs; 8 are needed"):
        fitted([score(i, 0.01 * (i + 1)) for i in range(7)])
    with pytest.raises(OptionError, match=r"all 20 subnets have 0\.1 GFLOPs"):
        fitted([score(i, 0.1) for i in range(20)])
    with pytest.raises(OptionError, match="0 subnets were run"):
        fitted([score(i, 0.01 * i, flops=-1) for i in range(20)])


def test_predictions_add_up():
    def exact(value):
        return Fit(value, value, value)

    model = CostModel(*map(exact, (1.0, 2.0, 0.1, 3.0, 0.5, 7.0)), explained=1.0)
    assert model.seconds(0.5, 10, 4) == pytest.approx(1 + 2 + 10 * 1.6 + 4 * 4.0, rel=1e-12)
    campaign = Campaign(100, 0.25, 0.5, 10, 4, n_workers=5)
    assert campaign.seconds(model, per_arch=0.2) == pytest.approx(
        100 * 0.2 + 25 * 35.0 / 5, rel=1e-12
    )
