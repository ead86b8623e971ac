"""Text on the device, cut into streams and windows once; the hidden state is carried from window to window."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from wsx.data import TextSet
from wsx.data.text import cut_streams
from wsx.errors import OptionError
from wsx.evaluators.batches import Tally
from wsx.evaluators.devices import Device, import_onnxruntime
from wsx.exporters.emit import CORRECT, LABELS, LOSS_SUM, OUTCOMES
from wsx.exporters.text_model import HIDDEN, NEXT_HIDDEN, TOKENS

N_STREAMS = 10
"""Streams that a text is scored in unless told otherwise, as P1 does (arXiv 2010.08219). The first tokens of each
stream lack what came before them, so the number is part of the score."""
WINDOW = 35
"""Tokens per window. The state is carried on, so the number changes nothing but rounding."""


@dataclass(frozen=True)
class Window:
    """One window of all streams on the device."""

    tokens: Any
    labels: Any


class DeviceText:
    """A text, resident on a device in windows of one shape.

    Args:
        text: What to score on.
        n_streams: Streams that run side by side.
        hidden_size: Units of the subnets' hidden state.
        device: Where it lies.
    """

    def __init__(self, text: TextSet, n_streams: int, hidden_size: int, device: Device) -> None:
        if n_streams < 1:
            raise OptionError(f"batch size is {n_streams}; it must be at least 1")
        inputs, labels = cut_streams(text, n_streams, WINDOW)
        self._device = device
        self._is_real = labels != -1
        self.windows = [
            Window(
                self._value(inputs[:, start : start + WINDOW]),
                self._value(labels[:, start : start + WINDOW]),
            )
            for start in range(0, inputs.shape[1], WINDOW)
        ]
        self._hidden = self._value(np.zeros((n_streams, hidden_size), np.float32))

    def _value(self, array: np.ndarray) -> Any:
        value = import_onnxruntime().OrtValue.ortvalue_from_numpy
        return value(np.ascontiguousarray(array), self._device.kind, self._device.index)

    def score(self, session: Any) -> Tally:
        """Return the tally, token by token, of a session whose model has the scoring head."""
        correct, loss_sum = 0, 0.0
        outcomes = []
        hidden = self._hidden
        for window in self.windows:
            binding = session.io_binding()
            binding.bind_ortvalue_input(TOKENS, window.tokens)
            binding.bind_ortvalue_input(LABELS, window.labels)
            binding.bind_ortvalue_input(HIDDEN, hidden)
            for name in (CORRECT, LOSS_SUM, OUTCOMES):
                binding.bind_output(name, "cpu")
            binding.bind_output(NEXT_HIDDEN, self._device.kind)
            session.run_with_iobinding(binding)
            *counts, hidden = binding.get_outputs()
            n, loss, hits = (value.numpy() for value in counts)
            correct += int(n)
            loss_sum += float(loss)
            outcomes.append(hits.astype(bool))
        # Streams lie one after another in the text.
        return Tally(correct, loss_sum, np.concatenate(outcomes, axis=1)[self._is_real])
