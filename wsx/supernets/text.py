"""What supernets that read text have in common: windows of tokens, a hidden state in and out."""

import abc
import dataclasses

import torch
from torch.nn import functional as F

from wsx.spaces import Arch
from wsx.supernets._base import Supernet, SupernetOptions

N_EXAMPLE_TOKENS = 5


@dataclasses.dataclass(frozen=True)
class TextOptions(SupernetOptions):
    """What every text supernet needs to know of its data, and its width.

    Attributes:
        n_tokens: Words of the vocabulary.
        hidden_size: Units of the hidden state.
    """

    n_tokens: int = 10_000
    hidden_size: int = 850

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one token, which has no axes."""
        return ()


class TextSupernet(Supernet):
    """Shared weights of a space of language models: ``supernet(tokens, arch, hidden)``."""

    reads_text = True
    options: TextOptions

    @abc.abstractmethod
    def states(
        self, tokens: torch.Tensor, arch: Arch, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the state after each token (stream, time, unit) and the last one (stream, unit).

        Args:
            tokens: int64, shape (stream, time).
            arch: The arch.
            hidden: State before the first token, shape (stream, unit).
        """

    @abc.abstractmethod
    def decode(self, states: torch.Tensor) -> torch.Tensor:
        """Return logits (stream, time, token) of the token that follows each state."""

    def forward(  # type: ignore[override]  # images have no hidden state
        self, tokens: torch.Tensor, arch: Arch, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (stream, time, token) and the hidden state after the window."""
        states, hidden = self.states(tokens, arch, hidden)
        return self.decode(states), hidden

    def example_inputs(self, n: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Return random tokens (stream, time) of n streams, and a random hidden state."""
        tokens = torch.randint(self.options.n_tokens, (n, N_EXAMPLE_TOKENS), generator=generator)
        return tokens, torch.randn(n, self.options.hidden_size, generator=generator)

    def initial_hidden(self, n_streams: int) -> torch.Tensor:
        """Return the hidden state before any token: zeros (stream, unit)."""
        weight = next(self.parameters())
        return weight.new_zeros(n_streams, self.options.hidden_size)


def locked_dropout(x: torch.Tensor, share: float, *, is_training: bool) -> torch.Tensor:
    """Return x (stream, time, unit) with units dropped for a whole window, stream by stream."""
    if not is_training or share == 0.0:
        return x
    return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), share)
