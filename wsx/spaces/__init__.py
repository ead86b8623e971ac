"""Architecture spaces, by name in ``SPACES``."""

from wsx.spaces._base import SPACES, Arch, Cost, Decision, Space
from wsx.spaces.cell64 import Cell64
from wsx.spaces.darts import Darts
from wsx.spaces.darts_nds import DartsNds
from wsx.spaces.darts_ptb import DartsPtb
from wsx.spaces.loading import load_space
from wsx.spaces.nasbench101 import NasBench101
from wsx.spaces.nasbench201 import NasBench201
from wsx.spaces.nasbenchmacro import NasBenchMacro
from wsx.spaces.product import ProductSpace
from wsx.spaces.proxylessnas import ProxylessNas

__all__ = [
    "SPACES",
    "Arch",
    "Cell64",
    "Cost",
    "Darts",
    "DartsNds",
    "DartsPtb",
    "Decision",
    "NasBench101",
    "NasBench201",
    "NasBenchMacro",
    "ProductSpace",
    "ProxylessNas",
    "Space",
    "load_space",
]
