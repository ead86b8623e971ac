"""Weight-sharing modules, by the name of their space in ``SUPERNETS``."""

from wsx.supernets import (
    cell64,
    darts,
    darts_ptb,
    nasbench101,
    nasbench201,
    nasbenchmacro,
    proxylessnas,
)
from wsx.supernets._base import (
    SUPERNETS,
    MacroOptions,
    Supernet,
    reset_parameters,
    seeded,
)
from wsx.supernets.build import build_supernet
from wsx.supernets.own import supernet_of

__all__ = [
    "SUPERNETS",
    "MacroOptions",
    "Supernet",
    "build_supernet",
    "cell64",
    "darts",
    "darts_ptb",
    "nasbench101",
    "nasbench201",
    "nasbenchmacro",
    "proxylessnas",
    "reset_parameters",
    "seeded",
    "supernet_of",
]
