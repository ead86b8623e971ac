"""Samplers, one family a file: what the archs of a training step have to do with each other."""

from wsx.training.samplers import fair, gradual, round_robin, sandwich, uniform
from wsx.training.samplers._base import SAMPLERS, CostOf, Sampler

__all__ = [
    "SAMPLERS",
    "CostOf",
    "Sampler",
    "fair",
    "gradual",
    "round_robin",
    "sandwich",
    "uniform",
]
