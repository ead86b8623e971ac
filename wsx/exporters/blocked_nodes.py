"""ONNX Runtime's operators for images whose channels lie in blocks, and BatchNorm made of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsx.exporters.emission import BLOCKED, Emission
from wsx.exporters.graph import Node
from wsx.exporters.operators.norm import scale_and_shift

N_GUESSED = 8
"""Images whose mean stands for the batch's where any value near it will do."""

DENSE, DEPTHWISE, FIRST = "dense", "depthwise", "first"
"""Kinds of blocked convolutions; the first layer reads plain images, whose channels are less than a block."""


@dataclass(frozen=True)
class Convolution:
    """A convolution that is not written yet.

    Attributes:
        kind: ``DENSE``, ``DEPTHWISE`` or ``FIRST``.
        value: Name of what it reads.
        kernel: Weight (out, in, height, width).
        bias: Weight (out,), ``None`` without.
        attributes: Of the ONNX node.
    """

    kind: str
    value: str
    kernel: str
    bias: str | None
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Normalised:
    """A norm whose last pass is not written yet: scale * value + shift, plus an addend.

    Attributes:
        value: What is normalised, but for a constant per channel.
        scale: (channel, 1, 1, 1).
        shift: (channel,).
        n_channels: Of them all.
        addend: A value of the same shape, ``None`` without.
    """

    value: str
    scale: str
    shift: str
    n_channels: int
    addend: str | None = None


