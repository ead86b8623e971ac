"""The machine: what it is, how fast it multiplies matrices, how much memory a job took."""

import contextlib
import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from wsx.errors import DeviceError
from wsx.evaluators.devices import installed_distributions
from wsx.version import __version__

MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
N_PRODUCTS = 8
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Return processor, cores, load and versions, JSON-clean."""
    facts: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "wsx": __version__,
        "torch": torch.__version__,
        **installed_distributions(),
        **{name: version(name) for name in ("onnx", "numpy")},
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    if hasattr(os, "getloadavg"):
        # Somebody else's work shows here: on a quiet machine it is near zero when a measurement begins.
        facts["load_average_before"] = os.getloadavg()[0]
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
    return facts


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def usable_device(kind: str) -> torch.device:
    """Return PyTorch's device of a kind.

    Raises:
        DeviceError: PyTorch cannot use it here, whatever ONNX Runtime can.
    """
    try:
        return torch.empty(0, device=kind).device
    except (RuntimeError, AssertionError) as error:
        detail = str(error).strip().split("\n")[0]
        raise DeviceError(
            f"PyTorch cannot use device {kind!r}, which baselines need: {detail}"
        ) from error


def gemm_gflops(device: torch.device, *, side: int | None = None) -> float:
    """Return the most GFLOP/s of some products of large float32 matrices, in full precision."""
    n = side or MATRIX_SIDE[device.type]
    a, b = torch.ones(n, n, device=device), torch.ones(n, n, device=device)
    out = torch.empty(n, n, device=device)
    best_s = float("inf")
    for _ in range(N_PRODUCTS):
        synchronize(device)
        start_s = time.perf_counter()
        torch.mm(a, b, out=out)
        synchronize(device)
        best_s = min(best_s, time.perf_counter() - start_s)
    return 2e-9 * n**3 / best_s


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PeakMemory:
    """The most memory in use since the last reset.

    Of the process: Linux forgets a peak on request. Elsewhere, and where that is forbidden, it is the peak since
    the process began, so that a small job after a large one shows the large one's.

    Args:
        device: What is asked besides the process.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def reset(self) -> None:
        """Forget the peak so far."""
        with contextlib.suppress(OSError):
            _CLEAR.write_text("5")
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def read(self) -> dict[str, int]:
        """Return bytes: ``process_bytes``, on a GPU also PyTorch's own and all that lies there now."""
        peaks = {"process_bytes": _process_peak_bytes()}
        if self._device.type == "cuda":
            peaks["torch_gpu_bytes"] = torch.cuda.max_memory_allocated(self._device)
            used = _nvidia_smi_bytes()
            if used is not None:
                peaks["gpu_used_after_bytes"] = used
        return peaks


def _process_peak_bytes() -> int:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, KiB everywhere else.
    return peak if platform.system() == "Darwin" else peak * 1024


def _nvidia_smi_bytes() -> int | None:
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return int(done.stdout.split()[0]) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
