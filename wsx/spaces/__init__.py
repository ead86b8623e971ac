"""Architecture spaces, by name in ``SPACES``."""

from wsx.spaces._base import SPACES, Arch, Cost, Decision, Space
from wsx.spaces.nasbench201 import NasBench201

__all__ = ["SPACES", "Arch", "Cost", "Decision", "NasBench201", "Space"]
