"""The oracle for text, and the equality gate: subnets run by PyTorch, window by window."""

import copy
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from wsx.data import TextSet
from wsx.data.text import cut_streams
from wsx.evaluators.batches import Tally
from wsx.evaluators.devices import SessionFactory
from wsx.evaluators.text import N_STREAMS, WINDOW
from wsx.evaluators.verify import Agreement, compare
from wsx.exporters.text_model import HIDDEN, TOKENS
from wsx.exporters.text_recorder import TextSubnet
from wsx.spaces import Arch
from wsx.supernets.text import TextSupernet


class TextOracle:
    """Runs subnets of a text supernet in PyTorch, one after another.

    Args:
        supernet: Copied; stays as it is.
    """

    def __init__(self, supernet: TextSupernet) -> None:
        self.model = copy.deepcopy(supernet).eval()

    def score(self, images: TextSet, arch: Arch, *, batch_size: int) -> tuple[Tally, float, float]:
        """Return a subnet's tally on a text in so many streams, and the seconds to calibrate (none) and to run."""
        start_s = time.perf_counter()
        inputs, labels = cut_streams(images, batch_size, WINDOW)
        loss_sum, outcomes = 0.0, []
        for logits, targets in self._windows(inputs, labels, arch):
            loss = F.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum"
            )
            loss_sum += float(loss)
            outcomes.append((logits.argmax(2) == targets).numpy())
        hits = np.concatenate(outcomes, axis=1)[labels != -1]
        return Tally(int(hits.sum()), loss_sum, hits), 0.0, time.perf_counter() - start_s

    def _windows(
        self, inputs: np.ndarray, labels: np.ndarray, arch: Arch
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        hidden = self.model.initial_hidden(len(inputs))
        with torch.inference_mode():
            for start in range(0, inputs.shape[1], WINDOW):
                part = slice(start, start + WINDOW)
                logits, hidden = self.model(torch.from_numpy(inputs[:, part]), arch, hidden)
                yield logits, torch.from_numpy(labels[:, part])


class TextGate:
    """Compares a subnet as the supernet, as a module of its own and as ONNX, on the beginning of a text.

    Args:
        supernet: The supernet, in evaluation mode.
        factory: Makes sessions.
        text: What to compare on, as one window.
    """

    def __init__(self, supernet: TextSupernet, factory: SessionFactory, text: TextSet) -> None:
        self._supernet = supernet
        self._factory = factory
        n_streams = min(N_STREAMS, len(text))
        inputs, _ = cut_streams(text.take(min(len(text), n_streams * WINDOW)), n_streams, 1)
        self._tokens = inputs

    def check(self, arch: Arch, model: bytes) -> Agreement:
        """Return how a model that was exported from an arch agrees with the other two paths."""
        tokens = torch.from_numpy(self._tokens)
        hidden = self._supernet.initial_hidden(len(tokens))
        with torch.inference_mode():
            eager, _ = self._supernet(tokens, arch, hidden)
            extracted, _ = TextSubnet(self._supernet, arch)(tokens, hidden)
        session: Any = self._factory.session(model)
        exported = session.run(["logits"], {TOKENS: self._tokens, HIDDEN: hidden.numpy()})[0]
        paths = [eager.numpy(), extracted.numpy(), exported]
        text = self._supernet.space.format(arch)
        return compare(text, [path.reshape(-1, path.shape[-1]) for path in paths])
