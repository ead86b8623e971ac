"""One checkpoint's subnets as graphs: the recorder of a supernet in one BatchNorm mode."""

from wsx.exporters import functions  # noqa: F401  (fills the table of what can be recorded)
from wsx.errors import OptionError
from wsx.exporters.batchnorm import DEFAULT_MODE, BatchNormMode
from wsx.exporters.graph import Graph
from wsx.exporters.recorder import Recorder, weight_file
from wsx.exporters.text_recorder import TextRecorder
from wsx.spaces import Arch
from wsx.supernets import Supernet
from wsx.supernets.text import TextSupernet


class SubnetRecorder:
    """Records the subnets of a supernet; may be used from several threads at once.

    Args:
        supernet: In evaluation mode; must not change while the recorder is in use.
        mode: BatchNorm mode of the graphs.

    Raises:
        OptionError: The mode is ``none``, and the supernet has BatchNorm layers.
    """

    def __init__(self, supernet: Supernet, mode: BatchNormMode) -> None:
        if mode.kind == "none" and any(hasattr(m, "running_mean") for m in supernet.modules()):
            raise OptionError(
                "BatchNorm mode 'none' is for subnets without BatchNorm layers, and this supernet has some; "
                f"use batch or {DEFAULT_MODE}"
            )
        self.space = supernet.space
        self.mode = mode
        self.macro = supernet.macro()
        self.weights = weight_file(supernet)
        self._recorder = (
            TextRecorder(supernet, self.weights)
            if isinstance(supernet, TextSupernet)
            else Recorder(supernet, self.weights, supernet.options.input_shape, mode)
        )

    def record(self, arch: Arch) -> Graph:
        """Return the graph of a subnet.

        Raises:
            ArchError: The arch lies outside the space.
            ExportError: The supernet does what has no emitter, or tracks no statistics in running mode.
        """
        return self._recorder.record(self.space.check(arch))
