"""Recording text subnets, and running one alone: two inputs, two outputs, a cell recorded once."""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from wsx.errors import ExportError, WsxError
from wsx.exporters.functions import records
from wsx.exporters.graph import BATCH, Graph, node_kind
from wsx.exporters.operators import OPERATORS
from wsx.exporters.operators.recurrent import TIME, Body
from wsx.exporters.recorder import Recorder, Symbol, Trace
from wsx.exporters.text_model import HIDDEN, NEXT_HIDDEN, TOKENS
from wsx.exporters.weights import WeightFile
from wsx.spaces import Arch
from wsx.supernets.recurrence import Cell, recurrence
from wsx.supernets.text import TextSupernet


class TextRecorder(Recorder):
    """Records subnets of a text supernet: from tokens and a hidden state to logits and the next one.

    Args:
        supernet: In evaluation mode.
        weights: Its weights.
    """

    def __init__(self, supernet: TextSupernet, weights: WeightFile) -> None:
        super().__init__(supernet, weights, (TIME,))
        self._hidden_size = supernet.options.hidden_size

    def record(self, *arguments: Any) -> Graph:
        """Return the graph of ``supernet(tokens, arch, hidden)``.

        Raises:
            ExportError: The module does with its inputs what has no emitter.
        """
        trace = Trace(self)
        tokens = trace.add("input", shape=(BATCH, *self._input_shape), name=TOKENS)
        hidden = trace.add("input", shape=(BATCH, self._hidden_size), name=HIDDEN)
        try:
            with torch.no_grad():
                logits, after = self._model(tokens, *arguments, hidden)
        except WsxError:
            raise
        except Exception as error:
            raise ExportError(
                f"the supernet failed while being recorded: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(logits, Symbol) or not isinstance(after, Symbol):
            raise ExportError("the module's logits and hidden state do not depend on its input")
        outputs = trace.add("outputs", [logits, after], hidden=NEXT_HIDDEN)
        return trace.builder.graph(outputs.position)


@records(recurrence)
def _recurrence(cell: Cell, xs: Symbol, hidden: Symbol) -> Any:
    # A recording of its own: a cell stands for all steps, and so can read nothing of one of them.
    body = Trace(xs.trace.recorder)
    x = body.add("input", shape=(xs.shape[0], *xs.shape[2:]), name="x")
    state = body.add("input", shape=hidden.shape, name="hidden")
    output: Any = cell(x, state)  # type: ignore[arg-type]  # symbols stand for tensors
    if not isinstance(output, Symbol) or output.trace is not body:
        xs.trace.refuse("a cell whose output does not come from its own inputs")
    graph = body.builder.graph(output.position)
    if sum(node.op == "input" for node in graph.nodes) < 2:
        xs.trace.refuse("a cell that does not read its hidden state")
    states = _add_scan(xs, hidden, graph)
    return states, xs.trace.add("last", [states])


def _add_scan(xs: Symbol, hidden: Symbol, cell: Graph) -> Symbol:
    trace, attributes = xs.trace, {"body": Body(cell)}
    try:
        shape = OPERATORS["scan"].shape([xs.shape, hidden.shape], [], attributes)
    except ValueError as error:
        trace.refuse(str(error))
    # The weights of the cell are those of the node, by their names.
    kind = node_kind("scan", shape=shape, weights=cell.weight_names(), attributes=attributes)
    return Symbol(trace, trace.builder.add(kind, [xs.position, hidden.position]), shape)


@records(F.embedding)
def _embedding(
    tokens: Symbol,
    weight: torch.Tensor,
    padding_idx: int | None = None,
    max_norm: None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Symbol:
    if max_norm is not None:
        tokens.trace.refuse("embedding with max_norm")
    return tokens.trace.add("embedding", [tokens], weights=[weight])


class TextSubnet(nn.Module):
    """One arch of a text supernet as a module of its own: ``subnet(tokens, hidden)``."""

    def __init__(self, supernet: TextSupernet, arch: Arch) -> None:
        super().__init__()
        self.net = copy.deepcopy(supernet)
        self.arch = supernet.space.check(arch)

    def forward(
        self, tokens: torch.Tensor, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (stream, time, token) and the hidden state after the window."""
        logits, after = self.net(tokens, self.arch, hidden)
        return logits, after
