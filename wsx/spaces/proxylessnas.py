"""ProxylessNAS: 21 inverted residual blocks for ImageNet, each with its own kernel and expansion.

Six stages of 4, 4, 4, 4, 4 and 1 cells. The first cell of a stage has six options, every other one a seventh:
``Zero``, which leaves nothing but the residual. Options, their order and the macro are those of P1
(arXiv 2010.08219 and its code) after Cai, Zhu and Han (ICLR 2019).
"""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from wsx.errors import ArchError
from wsx.spaces._base import SPACES, Arch, Cost, Decision, Space
from wsx.spaces.mobile import CostMeter

BLOCKS = ((3, 3), (3, 6), (5, 3), (5, 6), (7, 3), (7, 6))
"""Kernel size and expansion of the options that have weights."""
ZERO = len(BLOCKS)
N_CELLS = (4, 4, 4, 4, 4, 1)
STRIDES = (2, 2, 2, 1, 2, 1)
STEM_CHANNELS, FIRST_CHANNELS, LAST_CHANNELS = 32, 16, 1280
STAGE_CHANNELS = (24, 40, 80, 96, 192, 320)

_OPTIONS = (*(f"{kernel}x{kernel}_MB{expansion}" for kernel, expansion in BLOCKS), "Zero")
_CELLS = tuple((stage, cell) for stage, n in enumerate(N_CELLS) for cell in range(n))
_NAMES = tuple(f"stage{stage}_cell{cell}" for stage, cell in _CELLS)
_MAX_TEXT = 2000


def scaled(channels: int, width_percent: int) -> int:
    """Return a channel count times the width, rounded to a multiple of 8.

    At least 8, and never more than a tenth below the product (MobileNet's ``make_divisible``).
    """
    rounded = max(8, (channels * width_percent + 400) // 800 * 8)
    return rounded + 8 if 1000 * rounded < 9 * channels * width_percent else rounded


def last_channels(width_percent: int) -> int:
    """Return the channels before the classifier, which only widths above 100 % change."""
    return scaled(LAST_CHANNELS, max(100, width_percent))


def cells(width_percent: int) -> list[tuple[int, int]]:
    """Return output channels and stride of the 21 cells, in order."""
    return [
        (scaled(STAGE_CHANNELS[stage], width_percent), 1 if cell else STRIDES[stage])
        for stage, cell in _CELLS
    ]


def has_residual(place: int) -> bool:
    """Return whether a cell adds its input to its output: all but the first of a stage."""
    return _CELLS[place][1] > 0


class ProxylessNas(Space):
    """The 6^6 * 7^15 networks of ProxylessNAS."""

    name = "proxylessnas"
    summary = (
        "21 inverted residual blocks, kernel 3, 5 or 7, expansion 3 or 6, or skipped; for ImageNet"
    )

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """One decision per cell, under P1's names, ``stage0_cell0`` to ``stage5_cell0``."""
        return tuple(
            Decision(name, _OPTIONS if has_residual(place) else _OPTIONS[:ZERO])
            for place, name in enumerate(_NAMES)
        )

    @property
    def reference_macro(self) -> Mapping[str, int]:
        """Macro options of P1's networks."""
        return {"width_percent": 135, "n_classes": 1000, "in_channels": 3, "image_size": 224}

    def depth(self, arch: Arch) -> int:
        """Return the blocks that are not skipped."""
        return sum(option != ZERO for option in self.check(arch))

    def format(self, arch: Arch) -> str:
        """Return one digit per cell, stages apart, such as ``4063-3642-4614-5656-1550-3``.

        Digits count the options in the order of ``decisions``, as P1's table does; 6 is ``Zero``.
        """
        digits = "".join(map(str, self.check(arch)))
        starts = range(0, len(digits), 4)
        return "-".join(digits[start : start + 4] for start in starts)

    def parse(self, text: str) -> Arch:
        """Return the arch of a text of digits, or of P1's JSON object of ``stage{s}_cell{k}``.

        Raises:
            ArchError: The text is neither, or a cell has no such option.
        """
        if len(text) > _MAX_TEXT:
            raise ArchError(
                f"arch {text[:60]!r}... has {len(text)} characters; no arch has as many"
            )
        text = text.strip()
        return self.check(_parse_json(text) if text.startswith("{") else _parse_digits(text))

    def cost(self, arch: Arch, macro: Mapping[str, int]) -> Cost:
        """Return params and multiply-adds; the classifier's bias counts as a parameter only.

        P1's table adds multiply-adds up in single precision, so it differs by rounding (32 or less).

        Args:
            arch: The arch.
            macro: ``width_percent``, ``n_classes``, ``in_channels`` and ``image_size`` (pixels a
                side); ``is_affine`` may be false.
        """
        arch = self.check(arch)
        width = macro["width_percent"]
        meter = CostMeter(macro)
        meter.conv(scaled(STEM_CHANNELS, width), 3, stride=2)
        meter.inverted_residual(scaled(FIRST_CHANNELS, width), 3, 1, stride=1)
        for option, (channels, stride) in zip(arch, cells(width), strict=True):
            if option != ZERO:
                meter.inverted_residual(channels, *BLOCKS[option], stride=stride)
        meter.conv(last_channels(width), 1)
        return meter.classifier(macro["n_classes"])


def _parse_digits(text: str) -> Arch:
    stages = text.split("-")
    if tuple(map(len, stages)) != N_CELLS or not set("".join(stages)) <= set("0123456"):
        raise ArchError(
            f"arch {text[:200]!r} must be six groups of 4, 4, 4, 4, 4 and 1 digits from 0 to 6, "
            "such as 4063-3642-4614-5656-1550-3, or P1's JSON object"
        )
    return tuple(map(int, "".join(stages)))


def _parse_json(text: str) -> Arch:
    try:
        pairs: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise ArchError(f"arch {text[:200]!r} is no JSON object: {error}") from None
    values = dict(pairs)
    if len(pairs) != len(_NAMES) or values.keys() != set(_NAMES):
        wrong = sorted(values.keys() ^ set(_NAMES)) or "a key twice"
        raise ArchError(
            f"arch {text[:200]!r} must have each of {_NAMES[0]} to {_NAMES[-1]} once; see {wrong}"
        )
    if any(type(value) is not int for value in values.values()):
        raise ArchError(f"arch {text[:200]!r}: every value must be an integer")
    return tuple(values[name] for name in _NAMES)


PROXYLESSNAS = ProxylessNas()
SPACES.register(PROXYLESSNAS.name)(PROXYLESSNAS)
