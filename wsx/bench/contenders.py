"""What every way to score is: a contender, made for a subject, by name."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from wsx.bench.subject import Subject
from wsx.errors import OptionError
from wsx.exporters.batchnorm import BatchNormMode
from wsx.registry import Registry
from wsx.spaces import Arch


@dataclass(frozen=True)
class Contender:
    """A way to score a population, what is done once per process already done.

    Attributes:
        name: Of its row.
        what: What it is, in a few words, its settings included.
        mode: BatchNorm mode that it scores in.
        batch_size: Images per batch.
        score: Gives the number of images that each of some archs classifies correctly.
        precision: Of the forward passes; counts are compared in float32 only.
        n_archs: Archs that are enough to measure it; None for all.
    """

    name: str
    what: str
    mode: BatchNormMode
    batch_size: int
    score: Callable[[Sequence[Arch]], list[int]]
    precision: str = "float32"
    n_archs: int | None = None


class NotComparableError(OptionError):
    """A way to score that has no such BatchNorm mode."""


BASELINES: Registry[Callable[[Subject], list[Contender]]] = Registry("baseline")
"""Makes the contenders of a name for a subject; raises ``NotComparableError`` where there are none."""


@contextmanager
def all_cores(n_cores: int) -> Iterator[None]:
    """Let PyTorch use so many cores inside the block, and on a GPU full float32, as wsx does."""
    n_before = torch.get_num_threads()
    torch.set_num_threads(n_cores)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(n_before)
