import json
from dataclasses import replace

import numpy as np
import pytest

from wsx.evaluators import layout as layouts
from wsx.evaluators.devices import CPU, CUDA
from wsx.evaluators.layout import (
    Layout,
    LayoutCache,
    default_layout,
    layout_key,
    measured_layout,
    spreads,
)
from wsx.evaluators.sources import SupernetSource
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.subnets import SubnetRecorder
from wsx.training.run import DataSpec

ARCHS = [(3, 1, 2, 4, 3, 1), (1, 1, 1, 1, 1, 1)]


@pytest.fixture(scope="module")
def source(make_supernet):
    recorder = SubnetRecorder(make_supernet(image_size=8, in_channels=1, n_classes=10), RUNNING)
    return SupernetSource(recorder, "checkpoint", CPU, None)


RUNNING = BatchNormMode("running")


@pytest.fixture(scope="module")
def images():
    return DataSpec("digits").load().test.take(64)


@pytest.fixture
def cache(tmp_path):
    return LayoutCache(tmp_path / "deep" / "layouts.json")


class Clock:
    """Says that a layout takes as long as a test decides; sessions run all the same."""

    def __init__(self, monkeypatch, seconds):
        self.tried = []
        self.now_s = 0.0
        clock = self

        class Trial(layouts._Trial):
            def seconds(self, layout):
                clock.tried.append(layout)
                super().seconds(layout)
                return seconds(layout)

        monkeypatch.setattr(layouts, "_Trial", Trial)


def test_the_fastest_layout_is_found_and_remembered(source, images, cache, monkeypatch):
    monkeypatch.setattr(layouts, "n_cores", lambda: 2)
    clock = Clock(monkeypatch, lambda it: 100 + abs(it.batch_size - 64) + 5 * (it.n_threads == 1))
    found = measured_layout(source, CPU, images, ARCHS, batch_size=None, cache=cache)
    assert found == Layout(64, 1, 2)
    assert {it.batch_size for it in clock.tried} == {16, 32, 64, 128}
    clock.tried.clear()
    assert measured_layout(source, CPU, images, ARCHS, batch_size=None, cache=cache) == found
    assert clock.tried == []


def test_a_given_batch_size_is_kept(source, images, cache, monkeypatch):
    clock = Clock(monkeypatch, lambda it: 100.0 + it.batch_size)
    found = measured_layout(source, CPU, images, ARCHS, batch_size=48, cache=cache)
    assert found.batch_size == 48
    assert {it.batch_size for it in clock.tried} == {48}
    # What was measured for a given size says nothing of a free choice.
    assert (
        measured_layout(source, CPU, images, ARCHS, batch_size=None, cache=cache).batch_size == 16
    )


def test_short_work_is_begun_at_once(source, images, cache, monkeypatch):
    clock = Clock(monkeypatch, lambda it: 1e-3)
    found = measured_layout(source, CPU, images, ARCHS, batch_size=None, cache=cache)
    assert found == default_layout(CPU)
    assert len(clock.tried) == 1
    assert measured_layout(source, CPU, images, [], batch_size=7, cache=cache) == replace(
        default_layout(CPU), batch_size=7
    )
    assert len(clock.tried) == 1


def test_scores_do_not_depend_on_the_layout(source, images):
    tallies = []
    model = source.prepare(ARCHS[0]).model
    for layout in (Layout(16, 1, 1), Layout(64, 2, 1), Layout(31, 1, 2)):
        factory = layouts.SessionFactory(source.weights, CPU, n_threads=layout.n_threads)
        batches = layouts.DeviceImages(images, layout.batch_size, CPU, pads=True)
        tallies.append(batches.score(factory.session(model)))
    for tally in tallies[1:]:
        assert tally.correct == tallies[0].correct
        assert np.array_equal(tally.outcomes, tallies[0].outcomes)
        assert abs(tally.loss_sum - tallies[0].loss_sum) <= 1e-6 * tallies[0].loss_sum


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "{",
        "[" * 100_000,
        '{"k": 3}',
        '{"k": {"batch_size": 0, "n_workers": 1, "n_threads": 1}}',
        '{"k": {"batch_size": 1e9, "n_workers": 1, "n_threads": 1}}',
        '{"k": {"batch_size": "16", "n_workers": 1, "n_threads": 1}}',
        '{"k": {"batch_size": 16, "n_workers": true, "n_threads": 1}}',
        '{"k": {"batch_size": 16, "command": "rm"}}',
    ],
)
def test_a_damaged_cache_is_no_cache(tmp_path, content):
    path = tmp_path / "layouts.json"
    path.write_text(content)
    cache = LayoutCache(path)
    assert cache.get("k") is None
    cache.put("k", Layout(16, 2))
    assert cache.get("k") == Layout(16, 2, 1)
    assert list(tmp_path.iterdir()) == [path]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    cache = LayoutCache(tmp_path / "file" / "layouts.json")
    cache.put("k", Layout(16, 2))
    assert cache.get("k") is None


def test_the_cache_lies_where_the_user_keeps_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    LayoutCache.of_user().put("k", Layout(16, 2))
    assert json.loads((tmp_path / "wsx" / "layouts.json").read_text())["k"]["n_workers"] == 2


def test_the_key_tells_networks_images_and_devices_apart(source, make_supernet):
    wider = SubnetRecorder(
        make_supernet(image_size=8, in_channels=1, n_classes=10, channels=8), RUNNING
    )
    keys = {
        layout_key(source, CPU, (1, 8, 8)),
        layout_key(source, CPU, (1, 16, 16)),
        layout_key(source, CUDA, (1, 8, 8)),
        layout_key(SupernetSource(wider, "checkpoint", CPU, None), CPU, (1, 8, 8)),
    }
    assert len(keys) == 4
    assert layout_key(source, CPU, (1, 8, 8)) in keys


def test_spreads_keep_all_cores_busy(monkeypatch):
    for n, expected in {1: {(1, 1)}, 2: {(2, 1), (1, 2)}, 6: {(6, 1), (3, 2), (1, 6)}}.items():
        monkeypatch.setattr(layouts, "n_cores", lambda n=n: n)
        assert {(it.n_workers, it.n_threads) for it in spreads(CPU, 32)} == expected
    assert {it.n_workers for it in spreads(CUDA, 1000)} == {1, 2, 3}
