"""What there is to compute: the multiply-adds of recorded subnets."""

from collections.abc import Sequence

from wsx.bench.subject import Subject
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.cost import graph_cost
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import Arch


class Work:
    """What the archs of a subject cost.

    Args:
        subject: What is scored.

    Attributes:
        multiply_adds: Of one image, by arch; dead branches cost nothing.
        n_functions: How many different functions the archs compute.
    """

    def __init__(self, subject: Subject) -> None:
        recorder = SubnetRecorder(subject.supernet, subject.mode)
        graphs = {arch: recorder.record(arch) for arch in subject.archs}
        self.multiply_adds = {a: graph_cost(g, recorder.weights).flops for a, g in graphs.items()}
        self.n_functions = len({graph.function_key for graph in graphs.values()})
        self._n_images = len(subject.images)

    def flops(self, archs: Sequence[Arch], mode: BatchNormMode) -> int:
        """Return the floating-point operations of scoring archs one by one, calibration included."""
        n_images = self._n_images + mode.n_images
        return 2 * n_images * sum(self.multiply_adds[arch] for arch in archs)

    def spread(self, n: int | None) -> list[Arch]:
        """Return so many archs, or all, at even distances in the order of what they cost.

        Their mean cost is near that of all, so that rates per arch can be compared. Those that cost most come
        first, so that contenders that score several at once are busy to the end.
        """
        archs = list(self.multiply_adds)
        if n is None or n >= len(archs):
            return archs
        order = sorted(archs, key=lambda arch: (self.multiply_adds[arch], arch))
        return [order[(2 * i + 1) * len(order) // (2 * n)] for i in reversed(range(n))]
