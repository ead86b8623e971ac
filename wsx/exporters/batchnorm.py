"""BatchNorm modes, as rewrites of a recorded graph.

``running`` uses the supernet's tracked averages, ``batch`` the statistics of each evaluation batch, and
``calibrated:STEPSxBATCH`` those of training images, measured subnet by subnet and then held constant.
Rewritten graphs are hash-consed anew: what told two nodes apart may be gone with the running averages.
"""

import re
from dataclasses import dataclass, replace

import numpy as np

from wsx.errors import ExportError, OptionError
from wsx.exporters.graph import Graph, GraphBuilder, Node

KINDS = ("batch", "calibrated", "running")
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
            OptionError: The text is none of the three forms.
        """
        if text in ("batch", "running"):
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
    def n_images(self) -> int:
        """Calibration images in all."""
        return self.n_steps * self.batch_size


def with_batch_norm(graph: Graph, mode: BatchNormMode) -> Graph:
    """Return the graph with its BatchNorm nodes in a mode.

    In the calibrated form statistics are left open; they are filled in at emission.

    Raises:
        ExportError: ``running`` is asked of a supernet that tracks no statistics.
    """
    builder = GraphBuilder()
    positions: list[int] = []
    for node in graph.nodes:
        positions.append(_add(builder, node, [positions[i] for i in node.inputs], mode))
    return builder.graph(positions[-1])


def _add(builder: GraphBuilder, node: Node, inputs: list[int], mode: BatchNormMode) -> int:
    if node.op == "batch_norm":
        if mode.kind != "running":
            node = replace(node, op=f"batch_norm_{mode.kind}", weights=node.weights[:2])
        elif None in node.weights[2:]:
            raise ExportError(
                "BatchNorm mode 'running' needs tracked statistics, and this supernet was built with "
                f"tracks_statistics=False; use batch or {DEFAULT_MODE}"
            )
    return builder.add(
        node.op,
        inputs,
        shape=node.shape,
        weights=node.weights,
        attributes=dict(node.attributes),
    )


def calibrated_nodes(graph: Graph) -> list[Node]:
    """Return the nodes whose statistics calibration measures, in graph order."""
    return [node for node in graph.nodes if node.op == "batch_norm_calibrated"]


def split_statistics(graph: Graph, means: np.ndarray, variances: np.ndarray) -> Statistics:
    """Return statistics by node from those of all nodes in a row, shape (sum of channels,)."""
    nodes = calibrated_nodes(graph)
    ends = np.cumsum([node.shape[1] for node in nodes])[:-1]
    parts = zip(nodes, np.split(means, ends), np.split(variances, ends), strict=True)
    return {node.digest: (mean, variance) for node, mean, variance in parts}
