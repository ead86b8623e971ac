"""BatchNorm in its three forms: running averages, batch statistics, calibrated statistics."""

import numpy as np

from wsx.exporters.emission import Emission
from wsx.exporters.graph import Node
from wsx.exporters.operators._base import operator, same_shape


def scale_and_shift(emission: Emission, node: Node) -> list[str]:
    """Return the names of a node's learnt scale and shift, ones and zeros where it learns none."""
    return [
        emission.weight(name)
        if name is not None
        else emission.constant(np.full(node.shape[1], fill, dtype=np.float32))
        for name, fill in zip(node.weights[:2], (1.0, 0.0), strict=True)
    ]


def normalise(
    emission: Emission, node: Node, operand: str, statistics: tuple[np.ndarray, np.ndarray]
) -> str:
    """Write a node with given statistics, mean and biased variance (channel,), as constants."""
    mean, variance = (emission.constant(array.astype(np.float32)) for array in statistics)
    inputs = [operand, *scale_and_shift(emission, node), mean, variance]
    return emission.op("BatchNormalization", inputs, epsilon=node["epsilon"])


def normalise_batch(emission: Emission, node: Node, operand: str) -> tuple[str, str, str]:
    """Write a node with the statistics of its batch; return value, mean and biased variance."""
    scale, shift = scale_and_shift(emission, node)
    if emission.target.has_fused_norm:
        # Momentum 0 makes the outgoing running statistics those of this batch, whatever came in. ONNX Runtime
        # writes them over the incoming ones and merges equal initializers, so each node's must differ from
        # all others', or nodes overwrite each other's statistics.
        mark = emission.position + 0.5
        incoming = [
            emission.constant(np.full(node.shape[1], fill, dtype=np.float32))
            for fill in (-mark, mark)
        ]
        value, mean, variance = emission.ops(
            "BatchNormalization",
            [operand, scale, shift, *incoming],
            3,
            epsilon=node["epsilon"],
            momentum=0.0,
            training_mode=1,
        )
        return value, mean, variance
    axes = (0, *range(2, len(node.shape)))
    mean = emission.op("ReduceMean", [operand], axes=axes, keepdims=1)
    centred = emission.op("Sub", [operand, mean])
    # Two passes: the variance of squares minus the square of means loses digits to cancellation.
    variance = emission.op(
        "ReduceMean", [emission.op("Mul", [centred, centred])], axes=axes, keepdims=0
    )
    flat = emission.op("Reshape", [mean, emission.integers(-1)])
    value = emission.op(
        "BatchNormalization",
        [operand, scale, shift, flat, variance],
        epsilon=node["epsilon"],
    )
    return value, flat, variance


@operator("batch_norm", same_shape)
def _running(emission: Emission, node: Node, operands: list[str]) -> str:
    mean, variance = (emission.weight(str(name)) for name in node.weights[2:])
    inputs = [operands[0], *scale_and_shift(emission, node), mean, variance]
    return emission.op("BatchNormalization", inputs, epsilon=node["epsilon"])


@operator("batch_norm_batch", same_shape)
def _batch(emission: Emission, node: Node, operands: list[str]) -> str:
    return normalise_batch(emission, node, operands[0])[0]
