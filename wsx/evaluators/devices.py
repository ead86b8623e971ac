"""Devices and sessions: what ONNX Runtime can really use here, and sessions that use nothing else.

``get_available_providers`` lists what was compiled in, not what works, and a session whose provider fails to load
goes on silently on the CPU. So a device is probed with a small convolution, fallback forbidden, before it is used.
"""

import importlib.metadata
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from wsx.errors import DeviceError, MissingExtraError, OptionError
from wsx.exporters.emission import IR_VERSION, OPSET
from wsx.exporters.weights import WeightFile

DEVICES = ("auto", "cpu", "cuda")
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")


def import_onnxruntime() -> Any:
    """Return the onnxruntime module.

    Raises:
        MissingExtraError: Neither extra is installed, or both are and have damaged each other.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            "ONNX Runtime is not installed; run `pip install 'wsx[cpu]'`, or `pip install 'wsx[gpu]'` "
            f"on a machine with CUDA 13 ({error})"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise MissingExtraError(
            "ONNX Runtime is damaged: onnxruntime and onnxruntime-gpu own the same folder. "
            "Run `wsx doctor` for the repair"
        )
    return onnxruntime


def installed_distributions() -> dict[str, str]:
    """Return the installed ONNX Runtime distributions and their versions."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Device:
    """Where sessions run.

    Attributes:
        kind: ``cpu`` or ``cuda``, as ONNX Runtime names memory.
        provider: Execution provider.
        options: Its options.
    """

    kind: str
    provider: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What ``resolve_device`` makes it from."""
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind

    @property
    def index(self) -> int:
        """Which of the devices of its kind."""
        return int(self.options.get("device_id", "0"))

    @property
    def has_fused_norm(self) -> bool:
        """Whether the provider runs BatchNorm with batch statistics as one node."""
        return self.kind == "cpu"


CPU = Device("cpu", "CPUExecutionProvider")
# HEURISTIC: plans are found per convolution of every new session, so the search must be quick. TF32 is off, so
# that counts equal the CPU's but for near-ties. Not yet run on a GPU; see docs/gpu.md.
CUDA = Device(
    "cuda",
    "CUDAExecutionProvider",
    {
        "device_id": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
        "do_copy_in_default_stream": "1",
    },
)


def resolve_device(name: str) -> Device:
    """Return the device of a name; ``auto`` takes CUDA where it works.

    Raises:
        OptionError: The name is not auto, cpu, cuda or cuda:N.
        DeviceError: CUDA was asked for and cannot be used.
        MissingExtraError: ONNX Runtime is not installed.
    """
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (":" in name and not (kind == "cuda" and index.isdecimal())):
        raise OptionError(f"device {name!r} is none of: {', '.join(DEVICES)}, cuda:N")
    import_onnxruntime()
    if name == "cpu":
        return CPU
    cuda = replace(CUDA, options={**CUDA.options, "device_id": index or "0"})
    problem = cuda_problem(cuda.index)
    if problem is None:
        return cuda
    if name == "auto":
        return CPU
    raise DeviceError(
        f"{name} was asked for and cannot be used: {problem}. Use --device cpu, or `wsx doctor`"
    )


@cache
def cuda_problem(index: int = 0) -> str | None:
    """Return why CUDA sessions cannot run here, ``None`` if they can."""
    ort = import_onnxruntime()
    if CUDA.provider not in ort.get_available_providers():
        have = ", ".join(installed_distributions()) or "none"
        return f"this ONNX Runtime has no CUDA provider (installed: {have}; needed: wsx[gpu])"
    device = replace(CUDA, options={**CUDA.options, "device_id": str(index)})
    ort.set_default_logger_severity(4)
    try:
        session = SessionFactory(WeightFile({}), device).session(_probe_model())
        session.run(None, {"x": np.ones((1, 1, 4, 4), np.float32)})
    except Exception as error:
        # Whatever it is, it is the reason that is reported.
        return str(error).strip().split("\n")[0]
    finally:
        ort.set_default_logger_severity(2)
    return None


class SessionFactory:
    """Makes sessions that read weights from memory and never leave their device.

    Args:
        weights: The shared weights, found by models under the name of the weight file.
        device: Where sessions run.
        n_threads: Threads of each session; subnets side by side scale better than threads within one.
    """

    def __init__(self, weights: WeightFile, device: Device, *, n_threads: int = 1) -> None:
        self._n_threads = n_threads
        self._ort = import_onnxruntime()
        self._weights = weights
        # Sizes of the files, their bytes, and the options that refer to them.
        self._options: tuple[list[int], dict[str, np.ndarray], Any] | None = None
        self.device = device

    def session(self, model: bytes) -> Any:
        """Return a session for a serialised model.

        Raises:
            DeviceError: The provider is not the one that was asked for.
        """
        buffers, options = self._session_options()
        session = self._ort.InferenceSession(
            model,
            options,
            providers=[(self.device.provider, self.device.options)],
            enable_fallback=0,
        )
        # It reads weights where they lie for as long as it lives, and a file that grows moves to another place.
        session.weight_buffers = buffers
        if session.get_providers()[0] != self.device.provider:
            raise DeviceError(
                f"the session runs on {session.get_providers()[0]}, not on {self.device.provider}"
            )
        return session

    def _session_options(self) -> tuple[dict[str, np.ndarray], Any]:
        # One options object serves all sessions until the weights grow.
        files = [self._weights, self._weights.scratch]
        buffers = {file.file_name: file.buffer for file in files if file.n_bytes}
        sizes = [buffer.nbytes for buffer in buffers.values()]
        known = self._options
        if known is not None and known[0] == sizes:
            return known[1:]
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self._n_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        # Nodes that several subnets of one model compute alike and do not share are apart for a reason, see
        # `wsx.exporters.merge`; within a subnet recording left no two equal ones.
        options.add_session_config_entry(
            "optimization.disable_specified_optimizers", "CommonSubexpressionElimination"
        )
        if self.device.kind == "cpu":
            # To look for a buffer that fits takes a time quadratic in a model's values, which merged and blocked models
            # have thousands of; and a pattern of all memory, fresh after the first batch, costs more than it saves.
            options.enable_mem_reuse = False
            options.enable_mem_pattern = False
        else:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if buffers:
            options.add_external_initializers_from_files_in_memory(
                list(buffers), list(buffers.values()), sizes
            )
        self._options = (sizes, buffers, options)
        return buffers, options


def _probe_model() -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 3, 3], [1.0] * 9)],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    return bytes(model.SerializeToString())
