"""Options that every image supernet has: dropout, kernels that are shared, BatchNorm."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from wsx.errors import OptionError
from wsx.registry import unknown_name
from wsx.supernets._base import MacroOptions
from wsx.supernets.kernels import KERNELS


@dataclass(frozen=True)
class ImageOptions(MacroOptions):
    """What image supernets can be built with, under one name in all of them.

    Attributes:
        kernels: Who owns the kernels of convolutions that differ in size alone, see ``wsx.supernets.kernels``.
        dropout: Share of the pooled feature that is zeroed before the classifier while training, in [0, 1).
        ramps_drop_path: The share of images whose paths are dropped grows linearly with the depth of the layer,
            as in NAO; otherwise it is the same everywhere, as in DARTS.
        bn_momentum: Share of a batch in the running averages of BatchNorm, in (0, 1].
        bn_epsilon: What BatchNorm adds to the variance.
        is_affine: BatchNorm layers learn scale and shift.
        tracks_statistics: BatchNorm layers keep running averages.
    """

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"kernels": KERNELS}
    """Values of the options that are one of several texts."""

    kernels: str = "separate"
    dropout: float = 0.0
    ramps_drop_path: bool = True
    bn_momentum: float = 0.1
    bn_epsilon: float = 1e-5
    is_affine: bool = True
    tracks_statistics: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            OptionError: A number is out of range.
            UnknownNameError: A text is none of the option's values.
        """
        super().__post_init__()
        for name, known in self.choices.items():
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), list(known))
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout is {self.dropout}; it must lie in [0, 1)")
        if not 0 < self.bn_momentum <= 1:
            raise OptionError(f"bn_momentum is {self.bn_momentum}; it must lie in (0, 1]")
        if not 0 < self.bn_epsilon < float("inf"):
            raise OptionError(f"bn_epsilon is {self.bn_epsilon}; it must be positive and finite")

    @property
    def norm(self) -> dict[str, Any]:
        """The BatchNorm options that change a layer's parameters and buffers, as keyword arguments."""
        return {"is_affine": self.is_affine, "tracks_statistics": self.tracks_statistics}

    def path_depth(self, layer: int, n_layers: int) -> float:
        """Return how much of the share of dropped paths applies to a layer, counted from zero."""
        return (layer + 1) / n_layers if self.ramps_drop_path else 1.0

    def pooling(self) -> nn.Module:
        """Return global average pooling, and the dropout of what it gives."""
        pool = nn.AdaptiveAvgPool2d(1)
        return nn.Sequential(pool, nn.Dropout(self.dropout)) if self.dropout else pool

    def set_norms(self, net: nn.Module) -> None:
        """Give every BatchNorm layer its momentum and epsilon."""
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum, layer.eps = self.bn_momentum, self.bn_epsilon