class BlockedNodes:
    """Writes blocked operators; all names of values are of values in blocks, but of convolutions of kind ``FIRST``.

    Args:
        emission: Where nodes go; its target says how many channels a block has.
    """

    def __init__(self, emission: Emission) -> None:
        self._emission = emission
        self._block_size = emission.target.block_size
        self._input_means: dict[str, str] = {}

    def op(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Write a blocked operator."""
        return self._emission.op(kind, inputs, domain=BLOCKED, **attributes)

    def convolve(self, conv: Convolution) -> str:
        """Write a convolution."""
        biases = [] if conv.bias is None else [self._emission.weight(conv.bias)]
        return self.op("Conv", [conv.value, self._kernel(conv), *biases], **conv.attributes)

    def finish(self, norm: Normalised, **attributes: Any) -> str:
        """Write the last pass of a norm, a depthwise convolution of one pixel."""
        addends = [] if norm.addend is None else [norm.addend]
        inputs = [norm.value, norm.scale, norm.shift, *addends]
        return self.op("Conv", inputs, kernel_shape=(1, 1), group=norm.n_channels, **attributes)

    def normalise(self, node: Node, value: str) -> tuple[Normalised, str, str]:
        """Write a norm with the statistics of its batch; return it, its mean and its biased variance."""
        op, n_channels = self._emission.op, node.shape[1]
        mean = self._channel_means(value)
        ones = self._emission.constant(np.ones((n_channels, 1, 1, 1), np.float32))
        centred = self.finish(Normalised(value, ones, op("Neg", [mean]), n_channels))
        # Two passes: the variance of squares minus the square of means loses digits to cancellation.
        variance = self._channel_means(op("Mul", [centred, centred]))
        scale, shift = self._scale_and_shift(node, variance)
        return Normalised(centred, self._column(scale), shift, n_channels), mean, variance

    def normalise_convolution(self, node: Node, conv: Convolution) -> tuple[Normalised, str, str]:
        """Write a convolution and its norm; return what ``normalise`` does.

        About the mean is subtracted in place of the convolution's bias, which the norm takes away again. What is
        left of it is small beside the deviation, so that one pass is exact enough: a variance is off by some 1e-7
        of itself, times one and the square of rest over deviation.
        """
        op = self._emission.op
        minus_guess = self._minus_expected_output(conv)
        inputs = [conv.value, self._kernel(conv), minus_guess]
        value = self.op("Conv", inputs, **conv.attributes)
        rest = self._channel_means(value)
        squares = self._channel_means(op("Mul", [value, value]))
        difference = op("Sub", [squares, op("Mul", [rest, rest])])
        variance = op("Max", [difference, self._emission.scalar(0.0)])
        mean = op("Sub", [rest, minus_guess])
        if conv.bias is not None:
            mean = op("Add", [mean, self._emission.weight(conv.bias)])
        scale, shift = self._scale_and_shift(node, variance)
        shift = op("Sub", [shift, op("Mul", [rest, scale])])
        return Normalised(value, self._column(scale), shift, node.shape[1]), mean, variance

    def _scale_and_shift(self, node: Node, variance: str) -> tuple[str, str]:
        op = self._emission.op
        scale, shift = scale_and_shift(self._emission, node)
        spread = op("Sqrt", [op("Add", [variance, self._emission.scalar(node["epsilon"])])])
        return op("Div", [scale, spread]), shift

    def _column(self, row: str) -> str:
        return self._emission.op("Reshape", [row, self._emission.integers(-1, 1, 1, 1)])

    def _channel_means(self, value: str) -> str:
        return self._over_images(self.op("GlobalAveragePool", [value]))

    def _over_images(self, pooled: str) -> str:
        # Of a matrix: over the axes of images ONNX Runtime takes several times as long.
        rows = self._emission.op("Flatten", [pooled], axis=1)
        return self._emission.op("ReduceMean", [rows], axes=(0,), keepdims=0)

    def _minus_expected_output(self, conv: Convolution) -> str:
        """Write about minus what channels will be in the mean, without bias: as of a few images without borders."""
        op, emission = self._emission.op, self._emission
        if conv.value not in self._input_means:
            bounds = [emission.integers(n) for n in (0, N_GUESSED, 0)]
            few = op("Slice", [conv.value, *bounds])
            domain = "" if conv.kind == FIRST else BLOCKED
            pooled = op("GlobalAveragePool", [few], domain=domain)
            self._input_means[conv.value] = self._over_images(pooled)
        kind = "Mul" if conv.kind == DEPTHWISE else "MatMul"
        return op(kind, [self._input_means[conv.value], self._minus_kernel_sums(conv)])

    def _kernel(self, conv: Convolution) -> str:
        """Return a kernel with its channels in blocks."""

        def made(kernel: np.ndarray) -> np.ndarray:
            return in_blocks(kernel, self._block_size, blocks_inputs=conv.kind == DENSE)

        return self._derived(conv.kernel, f"{self._block_size}", made)

    def _minus_kernel_sums(self, conv: Convolution) -> str:
        """Return minus a kernel's sums over its pixels, (in, out), or (channel,) if it is depthwise."""

        def made(kernel: np.ndarray) -> np.ndarray:
            sums: np.ndarray = -kernel.sum((2, 3)).T
            return sums[0] if conv.kind == DEPTHWISE else sums

        return self._derived(conv.kernel, "sums", made)

    def _derived(self, name: str, form: str, made: Callable[[np.ndarray], np.ndarray]) -> str:
        """Return what is made of a weight, once per checkpoint."""
        weights = self._emission.weights
        key = (BLOCKED, name, form)
        if key not in weights.emitted:
            weights.emitted[key] = weights.scratch.add_derived(made(weights.array(name)))
        return self._emission.scratch(weights.emitted[key])


def in_blocks(kernel: np.ndarray, block_size: int, *, blocks_inputs: bool) -> np.ndarray:
    """Return a kernel (out, in, height, width) in the order in which blocked convolutions read it.

    Args:
        kernel: Its output channels are a multiple of the block; so are its input channels where they are blocked.
        block_size: Channels of a block.
        blocks_inputs: Whether input channels lie in blocks too: not in the first layer, nor depthwise.
    """
    n_out, n_in, *size = kernel.shape
    n_inner = block_size if blocks_inputs else 1
    parts = kernel.reshape(n_out // block_size, block_size, n_in // n_inner, n_inner, *size)
    return np.ascontiguousarray(parts.transpose(0, 2, 4, 5, 3, 1)).reshape(kernel.shape)
