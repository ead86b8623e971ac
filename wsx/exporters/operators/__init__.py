"""The operators that subnets may use, by name in ``OPERATORS``: shape rules and ONNX emitters."""

from wsx.exporters.operators import elementwise, layers, norm, shaping
from wsx.exporters.operators._base import OPERATORS, Operator

__all__ = ["OPERATORS", "Operator", "elementwise", "layers", "norm", "shaping"]
