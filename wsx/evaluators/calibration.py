"""BatchNorm statistics of a subnet, measured on training images in ONNX Runtime.

Each layer's mean and biased variance over a batch, averaged over batches of equal size (P1's ``sanitize``,
arXiv 2010.08219; Once-for-All's re-calibration). Nothing is written into the supernet, so the order in which
subnets are scored cannot matter.
"""

import numpy as np

from wsx.data import ImageSet
from wsx.errors import DataError
from wsx.evaluators.batches import DeviceImages
from wsx.evaluators.blocks import target_of
from wsx.evaluators.devices import SessionFactory
from wsx.exporters.batchnorm import BatchNormMode, Statistics, split_statistics
from wsx.exporters.emit import MEANS, VARIANCES, emit_calibration
from wsx.exporters.graph import Graph
from wsx.exporters.weights import WeightFile


def calibration_images(train: ImageSet, mode: BatchNormMode) -> ImageSet:
    """Return the training images that a mode calibrates on: the first ones, whose order is fixed.

    Raises:
        DataError: There are fewer training images than the mode needs.
    """
    if mode.n_images > len(train):
        raise DataError(
            f"BatchNorm mode {mode} needs {mode.n_images} training images; {train.dataset} has "
            f"{len(train)}. Use a smaller one, such as calibrated:1x{len(train)}"
        )
    return train.take(mode.n_images)


class Calibrator:
    """Measures the statistics of calibrated graphs.

    Args:
        factory: Makes the sessions.
        weights: The weights that graphs refer to.
        images: From ``calibration_images``.
        mode: A calibrated mode.
    """

    def __init__(
        self, factory: SessionFactory, weights: WeightFile, images: ImageSet, mode: BatchNormMode
    ) -> None:
        self._factory = factory
        self._weights = weights
        self._images = DeviceImages(images, mode.batch_size, factory.device, pads=False)

    def __call__(self, graph: Graph) -> Statistics:
        """Return the statistics of every calibrated node of a graph."""
        target = target_of(self._factory.device, self._images.n_images)
        model = emit_calibration(graph, self._weights, target=target)
        session = self._factory.session(model.SerializeToString())
        rows = self._images.run(session, [MEANS, VARIANCES])
        means, variances = (_mean([row[i] for row in rows]) for i in range(2))
        return split_statistics(graph, means, variances)


def _mean(rows: list[np.ndarray]) -> np.ndarray:
    # In the weights' own precision, which PyTorch's layers insist on.
    return np.mean(rows, axis=0, dtype=np.float64).astype(rows[0].dtype)
