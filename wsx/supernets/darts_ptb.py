"""The recurrent supernet of DARTS-PTB, in which all archs share all weights.

Cell and dropouts are those of P1 (arXiv 2010.08219) and DARTS (Liu et al., ICLR 2019): one matrix of twice the
width for the input stage, one per node whatever its predecessor and activation, no biases, an embedding tied
to the decoder.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from wsx.errors import OptionError
from wsx.spaces import Arch, Space
from wsx.spaces.darts_ptb import N_NODES, RELU, SIGMOID, TANH, nodes_of
from wsx.supernets._base import SUPERNETS
from wsx.supernets.recurrence import recurrence
from wsx.supernets.text import TextOptions, TextSupernet, locked_dropout

INITIAL_RANGE = 0.04
DROPOUTS = (
    "dropout_embedding",
    "dropout_input",
    "dropout_cell_input",
    "dropout_hidden",
    "dropout_output",
)


@dataclass(frozen=True)
class DartsPtbOptions(TextOptions):
    """Size of the model and its dropouts, shares in [0, 1).

    Attributes:
        dropout_embedding: Words whose embedding is dropped wherever they occur in a window.
        dropout_input: Units of the embeddings, the same ones throughout a window.
        dropout_cell_input: Units of the input as the cell sees it, likewise.
        dropout_hidden: Units of the states that matrices of the cell read, likewise.
        dropout_output: Units of the states that are decoded, likewise.
    """

    dropout_embedding: float = 0.1
    dropout_input: float = 0.2
    dropout_cell_input: float = 0.75
    dropout_hidden: float = 0.25
    dropout_output: float = 0.75

    def __post_init__(self) -> None:
        """Refuse sizes below one and shares outside [0, 1).

        Raises:
            OptionError: A value is out of range.
        """
        super().__post_init__()
        for name in DROPOUTS:
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must lie in [0, 1)")


@SUPERNETS.register("darts-ptb")
class DartsPtbSupernet(TextSupernet):
    """Embedding, recurrent cell, decoder tied to the embedding."""

    options_type = DartsPtbOptions
    options: DartsPtbOptions

    def __init__(self, space: Space, options: DartsPtbOptions) -> None:
        super().__init__(space, options)
        width = options.hidden_size
        self.embedding = nn.Parameter(torch.empty(options.n_tokens, width))
        self.decoder_bias = nn.Parameter(torch.empty(options.n_tokens))
        self.input_weight = nn.Parameter(torch.empty(2 * width, 2 * width))
        self.node_weights = nn.ParameterList(
            nn.Parameter(torch.empty(width, 2 * width)) for _ in range(N_NODES)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights uniformly from [-0.04, 0.04]; the decoder's bias is zero."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -INITIAL_RANGE, INITIAL_RANGE)
        nn.init.zeros_(self.decoder_bias)

    def states(
        self, tokens: torch.Tensor, arch: Arch, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the state after each token (stream, time, unit) and the last one (stream, unit)."""
        xs = F.embedding(tokens, self.embedding)
        cell = _Cell(self, arch)
        if self.training:
            shares = self.options
            kept = F.dropout(xs.new_ones(shares.n_tokens, 1), shares.dropout_embedding)
            xs = locked_dropout(
                xs * F.embedding(tokens, kept), shares.dropout_input, is_training=True
            )
            xs = locked_dropout(xs, shares.dropout_cell_input, is_training=True)
            cell.mask = F.dropout(torch.ones_like(hidden), shares.dropout_hidden)
        return recurrence(cell, xs, hidden)

    def decode(self, states: torch.Tensor) -> torch.Tensor:
        """Return logits (stream, time, token) of the token that follows each state."""
        share = self.options.dropout_output
        states = locked_dropout(states, share, is_training=self.training)
        return F.linear(states, self.embedding, self.decoder_bias)


class _Cell:
    """One step of an arch; ``mask`` (stream, unit) scales the states that matrices read."""

    def __init__(self, net: DartsPtbSupernet, arch: Arch) -> None:
        self.mask: torch.Tensor | None = None
        self._net = net
        self._nodes = nodes_of(arch)

    def __call__(self, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Return the mean of the node states, the next hidden state (stream, unit)."""
        both = torch.cat((x, self._masked(hidden)), 1)
        values = [_highway(hidden, torch.matmul(both, self._net.input_weight), TANH)]
        for weight, (activation, source) in zip(self._net.node_weights, self._nodes, strict=True):
            state = values[source]
            values.append(_highway(state, torch.matmul(self._masked(state), weight), activation))
        total = values[1]
        for value in values[2:]:
            total = total + value
        return total * (1 / N_NODES)

    def _masked(self, state: torch.Tensor) -> torch.Tensor:
        return state if self.mask is None else state * self.mask


def _highway(state: torch.Tensor, product: torch.Tensor, activation: int) -> torch.Tensor:
    """Return s + sigmoid(c) * (activation(v) - s), where the product is [c, v]."""
    gate, value = product.chunk(2, 1)
    if activation == TANH:
        value = torch.tanh(value)
    elif activation == RELU:
        value = torch.relu(value)
    elif activation == SIGMOID:
        value = torch.sigmoid(value)
    return state + torch.sigmoid(gate) * (value - state)
