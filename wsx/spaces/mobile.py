"""What networks of inverted residual blocks cost, layer by layer.

Multiply-adds are those of convolutions and of the classifier's matrix; its bias is free, as in the tables of
ProxylessNAS (P1, arXiv 2010.08219) and NAS-Bench-Macro.
"""

from collections.abc import Mapping

from wsx.spaces._base import Cost


class CostMeter:
    """Adds up params and multiply-adds of the layers of a network, in the order of the layers.

    Args:
        macro: ``in_channels`` and ``image_size`` (pixels a side); ``is_affine`` may be false.

    Attributes:
        channels: Channels of the last layer added.
        size: Height and width of its output, in pixels.
    """

    def __init__(self, macro: Mapping[str, int]) -> None:
        self.channels = macro["in_channels"]
        self.size = macro["image_size"]
        self._per_norm = 2 if macro.get("is_affine", True) else 0
        self._params = 0
        self._flops = 0

    def conv(
        self, channels: int, kernel: int, *, stride: int = 1, is_depthwise: bool = False
    ) -> None:
        """Add a padded convolution without bias, and its BatchNorm."""
        weights = channels * kernel**2 * (1 if is_depthwise else self.channels)
        self.channels = channels
        self.size = -(-self.size // stride)
        self._params += weights + self._per_norm * channels
        self._flops += weights * self.size**2

    def inverted_residual(self, channels: int, kernel: int, expansion: int, *, stride: int) -> None:
        """Add an inverted residual block: expansion (unless 1), depthwise convolution, projection."""
        width = self.channels * expansion
        if expansion > 1:
            self.conv(width, 1)
        self.conv(width, kernel, stride=stride, is_depthwise=True)
        self.conv(channels, 1)

    def classifier(self, n_classes: int) -> Cost:
        """Add the linear layer behind the pooling, and return what all layers cost."""
        weights = self.channels * n_classes
        return Cost(self._params + weights + n_classes, self._flops + weights)
