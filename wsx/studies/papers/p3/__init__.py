"""Deeper Insights into Weight Sharing in NAS (arXiv 2001.01431), called P3."""

from wsx.studies.papers.p3 import (  # noqa: F401  (each registers its study)
    epochs,
    finetune,
    groups,
    instances,
    interference,
    prefix,
)
