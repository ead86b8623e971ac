import gc
import importlib.metadata
import sys
import types
import weakref

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from wsx.errors import DeviceError, MissingExtraError, OptionError
from wsx.evaluators import devices
from wsx.evaluators.devices import (
    CPU,
    CUDA,
    SessionFactory,
    _probe_model,
    cuda_problem,
    import_onnxruntime,
    installed_distributions,
    resolve_device,
)
from wsx.exporters.emission import Emission
from wsx.exporters.weights import WeightFile


@pytest.fixture(autouse=True)
def fresh_probe():
    cuda_problem.cache_clear()
    yield
    cuda_problem.cache_clear()


class Session:
    """A session that says where it runs."""

    def __init__(self, provider):
        self._provider = provider

    def get_providers(self):
        return [self._provider]

    def run(self, names, feeds):
        return [np.zeros((1, 1, 2, 2), np.float32)]


def fake_runtime(monkeypatch, *, available, used, error=None):
    """Replace what makes sessions: these run on ``used``, whatever was asked for."""

    def session(*arguments, **options):
        if error is not None:
            raise error
        return Session(used)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)


def without_cuda(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU.provider])


def test_an_unknown_device_is_named_with_the_known_ones():
    for name in ("tpu", "", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "auto:1", "cuda:0:1"):
        with pytest.raises(OptionError, match=f"'{name}' is none of: auto, cpu, cuda, cuda:N"):
            resolve_device(name)


def test_auto_takes_the_cpu_where_there_is_no_cuda(monkeypatch):
    without_cuda(monkeypatch)
    assert resolve_device("auto") is CPU
    assert resolve_device("cpu") is CPU


def test_cuda_that_is_absent_is_an_error_and_no_silent_cpu_run(monkeypatch):
    without_cuda(monkeypatch)
    with pytest.raises(DeviceError, match=r"no CUDA provider .* wsx\[gpu\].*--device cpu"):
        resolve_device("cuda")


def test_cuda_that_works_is_taken(monkeypatch):
    fake_runtime(monkeypatch, available=[CUDA.provider], used=CUDA.provider)
    assert resolve_device("cuda") == resolve_device("auto") == resolve_device("cuda:0") == CUDA
    second = resolve_device("cuda:1")
    assert (second.kind, second.index, CUDA.index) == ("cuda", 1, 0)
    assert second.options == {**CUDA.options, "device_id": "1"}


def test_a_provider_that_is_compiled_in_and_does_not_load_is_found_out(monkeypatch):
    # get_available_providers lists CUDA, and the session goes on silently on the CPU.
    fake_runtime(monkeypatch, available=[CUDA.provider, CPU.provider], used=CPU.provider)
    assert resolve_device("auto") is CPU
    with pytest.raises(DeviceError, match="runs on CPUExecutionProvider, not on CUDA"):
        resolve_device("cuda")


def test_the_reason_of_a_failed_probe_is_reported_in_one_line(monkeypatch):
    error = RuntimeError("CUDA driver version is insufficient\nstack trace")
    fake_runtime(monkeypatch, available=[CUDA.provider], used=CUDA.provider, error=error)
    with pytest.raises(DeviceError) as caught:
        resolve_device("cuda")
    assert "driver version is insufficient" in str(caught.value)
    assert "stack trace" not in str(caught.value)


def test_a_session_on_another_provider_is_refused(monkeypatch):
    fake_runtime(monkeypatch, available=[CUDA.provider], used=CUDA.provider)
    factory = SessionFactory(WeightFile({}), CPU)
    with pytest.raises(DeviceError, match="runs on CUDAExecutionProvider, not on CPU"):
        factory.session(_probe_model())


def test_the_probe_model_runs_on_the_cpu():
    session = SessionFactory(WeightFile({}), CPU).session(_probe_model())
    (y,) = session.run(None, {"x": np.ones((1, 1, 4, 4), np.float32)})
    assert np.array_equal(y, np.full((1, 1, 2, 2), 9, np.float32))


def test_sessions_see_weights_that_were_added_after_the_first_one():
    weights = WeightFile({"a": np.zeros(4, np.float32)})
    factory = SessionFactory(weights, CPU)
    _, first = factory._session_options()
    assert factory._session_options()[1] is first
    weights.add_derived(np.ones(1000, np.float32))
    _, second = factory._session_options()
    assert second is not first
    weights.scratch.add_derived(np.ones(10, np.float32))
    assert factory._session_options()[1] is not second


def added_weight(weights, name):
    """Return a model x -> x + a weight of the scratch file."""
    emission = Emission(weights)
    emission.named("Add", ["x", emission.scratch(name)], ["y"])
    shape = [weights.scratch[name].n_values]
    x, y = (helper.make_tensor_value_info(value, TensorProto.FLOAT, shape) for value in "xy")
    return emission.model([x], [y], {})


def test_sessions_keep_what_they_read_when_weights_grow_out_of_their_buffer():
    rng = np.random.default_rng(0)
    weights = WeightFile({})
    factory = SessionFactory(weights, CPU)
    values = rng.standard_normal(10_000).astype(np.float32)
    session = factory.session(added_weight(weights, weights.scratch.add_derived(values)))
    outgrown = weakref.ref(weights.scratch.buffer.base)
    for _ in range(3):
        more = weights.scratch.add_derived(rng.standard_normal(10_000).astype(np.float32))
        factory.session(added_weight(weights, more))
    assert outgrown() is not weights.scratch.buffer.base
    (y,) = session.run(None, {"x": np.zeros_like(values)})
    assert np.array_equal(y, values)
    assert outgrown() is not None
    del session
    gc.collect()
    assert outgrown() is None


def test_no_runtime_names_both_extras(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"wsx\[cpu\].*wsx\[gpu\]"):
        import_onnxruntime()
    with pytest.raises(MissingExtraError):
        resolve_device("auto")


def test_a_runtime_that_two_distributions_damaged_points_to_the_doctor(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(MissingExtraError, match=r"onnxruntime-gpu own the same folder.*wsx doctor"):
        import_onnxruntime()


def fake_versions(monkeypatch, versions):
    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(devices.importlib.metadata, "version", version)


@pytest.mark.parametrize(
    "versions",
    [{}, {"onnxruntime": "1.26.0"}, {"onnxruntime": "1.26.0", "onnxruntime-gpu": "1.27.0"}],
)
def test_installed_distributions_are_found(monkeypatch, versions):
    fake_versions(monkeypatch, versions)
    assert installed_distributions() == versions
