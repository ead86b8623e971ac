"""BatchNorm modes by hand: what a supernet computes in each, whatever averages its layers keep.

Written without the recorder, so that agreement with it means something.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from wsx.spaces import Arch
from wsx.supernets import Supernet

Statistics = list[tuple[torch.Tensor, torch.Tensor]]
"""Mean and biased variance (channel,) of each BatchNorm call, in the order of the calls."""


class NormMode(TorchFunctionMode):
    """Computes every BatchNorm call inside the block itself, and writes no average.

    Args:
        kind: ``running`` uses the averages that a call is given, ``batch`` those of its input, ``calibrated``
            those in ``statistics``.
        statistics: For ``calibrated``; otherwise filled with what was used.
    """

    def __init__(self, kind: str, statistics: Statistics | None = None) -> None:
        super().__init__()
        self.kind = kind
        self.statistics: Statistics = [] if statistics is None else statistics
        self.is_tracked = True
        self._n_calls = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a torch function, or normalise."""
        if func is F.batch_norm:
            return self._normalised(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _normalised(
        self,
        x: torch.Tensor,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        mean, variance = self._used(x, running_mean, running_var)
        wide = (1, -1, *[1] * (x.dim() - 2))
        y = (x - mean.reshape(wide)) / torch.sqrt(variance.reshape(wide) + eps)
        y = y if weight is None else y * weight.reshape(wide)
        return y if bias is None else y + bias.reshape(wide)

    def _used(
        self, x: torch.Tensor, running_mean: torch.Tensor | None, running_var: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.is_tracked &= running_mean is not None
        self._n_calls += 1
        if self.kind == "calibrated":
            return self.statistics[self._n_calls - 1]
        if self.kind == "running" and running_mean is not None and running_var is not None:
            used = running_mean, running_var
        else:
            axes = [axis for axis in range(x.dim()) if axis != 1]
            used = x.mean(axes), x.var(axes, unbiased=False)
        self.statistics.append(used)
        return used


@torch.no_grad()
def logits_in(
    kind: str,
    supernet: Supernet,
    arch: Arch,
    inputs: Sequence[torch.Tensor],
    calibration: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Return logits of a supernet in evaluation mode under a BatchNorm mode.

    Args:
        kind: ``running``, ``batch`` or ``calibrated``.
        supernet: The supernet.
        arch: The arch.
        inputs: What it reads.
        calibration: What calibrated statistics come from, as one batch.
    """
    statistics: Statistics | None = None
    if kind == "calibrated":
        with NormMode("batch") as measured:
            run(supernet, arch, calibration)
        statistics = measured.statistics
    with NormMode(kind, statistics):
        return run(supernet, arch, inputs)


def run(supernet: Supernet, arch: Arch, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return what a supernet computes, without an auxiliary head's logits."""
    first, *others = inputs
    output = supernet(first, arch, *others)
    logits: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return logits


def norm_kinds(supernet: Supernet, arch: Arch, inputs: Sequence[torch.Tensor]) -> list[str]:
    """Return the BatchNorm modes that an arch has; none where it uses no BatchNorm layer."""
    with torch.no_grad(), NormMode("batch") as seen:
        run(supernet, arch, inputs)
    if not seen.statistics:
        return []
    return ["running", "batch", "calibrated"] if seen.is_tracked else ["batch", "calibrated"]
