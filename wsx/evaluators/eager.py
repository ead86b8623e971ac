"""The oracle: subnets scored by PyTorch, eagerly, one after another, in each BatchNorm mode.

Written without the recorder: it runs ``supernet(x, arch)`` on a copy of the supernet and calibrates with
hooks, as published code does, so that agreement with ONNX Runtime means something.
"""

import copy
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from wsx.data import ImageSet
from wsx.errors import ExportError
from wsx.evaluators.batches import Tally
from wsx.exporters.batchnorm import BatchNormMode
from wsx.spaces import Arch
from wsx.supernets import Supernet

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
Sums = dict[Norm, list[torch.Tensor]]
"""Mean and variance of each layer, summed over images, and the number of images."""


class EagerOracle:
    """Runs subnets of a supernet in PyTorch.

    Args:
        supernet: Copied; stays as it is.
        mode: BatchNorm mode.
        calibration: Training images, for the calibrated mode.
        is_channels_last: Memory layout; channels last is the faster one.

    Raises:
        ExportError: ``running`` is asked of a supernet that tracks no statistics.
    """

    def __init__(
        self,
        supernet: Supernet,
        mode: BatchNormMode,
        calibration: ImageSet | None,
        *,
        is_channels_last: bool = True,
    ) -> None:
        self._layout = torch.channels_last if is_channels_last else torch.contiguous_format
        self._model = copy.deepcopy(supernet).eval().to(memory_format=self._layout)  # type: ignore[call-overload]
        self._norms = [m for m in self._model.modules() if isinstance(m, _NORMS)]
        self._mode = mode
        self._calibration = calibration
        if mode.kind == "running" and any(m.running_mean is None for m in self._norms):
            raise ExportError("BatchNorm mode 'running' needs a supernet that tracks statistics")
        for norm in self._norms:
            if mode.kind == "calibrated" and norm.running_mean is None:
                _give_statistics(norm)
            # With momentum 0 batch statistics are used and never written back.
            norm.momentum = 0.0
            norm.train(mode.kind == "batch")

    def prepare(self, arch: Arch) -> None:
        """Set the statistics of the layers that an arch uses, in calibrated mode."""
        if self._mode.kind != "calibrated" or self._calibration is None:
            return
        sums: Sums = {}
        hooks = [norm.register_forward_pre_hook(_collector(sums)) for norm in self._norms]
        for norm in self._norms:
            norm.train()
        size = self._mode.batch_size
        with torch.inference_mode():
            for start in range(0, self._mode.n_images, size):
                self._model(self._images(self._calibration, start, start + size), arch)
        for hook in hooks:
            hook.remove()
        for norm in self._norms:
            norm.eval()
        for norm, (mean, variance, n) in sums.items():
            norm.running_mean = mean / n
            norm.running_var = variance / n

    def logits(self, images: ImageSet, arch: Arch, *, batch_size: int) -> np.ndarray:
        """Return logits (image, class) of a prepared arch."""
        with torch.inference_mode():
            rows = [
                self._model(self._images(images, start, start + batch_size), arch)
                for start in range(0, len(images), batch_size)
            ]
        return torch.cat(rows).numpy()

    def score(self, images: ImageSet, arch: Arch, *, batch_size: int) -> tuple[Tally, float, float]:
        """Return a subnet's tally, and the seconds taken to calibrate and to run."""
        start_s = time.perf_counter()
        self.prepare(arch)
        prepared_s = time.perf_counter()
        logits = self.logits(images, arch, batch_size=batch_size)
        run_s = time.perf_counter() - prepared_s
        return tally(logits, images.labels), prepared_s - start_s, run_s

    def _images(self, images: ImageSet, start: int, stop: int) -> torch.Tensor:
        return torch.from_numpy(images.floats(start, stop)).contiguous(memory_format=self._layout)


def tally(logits: np.ndarray, labels: np.ndarray) -> Tally:
    """Return the tally of logits (image, class) against labels (image,)."""
    outcomes = logits.argmax(axis=1) == labels
    loss = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels), reduction="sum")
    return Tally(int(outcomes.sum()), float(loss), outcomes)


def _give_statistics(norm: Norm) -> None:
    norm.track_running_stats = True
    norm.num_batches_tracked = torch.tensor(0)


def _collector(sums: Sums) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
    def collect(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(norm, _NORMS)
        x = inputs[0]
        axes = [axis for axis in range(x.dim()) if axis != 1]
        mean, variance = x.mean(axes), x.var(axes, unbiased=False)
        n = torch.tensor(float(len(x)))
        old = sums.setdefault(norm, [torch.zeros_like(mean), torch.zeros_like(variance), n * 0])
        sums[norm] = [old[0] + mean * n, old[1] + variance * n, old[2] + n]

    return collect
