"""Scoring with blocked norms, and when models use them."""

import math

import numpy as np
import pytest
from merging_cases import MODES, case
from test_evaluators_merging import engine_of

from wsx.bench.subject import random_images
from wsx.evaluators import blocks
from wsx.evaluators.blocks import MIN_VALUES, cpu_block_size, target_of
from wsx.evaluators.devices import CPU, CUDA
from wsx.evaluators.eager import EagerOracle
from wsx.exporters import blocked_nodes
from wsx.exporters.blocked import BlockedWriter
from wsx.exporters.emission import Target

needs_blocks = pytest.mark.skipif(
    not cpu_block_size(), reason="ONNX Runtime has no blocked layout here"
)


@pytest.fixture
def written(monkeypatch):
    """Counts the graphs that are written in blocks, as all are where sizes do not matter."""
    graphs = []

    class Counted(BlockedWriter):
        def __init__(self, emission, graph, images):
            graphs.append(graph)
            super().__init__(emission, graph, images)

    monkeypatch.setattr("wsx.exporters.emit.BlockedWriter", Counted)
    monkeypatch.setattr(blocks, "MIN_VALUES", 1)
    return graphs


@needs_blocks
@pytest.mark.parametrize("bn", MODES[1:])
@pytest.mark.parametrize(
    "space", ["nasbench201", pytest.param("darts", marks=pytest.mark.slow), "cell64"]
)
def test_scores_in_blocks_are_those_of_the_eager_oracle(space, bn, written):
    some = case(space, bn)
    n_calibration = some.recorder.mode.n_images
    size = some.images.floats().shape[-1]
    train = random_images(n_calibration, 1, shape=(3, size, size)) if n_calibration else None
    oracle = EagerOracle(some.net, some.recorder.mode, train)
    engine = engine_of(some, bn)
    together = [tally for tally, _ in engine.score_together(some.archs)]
    n_models = len(written)
    assert n_models == 1
    for arch, shared in zip(some.archs, together, strict=True):
        alone, _ = engine.score(arch)
        assert (alone.correct, alone.loss_sum) == (shared.correct, shared.loss_sum)
        expected, _, _ = oracle.score(some.images, arch, batch_size=8)
        assert alone.outcomes.tolist() == expected.outcomes.tolist()
        np.testing.assert_allclose(alone.loss_sum, expected.loss_sum, rtol=1e-4)
    assert len(written) == n_models + len(some.archs)


@needs_blocks
def test_running_statistics_need_no_blocks(written):
    some = case("cell64", "running")
    engine_of(some, "running").score(some.archs[0])
    assert written == []


@needs_blocks
def test_blocks_begin_with_layers_of_some_size():
    size = cpu_block_size()
    assert target_of(CPU, MIN_VALUES) == Target(block_size=size, min_block_values=1)
    assert target_of(CPU, 1000) == Target(
        block_size=size, min_block_values=math.ceil(MIN_VALUES / 1000)
    )


def test_other_devices_have_no_blocks():
    assert target_of(CUDA, 10 * MIN_VALUES) == Target(has_fused_norm=False)


def test_models_that_read_no_images_have_no_blocks():
    assert target_of(CPU, 0) == Target()


# Where blocked operators do not do what they should, plain models are used.


@pytest.fixture
def fresh_probe():
    cpu_block_size.cache_clear()
    yield
    cpu_block_size.cache_clear()


@pytest.mark.usefixtures("fresh_probe")
def test_another_order_of_kernels_is_noticed(monkeypatch):
    monkeypatch.setattr(
        blocked_nodes, "in_blocks", lambda kernel, block_size, *, blocks_inputs: kernel
    )
    assert cpu_block_size() == 0


@pytest.mark.usefixtures("fresh_probe")
def test_operators_that_are_gone_are_noticed(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCKED", "com.example.gone")
    assert cpu_block_size() == 0
