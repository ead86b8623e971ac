"""NAS-Bench-Macro: eight layers in three stages, three blocks for each layer, CIFAR-10.

The first layer of a stage halves the image and doubles the channels. Text form, order and macro are the
benchmark's own (Su et al., CVPR 2021, arXiv 2103.11922, and github.com/xiusu/NAS-Bench-Macro).
"""

from collections.abc import Callable, Mapping
from functools import cached_property

from wsx.errors import ArchError
from wsx.spaces._base import SPACES, Arch, Cost, Decision, Space
from wsx.spaces.mobile import CostMeter

IDENTITY = 0
BLOCKS = {1: (3, 3), 2: (5, 6)}
"""Kernel size and expansion of the options that are inverted residual blocks."""
N_LAYERS = (2, 3, 3)
LAST_CHANNELS = 1280

_OPTIONS = ("Identity", "MB3_K3", "MB6_K5")
_LAYERS = tuple((stage, layer) for stage, n in enumerate(N_LAYERS) for layer in range(n))


def layers(channels: int) -> list[tuple[int, int]]:
    """Return output channels and stride of the eight layers, behind a stem of so many channels."""
    return [(channels * 2 ** (stage + 1), 1 if layer else 2) for stage, layer in _LAYERS]


def canonical(arch: Arch) -> Arch:
    """Return the arch that stands for all which are the same network once trained alone.

    Identities that change no shape go to the end of their stage, as the benchmark does before it trains.
    """
    moved: list[int] = []
    start = 0
    for n in N_LAYERS:
        first, *others = arch[start : start + n]
        blocks = [option for option in others if option != IDENTITY]
        moved += [first, *blocks, *[IDENTITY] * (len(others) - len(blocks))]
        start += n
    return tuple(moved)


class NasBenchMacro(Space):
    """The 3^8 = 6,561 networks of NAS-Bench-Macro."""

    name = "nasbenchmacro"
    summary = "8 layers, each an identity or one of two inverted residual blocks; stand-alone truth for all"

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """One decision per layer, ``stage0_layer0`` to ``stage2_layer2``."""
        return tuple(Decision(f"stage{stage}_layer{layer}", _OPTIONS) for stage, layer in _LAYERS)

    @property
    def reference_macro(self) -> Mapping[str, int]:
        """Macro options of the benchmark's networks."""
        return {"channels": 32, "n_classes": 10, "in_channels": 3, "image_size": 32}

    @property
    def measures(self) -> Mapping[str, Callable[[], list[Arch] | None]]:
        """All encodings, or one encoding per distinct network (3,969)."""
        return {"encodings": lambda: None, "networks": self._networks}

    def _networks(self) -> list[Arch]:
        return [arch for arch in self.enumerate() if canonical(arch) == arch]

    def depth(self, arch: Arch) -> int:
        """Return the layers that are no identity."""
        return sum(option != IDENTITY for option in self.check(arch))

    def format(self, arch: Arch) -> str:
        """Return the benchmark's text, one digit per layer, such as ``21020112``; 0 is the identity."""
        return "".join(map(str, self.check(arch)))

    def parse(self, text: str) -> Arch:
        """Return the arch of the benchmark's text.

        Raises:
            ArchError: The text is not eight digits from 0 to 2.
        """
        text = text.strip()
        if len(text) != len(_LAYERS) or not set(text) <= set("012"):
            raise ArchError(
                f"arch {text[:200]!r} must be {len(_LAYERS)} digits from 0 to 2, such as 21020112"
            )
        return tuple(map(int, text))

    def cost(self, arch: Arch, macro: Mapping[str, int]) -> Cost:
        """Return params and multiply-adds; the classifier's bias counts as a parameter only.

        Args:
            arch: The arch.
            macro: ``channels`` (of the stem), ``n_classes``, ``in_channels`` and ``image_size`` (pixels a
                side); ``is_affine`` may be false.
        """
        meter = CostMeter(macro)
        meter.conv(macro["channels"], 3)
        for option, (channels, stride) in zip(
            self.check(arch), layers(macro["channels"]), strict=True
        ):
            if option != IDENTITY:
                meter.inverted_residual(channels, *BLOCKS[option], stride=stride)
            elif stride > 1:
                meter.conv(channels, 1, stride=stride)
        meter.conv(LAST_CHANNELS, 1)
        return meter.classifier(macro["n_classes"])


NASBENCHMACRO = NasBenchMacro()
SPACES.register(NASBENCHMACRO.name)(NASBENCHMACRO)
