"""wsx: train weight-sharing super-nets, score thousands of subnets, and measure what the scores are worth."""

from wsx.version import __version__

__all__ = ["__version__"]
