import json
import os
import time
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from bench_subjects import CALIBRATED, N_IMAGES, tiny_subject
from torch import nn

from wsx.bench import machine, tuned
from wsx.bench.contenders import BASELINES, Contender
from wsx.bench.interleave import Spread
from wsx.bench.machine import PeakMemory, gemm_gflops, machine_facts, usable_device
from wsx.bench.measurement import BenchListener
from wsx.bench.own import Split
from wsx.bench.scoring import FORMAT_VERSION, run_bench
from wsx.bench.subject import Conditions, random_subject
from wsx.bench.tuned import EagerSettings
from wsx.bench.work import Work
from wsx.errors import DataError, DeviceError, OptionError, UnknownNameError
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.extract import extract
from wsx.spaces.nasbench201 import CONV_3X3, NONE, SKIP

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
ROW_FIELDS = {
    "name",
    "what",
    "bn",
    "batch_size",
    "precision",
    "n_archs",
    "seconds",
    "peak_memory",
} | {*("archs_per_min", "ratio", "agreement", "gflops", "peak_share")}


@pytest.fixture(scope="module")
def measured():
    """A report, and what its listener was told."""
    calls: dict[str, list] = {"prepared": [], "warmed": [], "measured": []}
    listener = BenchListener(*(lambda *a, c=calls[name]: c.append(a) for name in calls))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuned, "search", lambda subject: EagerSettings(32))
        patch.setitem(machine.MATRIX_SIDE, "cpu", 64)
        patch.setitem(BASELINES._entries, "slow", _slow)
        report = run_bench(
            tiny_subject(CALIBRATED), ["b1", "t1", "slow"], n_repeats=2, listener=listener
        )
    return report, calls


def _slow(subject):
    """Two of the archs, and a tenth of a second for each at least."""
    (b4,) = BASELINES["b4"](subject)

    def score(archs):
        time.sleep(0.1 * len(archs))
        return b4.score(archs)

    return [Contender("slow", "sleeps", subject.mode, 200, score, n_archs=2)]


def test_the_report_is_json_of_a_stated_form(measured):
    values = json.loads(json.dumps(measured[0].as_dict(), allow_nan=False))
    assert (values["format"], values["format_version"]) == ("wsx-bench", FORMAT_VERSION)
    assert set(values) == {
        *("format", "format_version", "conditions", "machine", "gemm_gflops"),
        *("rows", "split", "left_out"),
    }
    assert [row["name"] for row in values["rows"]] == ["wsx", "b1", "t1", "slow"]
    for row in values["rows"]:
        assert set(row) == ROW_FIELDS
        assert len(row["seconds"]) == 2
        assert set(row["ratio"]) == set(row["archs_per_min"]) == {"median", "low", "high"}
        assert row["agreement"]["n_archs"] == row["agreement"]["n_equal"] == row["n_archs"]
        assert row["peak_memory"]["process_bytes"] > 2**20
    assert set(values["split"]) == {field.name for field in fields(Split)}
    assert all(ms >= 0 for ms in values["split"].values())
    assert values["conditions"]["n_archs"] == 3
    assert values["conditions"]["n_calibration_images"] == 32
    assert values["conditions"]["n_images"] == N_IMAGES
    assert values["machine"]["cores"] == os.cpu_count()
    assert values["machine"]["torch"] == torch.__version__


def test_rates_and_ratios_follow_from_the_seconds(measured):
    wsx, b1, _, slow = measured[0].rows
    assert wsx.ratio == Spread(1.0, 1.0, 1.0)
    assert (str(b1.bn), b1.batch_size) == ("batch", 48)
    assert slow.n_archs == 2
    per_arch = [s / 2 for s in slow.seconds]
    assert min(per_arch) >= 0.1
    expected = [mine / (its / 3) for mine, its in zip(per_arch, wsx.seconds, strict=True)]
    assert slow.ratio.low == pytest.approx(min(expected), rel=1e-12)
    assert slow.ratio.high == pytest.approx(max(expected), rel=1e-12)
    assert slow.archs_per_min.low == pytest.approx(60 / max(per_arch), rel=1e-12)
    for row in measured[0].rows:
        assert row.peak_share == pytest.approx(row.gflops / measured[0].gemm_gflops, rel=1e-12)


def slow_multiply_adds(subject, arch):
    """Count by hooks what convolutions and the classifier multiply for one image."""
    counted = []

    def count(layer, _, output):
        counted.append(
            output.numel() * layer.weight[0].numel() + (layer.bias is not None) * output.numel()
        )

    module = extract(subject.supernet, arch)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    module(torch.zeros(1, *subject.supernet.options.input_shape))
    return sum(counted)


def test_floating_point_operations_are_two_for_each_multiply_add(measured):
    subject = tiny_subject(CALIBRATED)
    adds = [slow_multiply_adds(subject, arch) for arch in subject.archs]
    wsx, b1, t1, slow = measured[0].rows
    # The cheapest and the dearest of three stand for all.
    for row, n_images, some in (
        (b1, N_IMAGES, adds),
        (t1, N_IMAGES + 32, adds),
        (slow, N_IMAGES + 32, [min(adds), max(adds)]),
    ):
        flops = 2 * n_images * sum(some)
        assert row.gflops == pytest.approx(1e-9 * flops / np.median(row.seconds), rel=1e-12)
    # Calibration stops at the last BatchNorm layer, and shared nodes are computed once.
    most = 2e-9 * (N_IMAGES + 32) * sum(adds) / np.median(wsx.seconds)
    assert 0.5 * most < wsx.gflops <= most


