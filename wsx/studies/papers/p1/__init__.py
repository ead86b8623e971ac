"""How Does Weight Sharing Help in Neural Architecture Search? (arXiv 2010.08219), called P1."""

from wsx.studies.papers.p1 import (  # noqa: F401  (each registers its study)
    branches,
    capacity,
    correlation,
    folds,
    multipath,
    oracle,
    restarts,
)
