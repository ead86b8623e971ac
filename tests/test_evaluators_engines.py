import copy

import numpy as np
import onnx
import pytest
import torch
from small_run import BN, BN_MODES, N_IMAGES, small_run, some_archs

from wsx.errors import DataError, ExportError
from wsx.evaluators.batches import DeviceImages
from wsx.evaluators.calibration import calibration_images
from wsx.evaluators.devices import CPU
from wsx.evaluators.eager import EagerOracle
from wsx.evaluators.engines import EagerEngine
from wsx.evaluators.sources import SupernetSource, session_factory
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.emit import INPUT, LABELS
from wsx.spaces.nasbench201 import CONV_3X3, NASBENCH201, NONE, SKIP
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import ScoringOptions, onnx_engine
from wsx.supernets import build_supernet

# The largest and the smallest cell, and cells that no path crosses.
CORNERS = [(CONV_3X3,) * 6, (SKIP,) * 6, (NONE,) * 6, (CONV_3X3, NONE, NONE, NONE, NONE, NONE)]
ARCHS = CORNERS + some_archs(6, seed=1)
BATCH_SIZE = 32
LOSS_TOLERANCE = 2e-5
"""Relative: a sum of some hundred float32 losses through some thirty layers."""


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def subnets(run):
    return {bn: RunSubnets(run, bn) for bn in BN_MODES}


def source_of(subnets):
    return SupernetSource(subnets.recorder, "0" * 64, CPU, subnets.calibrator(CPU))


@pytest.mark.parametrize("bn", BN_MODES)
def test_onnx_counts_equal_the_eager_counts(subnets, bn):
    subnets = subnets[bn]
    images = subnets.dataset.test
    assert len(images) == N_IMAGES
    fast = onnx_engine(source_of(subnets), images, CPU, ScoringOptions(batch_size=BATCH_SIZE))
    slow = EagerEngine(subnets.oracle(), images, BATCH_SIZE)
    counts = []
    for arch in ARCHS:
        (found, timing), (expected, _) = fast.score(arch), slow.score(arch)
        assert found.correct == expected.correct
        assert found.outcomes.tolist() == expected.outcomes.tolist()
        assert len(found.outcomes) == N_IMAGES
        assert found.loss_sum == pytest.approx(expected.loss_sum, rel=LOSS_TOLERANCE)
        assert set(timing) == {"record", "calibrate", "build", "run"}
        assert (timing["calibrate"] > 1e-4) == (bn == BN)
        counts.append(found.correct)
    # Unequal subnets score unequally, or equality would mean little.
    assert len(set(counts)) > 4


def test_the_three_modes_are_three_scores(subnets):
    losses = {}
    for bn, some in subnets.items():
        engine = onnx_engine(source_of(some), some.dataset.test, CPU, ScoringOptions(BATCH_SIZE))
        losses[bn] = round(engine.score(ARCHS[0])[0].loss_sum, 3)
    assert len(set(losses.values())) == 3


def slow_statistics(supernet, arch, images, mode):
    """Return mean and biased variance of every layer's input, in float64, by the layer's name."""
    model = copy.deepcopy(supernet).double()
    inputs = {}
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.train()
            layer.register_forward_pre_hook(
                lambda _, x, name=name: inputs.setdefault(name, []).append(x[0].numpy())
            )
    x = torch.from_numpy(images.floats().astype(np.float64))
    with torch.no_grad():
        for step in range(mode.n_steps):
            model(x[step * mode.batch_size : (step + 1) * mode.batch_size], arch)
    return {
        name: (
            np.mean([batch.mean(axis=(0, 2, 3)) for batch in batches], axis=0),
            np.mean([batch.var(axis=(0, 2, 3)) for batch in batches], axis=0),
        )
        for name, batches in inputs.items()
    }