def test_archs_that_compute_one_function_are_known():
    subject = tiny_subject("running")
    # Node 1 is reached by nothing, so that what the edges from it do cannot matter.
    twins = [(NONE, CONV_3X3, option, CONV_3X3, option, SKIP) for option in (SKIP, CONV_3X3)]
    assert Work(replace(subject, archs=twins)).n_functions == 1
    assert Work(subject).n_functions == 3


def test_few_archs_stand_for_all_by_what_they_cost():
    subject = tiny_subject("running", n_archs=60)
    work = Work(subject)
    costs = np.array([work.multiply_adds[arch] for arch in subject.archs])
    few = [work.multiply_adds[arch] for arch in work.spread(8)]
    assert len(set(work.spread(8))) == 8
    rng = np.random.default_rng(0)
    drawn = [abs(rng.choice(costs, 8, replace=False).mean() - costs.mean()) for _ in range(200)]
    assert abs(np.mean(few) - costs.mean()) < 0.6 * np.mean(drawn)
    assert work.spread(None) == work.spread(60) == work.spread(99) == subject.archs
    assert work.spread(1) == [sorted(subject.archs, key=lambda a: (work.multiply_adds[a], a))[30]]


def test_listeners_hear_of_every_step(measured):
    calls = measured[1]
    assert calls["prepared"] == [(0, 3, "b1"), (1, 3, "t1"), (2, 3, "slow"), (3, 3, "")]
    assert [call[:2] for call in calls["warmed"]] == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    done, totals = [call[0] for call in calls["measured"]], {call[1] for call in calls["measured"]}
    assert len(done) == 8
    assert done == sorted(done)
    assert totals == {max(1, done[-1])}


def test_a_mode_that_a_baseline_has_not_is_left_out_with_the_reason(monkeypatch):
    monkeypatch.setitem(machine.MATRIX_SIDE, "cpu", 16)
    report = run_bench(tiny_subject("batch", n_archs=2), ["b8"], n_repeats=1)
    assert [row.name for row in report.rows] == ["wsx"]
    assert "no mode batch" in report.left_out["b8"]


@pytest.mark.parametrize(
    ("baselines", "n_repeats", "error", "message"),
    [
        (["b9"], 1, UnknownNameError, "no baseline named 'b9'"),
        ([""], 1, UnknownNameError, "no baseline named ''"),
        (["b1", "b1"], 1, OptionError, "twice"),
        (["b1"], 0, OptionError, "--repeats is 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(baselines, n_repeats, error, message):
    with pytest.raises(error, match=message):
        run_bench(tiny_subject("running"), baselines, n_repeats=n_repeats)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_archs": 0}, "--archs is 0"),
        ({"n_archs": -3}, "--archs is -3"),
        ({"n_archs": 20_000}, "cannot draw 20000 archs"),
        ({"n_images": 0}, "--images is 0"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"n_workers": 0}, "--workers is 0"),
        ({"mode": BatchNormMode("batch")}, "--batch-size"),
    ],
)
def test_conditions_out_of_range_are_refused(changes, message):
    good = Conditions(2, 10, BatchNormMode("running"))
    with pytest.raises(OptionError, match=message):
        random_subject("nasbench201", {"channels": 4, "cells": 1}, replace(good, **changes))


def test_spaces_of_text_are_refused():
    with pytest.raises(OptionError, match="reads text"):
        random_subject("darts-ptb", {}, Conditions(2, 10, BatchNormMode("running")))


def test_too_few_images_to_calibrate_are_refused():
    with pytest.raises(DataError, match="needs 64 training images"):
        replace(tiny_subject(CALIBRATED), mode=BatchNormMode.parse("calibrated:4x16"))


def test_the_matrix_product_counts_two_operations_for_each_multiply_add(monkeypatch):
    now_s = iter(0.5 * i for i in range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: next(now_s))
    assert gemm_gflops(CPU, side=40) == pytest.approx(2e-9 * 40**3 / 0.5, rel=1e-12)


def test_a_peak_is_seen_after_the_memory_was_given_back():
    memory = PeakMemory(CPU)
    memory.reset()
    before = memory.read()["process_bytes"]
    np.ones(200 * 2**20, np.uint8)
    peak = memory.read()["process_bytes"]
    assert peak >= before + 150 * 2**20
    memory.reset()
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this system forgets no peak")
    assert memory.read()["process_bytes"] < peak - 100 * 2**20


def test_a_device_that_torch_has_not_is_named():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="cannot use device 'cuda'"):
        usable_device("cuda")


def test_facts_of_the_machine_are_json(monkeypatch):
    facts = machine_facts(CPU)
    json.dumps(facts, allow_nan=False)
    assert {"cpu", "cores", "torch", "onnxruntime", "load_average_before"} <= set(facts)
