"""BatchNorm modes: what a recorded BatchNorm layer becomes.

``running`` uses the supernet's tracked averages, ``batch`` the statistics of each evaluation batch, and
``calibrated:STEPSxBATCH`` those of training images, measured subnet by subnet and then held constant.
Only ``running`` names the running averages: in the other modes layers that differ in nothing else are one node.
"""

import re
from dataclasses import dataclass

import numpy as np

from wsx.errors import OptionError
from wsx.exporters.graph import Graph, Node

KINDS = ("batch", "calibrated", "running", "none")
DEFAULT_MODE = "calibrated:4x256"

_PATTERN = re.compile(r"calibrated:([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")

Statistics = dict[str, tuple[np.ndarray, np.ndarray]]
"""Mean and biased variance (channel,) of each BatchNorm node, by the node's digest."""


@dataclass(frozen=True)
class BatchNormMode:
    """Where BatchNorm layers take their statistics from; ``str`` and ``parse`` are inverse.

    Attributes:
        kind: One of ``KINDS``.
        n_steps: Calibration batches; 0 unless calibrated.
        batch_size: Images per calibration batch; 0 unless calibrated.
    """

    kind: str
    n_steps: int = 0
    batch_size: int = 0

    @classmethod
    def parse(cls, text: str) -> "BatchNormMode":
        """Return the mode of a text.

        Raises:
            OptionError: The text is none of the four forms. ``none`` is that of subnets without BatchNorm.
        """
        if text in ("batch", "running", "none"):
            return cls(text)
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise OptionError(
                f"BatchNorm mode {text!r} is none of: batch, running, calibrated:STEPSxBATCH "
                f"(such as {DEFAULT_MODE})"
            )
        return cls("calibrated", int(match[1]), int(match[2]))

    def __str__(self) -> str:
        if self.kind == "calibrated":
            return f"calibrated:{self.n_steps}x{self.batch_size}"
        return self.kind

    @property
    def operator(self) -> str:
        """Name of the operator that BatchNorm layers are recorded as."""
        return "batch_norm" if self.kind == "running" else f"batch_norm_{self.kind}"

    @property
    def n_images(self) -> int:
        """Calibration images in all."""
        return self.n_steps * self.batch_size


def calibrated_nodes(graph: Graph) -> list[Node]:
    """Return the nodes whose statistics calibration measures, in graph order."""
    return [node for node in graph.nodes if node.op == "batch_norm_calibrated"]


def split_statistics(graph: Graph, means: np.ndarray, variances: np.ndarray) -> Statistics:
    """Return statistics by node from those of all nodes in a row, shape (sum of channels,)."""
    nodes = calibrated_nodes(graph)
    ends = np.cumsum([node.shape[1] for node in nodes])[:-1]
    parts = zip(nodes, np.split(means, ends), np.split(variances, ends), strict=True)
    return {node.digest: (mean, variance) for node, mean, variance in parts}
