"""One checkpoint's subnets as graphs: the recorder of a supernet in one BatchNorm mode."""

from wsx.exporters import functions  # noqa: F401  (fills the table of what can be recorded)
from wsx.exporters.batchnorm import BatchNormMode, with_batch_norm
from wsx.exporters.graph import Graph
from wsx.exporters.recorder import Recorder, weight_file
from wsx.spaces import Arch
from wsx.supernets import Supernet


class SubnetRecorder:
    """Records the subnets of a supernet; may be used from several threads at once.

    Args:
        supernet: In evaluation mode; must not change while the recorder is in use.
        mode: BatchNorm mode of the graphs.
    """

    def __init__(self, supernet: Supernet, mode: BatchNormMode) -> None:
        self.space = supernet.space
        self.mode = mode
        self.macro = supernet.macro()
        self.weights = weight_file(supernet)
        options = supernet.options
        shape = (options.in_channels, options.image_size, options.image_size)
        self._recorder = Recorder(supernet, self.weights, shape)

    def record(self, arch: Arch) -> Graph:
        """Return the graph of a subnet.

        Raises:
            ArchError: The arch lies outside the space.
            ExportError: The supernet does what has no emitter, or tracks no statistics in running mode.
        """
        return with_batch_norm(self._recorder.record(self.space.check(arch)), self.mode)
