"""Weight-sharing modules, by the name of their space in ``SUPERNETS``."""

from wsx.supernets import nasbench201
from wsx.supernets._base import (
    SUPERNETS,
    MacroOptions,
    Supernet,
    build_supernet,
    reset_parameters,
    seeded,
)

__all__ = [
    "SUPERNETS",
    "MacroOptions",
    "Supernet",
    "build_supernet",
    "nasbench201",
    "reset_parameters",
    "seeded",
]
