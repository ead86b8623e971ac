"""An Analysis of Super-Net Heuristics in Weight-Sharing NAS (arXiv 2110.01154), called P2."""

from wsx.studies.papers.p2 import (  # noqa: F401  (each registers its study)
    batchnorm,
    channels,
    heuristics,
    learning_rate,
    metrics,
    random_search,
)