@pytest.mark.parametrize("arch", [*CORNERS, *some_archs(1, seed=2, measure="reachable")])
def test_calibration_equals_hand_written_hooks(run, subnets, arch):
    subnets = subnets[BN]
    supernet, _ = run.load()
    images = calibration_images(subnets.dataset.train, subnets.mode)
    expected = slow_statistics(supernet, arch, images, subnets.mode)

    graph = subnets.recorder.record(arch)
    found = subnets.calibrator(CPU)(graph)
    layers = {
        node.digest: str(node.weights[0]).removesuffix(".weight")
        for node in graph.nodes
        if node.op == "batch_norm_calibrated"
    }
    assert set(found) == set(layers)
    oracle = subnets.oracle()
    oracle.prepare(arch)
    eager = dict(oracle._model.named_modules())
    for digest, (mean, variance) in found.items():
        slow_mean, slow_variance = expected[layers[digest]]
        np.testing.assert_allclose(mean, slow_mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(variance, slow_variance, rtol=1e-4, atol=1e-5)
        layer = eager[layers[digest]]
        np.testing.assert_allclose(layer.running_mean, slow_mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(layer.running_var, slow_variance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", [*CORNERS, *some_archs(1, seed=2, measure="reachable")])
def test_calibrated_logits_equal_those_of_a_supernet_that_was_written_into(run, subnets, arch):
    subnets = subnets[BN]
    images = calibration_images(subnets.dataset.train, subnets.mode)
    supernet = run.load()[0]
    for name, (mean, variance) in slow_statistics(supernet, arch, images, subnets.mode).items():
        layer = supernet.get_submodule(name)
        layer.running_mean.copy_(torch.tensor(mean))
        layer.running_var.copy_(torch.tensor(variance))
    test = subnets.dataset.test
    with torch.no_grad():
        expected = supernet.eval()(torch.from_numpy(test.floats()), arch).numpy()
    oracle = subnets.oracle()
    oracle.prepare(arch)
    found = oracle.logits(test, arch, batch_size=BATCH_SIZE)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_oracle_leaves_the_supernet_as_it_is_and_forgets_other_archs(run, subnets):
    subnets = subnets[BN]
    supernet = run.load()[0]
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    oracle = EagerOracle(supernet, subnets.mode, subnets.calibration)
    test = subnets.dataset.test
    first = oracle.score(test, ARCHS[0], batch_size=BATCH_SIZE)[0]
    oracle.score(test, ARCHS[5], batch_size=BATCH_SIZE)
    again = oracle.score(test, ARCHS[0], batch_size=BATCH_SIZE)[0]
    assert (again.correct, again.loss_sum) == (first.correct, first.loss_sum)
    assert all(torch.equal(before[name], t) for name, t in supernet.state_dict().items())


@pytest.mark.parametrize("bn", [BN, "running"])
def test_the_batch_size_changes_no_count(subnets, bn):
    subnets = subnets[bn]
    images = subnets.dataset.test
    tallies = {}
    for batch_size in (7, 32, N_IMAGES, 128):
        engine = onnx_engine(source_of(subnets), images, CPU, ScoringOptions(batch_size))
        tallies[batch_size] = [engine.score(arch)[0] for arch in ARCHS[:5]]
    for found in tallies.values():
        for one, expected in zip(found, tallies[32], strict=True):
            assert one.outcomes.tolist() == expected.outcomes.tolist()
            assert one.loss_sum == pytest.approx(expected.loss_sum, rel=LOSS_TOLERANCE)


def test_in_batch_mode_the_batch_size_is_part_of_the_score(subnets):
    subnets = subnets["batch"]
    images = subnets.dataset.test
    losses = {
        size: onnx_engine(source_of(subnets), images, CPU, ScoringOptions(size))
        .score(ARCHS[0])[0]
        .loss_sum
        for size in (16, 50)
    }
    assert losses[16] != pytest.approx(losses[50], rel=1e-3)


@pytest.mark.parametrize("bn", BN_MODES)
def test_bound_inputs_score_as_a_plain_run_does(subnets, bn):
    subnets = subnets[bn]
    source, images = source_of(subnets), subnets.dataset.test
    factory = session_factory(source, CPU)
    bound = DeviceImages(images, BATCH_SIZE, CPU, pads=bn != "batch")
    for arch in ARCHS[:4]:
        session = factory.session(source.prepare(arch).model)
        found = bound.score(session)
        correct, loss_sum, outcomes = 0, 0.0, []
        for start in range(0, len(images), BATCH_SIZE):
            stop = min(start + BATCH_SIZE, len(images))
            feeds = {INPUT: images.floats(start, stop), LABELS: images.labels[start:stop]}
            values = session.run(None, feeds)
            correct += int(values[0])
            loss_sum += float(values[1])
            outcomes += values[2].astype(bool).tolist()
        assert found.correct == correct
        assert found.outcomes.tolist() == outcomes
        assert found.loss_sum == pytest.approx(loss_sum, rel=LOSS_TOLERANCE)


@pytest.mark.parametrize("bn", BN_MODES)
def test_a_scoring_model_is_valid_onnx(subnets, bn):
    source = source_of(subnets[bn])
    model = onnx.load_model_from_string(source.prepare(ARCHS[0]).model)
    assert [value.name for value in model.graph.input] == [INPUT, LABELS]
    assert model.ir_version == 9


def test_running_statistics_need_a_supernet_that_tracks_them():
    supernet = build_supernet(
        "nasbench201", {"channels": 4, "cells": 1, "tracks_statistics": False}, seed=0
    )
    with pytest.raises(ExportError, match="tracks statistics"):
        EagerOracle(supernet, BatchNormMode("running"), None)


def test_a_supernet_that_tracks_nothing_can_be_calibrated(subnets):
    options = {
        "channels": 4,
        "cells": 1,
        "tracks_statistics": False,
        "image_size": 8,
        "in_channels": 1,
    }
    supernet = build_supernet("nasbench201", options, seed=0)
    subnets = subnets[BN]
    oracle = EagerOracle(supernet, subnets.mode, subnets.calibration)
    tally, *_ = oracle.score(subnets.dataset.test, ARCHS[0], batch_size=BATCH_SIZE)
    assert np.isfinite(tally.loss_sum)


def test_too_few_calibration_images_name_a_mode_that_fits(subnets):
    train = subnets[BN].dataset.train
    with pytest.raises(DataError, match=r"needs 1024 .* has 256\. .*calibrated:1x256"):
        calibration_images(train, BatchNormMode.parse("calibrated:4x256"))


def test_all_arch_texts_differ():
    assert len({NASBENCH201.format(arch) for arch in ARCHS}) == len(ARCHS)
