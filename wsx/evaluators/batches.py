"""Images on the device, cut into batches once and bound to every session."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from wsx.data import ImageSet
from wsx.errors import OptionError
from wsx.evaluators.devices import Device, import_onnxruntime
from wsx.exporters.emit import INPUT, LABELS, PADDING_LABEL, score_outputs


@dataclass(frozen=True)
class Batch:
    """One batch on the device."""

    images: Any
    labels: Any
    n_images: int


@dataclass(frozen=True)
class Tally:
    """What a subnet did on a set of images.

    Attributes:
        correct: Images whose first largest logit is the label's.
        loss_sum: Cross-entropy summed over images, nats.
        outcomes: bool (image,), True where correct.
    """

    correct: int
    loss_sum: float
    outcomes: np.ndarray


class _RunningTally:
    """A tally that grows batch by batch."""

    def __init__(self) -> None:
        self._correct, self._loss_sum = 0, 0.0
        self._outcomes: list[np.ndarray] = []

    def add(self, correct: int, loss_sum: float, outcomes: np.ndarray) -> None:
        self._correct += correct
        self._loss_sum += loss_sum
        self._outcomes.append(outcomes)

    def total(self) -> Tally:
        return Tally(self._correct, self._loss_sum, np.concatenate(self._outcomes))


class DeviceImages:
    """A set of images, resident on a device in batches of one shape.

    Args:
        images: What to score on.
        batch_size: Images per batch.
        device: Where they lie.
        pads: Fill the last batch up with copies of its first image, labelled as padding. Off where the batch's own
            statistics matter; the last batch is then smaller.
    """

    def __init__(self, images: ImageSet, batch_size: int, device: Device, *, pads: bool) -> None:
        if batch_size < 1:
            raise OptionError(f"batch size is {batch_size}; it must be at least 1")
        self.n_images = len(images)
        self.batches = [
            _batch(images, start, batch_size, device, pads=pads)
            for start in range(0, len(images), batch_size)
        ]

    def score(self, session: Any) -> Tally:
        """Return the tally of a session whose model has the scoring head."""
        return self._score(session, [""])[0]

    def score_merged(self, session: Any, n_subnets: int) -> list[Tally]:
        """Return the tallies of a session whose model has a scoring head for each of several subnets."""
        return self._score(session, [f".{number}" for number in range(n_subnets)])

    def _score(self, session: Any, suffixes: list[str]) -> list[Tally]:
        tallies = [_RunningTally() for _ in suffixes]
        names = [name for suffix in suffixes for name in score_outputs(suffix)]
        binding = session.io_binding()
        for batch in self.batches:
            binding.bind_ortvalue_input(INPUT, batch.images)
            binding.bind_ortvalue_input(LABELS, batch.labels)
            for name in names:
                binding.bind_output(name, "cpu")
            session.run_with_iobinding(binding)
            values = binding.copy_outputs_to_cpu()
            for number, tally in enumerate(tallies):
                correct, loss_sum, outcomes = values[3 * number : 3 * number + 3]
                tally.add(int(correct), float(loss_sum), outcomes[: batch.n_images].astype(bool))
        return [tally.total() for tally in tallies]

    def run(self, session: Any, outputs: list[str]) -> list[list[np.ndarray]]:
        """Return the named outputs of every batch, for models that read images alone."""
        binding = session.io_binding()
        rows = []
        for batch in self.batches:
            binding.bind_ortvalue_input(INPUT, batch.images)
            for name in outputs:
                binding.bind_output(name, "cpu")
            session.run_with_iobinding(binding)
            rows.append(binding.copy_outputs_to_cpu())
        return rows


def _batch(images: ImageSet, start: int, size: int, device: Device, *, pads: bool) -> Batch:
    x = images.floats(start, start + size)
    labels = images.labels[start : start + size]
    n_missing = size - len(x)
    if pads and n_missing:
        x = np.concatenate([x, np.repeat(x[:1], n_missing, axis=0)])
        labels = np.concatenate([labels, np.full(n_missing, PADDING_LABEL, dtype=np.int64)])
    value = import_onnxruntime().OrtValue.ortvalue_from_numpy
    return Batch(
        value(np.ascontiguousarray(x), device.kind, device.index),
        value(np.ascontiguousarray(labels, dtype=np.int64), device.kind, device.index),
        size - n_missing,
    )
