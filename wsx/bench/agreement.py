"""Whether a way to score computes the same scores as wsx; what does not is no baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from wsx.bench.contenders import Contender
from wsx.bench.own import OwnPath
from wsx.bench.subject import Subject
from wsx.errors import WsxError
from wsx.evaluators.eager import EagerOracle
from wsx.evaluators.verify import RELATIVE_TOLERANCE
from wsx.exporters.batchnorm import BatchNormMode
from wsx.spaces import Arch


@dataclass(frozen=True)
class Agreement:
    """How counts compare with wsx's in the same BatchNorm mode.

    Attributes:
        n_archs: Archs compared.
        n_equal: Archs whose counts are equal.
        n_near_ties: Images by which the other counts differ, all of them near-ties.
    """

    n_archs: int
    n_equal: int
    n_near_ties: int

    def __str__(self) -> str:
        ties = f", {self.n_near_ties} near-ties" if self.n_near_ties else ""
        return f"{self.n_equal} of {self.n_archs}{ties}"


class Reference:
    """wsx's own counts of a subject, in every BatchNorm mode that is asked for.

    Args:
        subject: What is scored.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._counts: dict[tuple[BatchNormMode, int], dict[Arch, int]] = {}

    def learn(self, contender: Contender, counts: Mapping[Arch, int]) -> None:
        """Take over counts that wsx computed anyway.

        Raises:
            WsxError: They are not those of the last time.
        """
        known = self._counts.setdefault(_key(contender), {})
        for arch, n in counts.items():
            if known.setdefault(arch, n) != n:
                raise WsxError(f"{contender.name} counted {known[arch]} images of {arch}, then {n}")

    def check(self, contender: Contender, counts: Mapping[Arch, int]) -> Agreement:
        """Return how a contender's counts agree.

        Raises:
            WsxError: A count differs by more than the near-ties of its arch, in float32.
        """
        expected = self._expected(contender, list(counts))
        gaps = {a: abs(n - expected[a]) for a, n in counts.items() if n != expected[a]}
        if contender.precision == "float32":
            for arch, gap in gaps.items():
                n_ties = self._n_near_ties(contender, arch)
                if gap > n_ties:
                    raise WsxError(
                        f"baseline {contender.name} counts {counts[arch]} correct images of "
                        f"{self._subject.supernet.space.format(arch)}, wsx {expected[arch]} in BatchNorm mode "
                        f"{contender.mode}; {n_ties} are near-ties. One of the two is wrong: please report it"
                    )
        return Agreement(len(counts), len(counts) - len(gaps), sum(gaps.values()))

    def _expected(self, contender: Contender, archs: Sequence[Arch]) -> Mapping[Arch, int]:
        known = self._counts.setdefault(_key(contender), {})
        missing = [arch for arch in archs if arch not in known]
        if missing:
            subject = self._in_mode_of(contender)
            known.update(zip(missing, OwnPath(subject).score(missing), strict=True))
        return known

    def _in_mode_of(self, contender: Contender) -> Subject:
        # With nothing left open, nothing is measured to choose it.
        return replace(
            self._subject,
            mode=contender.mode,
            batch_size=contender.batch_size,
            n_workers=self._subject.n_cores,
        )

    def _n_near_ties(self, contender: Contender, arch: Arch) -> int:
        """Return the images whose two best logits are closer than the rounding of two computations."""
        subject = self._in_mode_of(contender)
        oracle = EagerOracle(subject.supernet, subject.mode, subject.calibration)
        oracle.prepare(arch)
        logits = oracle.logits(subject.images, arch, batch_size=contender.batch_size)
        best = np.sort(logits, axis=1)
        margin = 2 * RELATIVE_TOLERANCE * np.abs(logits).max()
        return int((best[:, -1] - best[:, -2] <= margin).sum())


def _key(contender: Contender) -> tuple[BatchNormMode, int]:
    # Batches decide counts in mode batch alone.
    return contender.mode, contender.batch_size if contender.mode.kind == "batch" else 0
