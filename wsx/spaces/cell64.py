"""The cell of 64 archs: two nodes, three edges, four operations on each edge.

Zhang et al., "Deeper Insights into Weight Sharing in Neural Architecture Search" (arXiv 2001.01431): all 64
networks were trained alone ten times each.
"""

from collections.abc import Mapping
from functools import cached_property

from wsx.errors import ArchError
from wsx.spaces._base import SPACES, Arch, Cost, Decision, Space

EDGES = ("0->1", "0->2", "1->2")
OPERATIONS = ("max_pool_3x3", "sep_conv_3x3", "sep_conv_5x5", "dil_conv")
STEM_MULTIPLIER = 3
N_NODES = 2


class Cell64(Space):
    """Three digits: the operations of the edges 0->1, 0->2 and 1->2; the index is 16a + 4b + c, from zero."""

    name = "cell64"
    summary = (
        "a cell of 2 nodes and 3 edges, 4 operations each; stand-alone truth of ten seeds for all"
    )

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """One decision per edge."""
        return tuple(Decision(edge, OPERATIONS) for edge in EDGES)

    @property
    def reference_macro(self) -> Mapping[str, int]:
        """The paper's network on CIFAR-10, as its text reads."""
        return {
            "channels": 16,
            "cells": 4,
            "n_classes": 10,
            "in_channels": 3,
            "image_size": 32,
            "dilated_kernel": 3,
            "is_concat": False,
        }

    def format(self, arch: Arch) -> str:
        """Return the digits, each from 1 to 4, such as ``434``."""
        return "".join(str(option + 1) for option in self.check(arch))

    def parse(self, text: str) -> Arch:
        """Return the arch of three digits.

        Raises:
            ArchError: The text is no three digits from 1 to 4.
        """
        digits = text.strip()
        if len(digits) != len(EDGES) or any(digit not in "1234" for digit in digits):
            raise ArchError(f"arch {text[:60]!r} must be three digits from 1 to 4, such as 434")
        return tuple(int(digit) - 1 for digit in digits)

    def cost(self, arch: Arch, macro: Mapping[str, int]) -> Cost:
        """Return params and multiply-adds of the stand-alone network.

        Args:
            arch: The arch.
            macro: ``channels``, ``cells``, ``n_classes``, ``in_channels``, ``image_size`` (pixels a side),
                ``dilated_kernel`` (pixels a side) and ``is_concat`` (nodes are concatenated, not summed);
                ``is_affine`` may be true.
        """
        arch = self.check(arch)
        width, n_pixels = macro["channels"], macro["image_size"] ** 2
        per_norm = 2 if macro.get("is_affine", False) else 0
        separable = {1: (2, 3), 2: (2, 5), 3: (1, macro["dilated_kernel"])}
        source = STEM_MULTIPLIER * width
        weights = 9 * source * (macro["in_channels"] + source)
        # The stem's two BatchNorm layers always learn.
        params = 2 * 2 * source
        for _ in range(macro["cells"]):
            weights += source * width
            params += per_norm * width
            for option in arch:
                n, kernel = separable.get(option, (0, 0))
                weights += n * (kernel * kernel * width + width * width)
                # Pooling is followed by a BatchNorm layer too.
                params += max(n, 1) * per_norm * width
            source = N_NODES * width if macro["is_concat"] else width
        classifier = (source + 1) * macro["n_classes"]
        return Cost(params + weights + classifier, weights * n_pixels + classifier)


CELL64 = Cell64()
SPACES.register(Cell64.name)(CELL64)
