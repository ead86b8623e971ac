"""Recording: run a supernet on a symbol and note every torch function that touches it.

A ``Symbol`` is no tensor; it answers torch's ``__torch_function__`` protocol. What touches parameters alone
(slicing shared kernels, say) runs eagerly on real tensors and arrives here as a weight. Python control flow
on the arch just runs. Nothing is patched, so threads record at once.
"""

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from wsx.errors import ExportError, WsxError
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.graph import BATCH, Graph, GraphBuilder, NodeKind, Shape, Step, node_kind
from wsx.exporters.operators import OPERATORS
from wsx.exporters.weights import WeightFile
from wsx.supernets.slicing import source_of

Recording = Callable[..., "Symbol"]
_PLAIN = frozenset({int, float, bool, str, type(None)})
FUNCTIONS: dict[Any, Recording] = {}
"""Torch functions that can be recorded, and how; filled by ``wsx.exporters.functions``."""


def weight_file(model: nn.Module) -> WeightFile:
    """Return the weights of a module, parameters and float buffers by name."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return WeightFile(
        {name: _array(tensor) for name, tensor in state.items() if tensor.is_floating_point()}
    )


def _array(tensor: torch.Tensor) -> np.ndarray:
    try:
        return tensor.detach().cpu().contiguous().numpy()
    except TypeError:
        # numpy lacks some of torch's types, such as bfloat16.
        raise ExportError(
            f"a weight is {tensor.dtype}; subnets are exported from float32"
        ) from None


class Recorder:
    """Records subnets of one module.

    Args:
        model: Called as ``model(x, *arguments)``; in evaluation mode.
        weights: Its weights; derived ones are added.
        input_shape: Shape of one image (channel, height, width).
        mode: What BatchNorm layers become; None keeps them as layers with whatever averages they have.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: WeightFile,
        input_shape: tuple[int, ...],
        mode: BatchNormMode | None = None,
    ) -> None:
        if model.training:
            raise ExportError("the supernet is in training mode; call eval() before recording")
        self.weights = weights
        self.mode = mode
        self.kinds: dict[Hashable, NodeKind] = {}
        self.fragments: dict[Hashable, Fragment] = {}
        self._model = model
        self._input_shape = input_shape
        named = [*model.named_parameters(), *model.named_buffers()]
        self.names = {id(tensor): name for name, tensor in named if name in weights}
        self._owners = {t.untyped_storage().data_ptr(): name for name, t in named}
        self._modules = {id(module): name for name, module in model.named_modules()}

    def record(self, *arguments: Any) -> Graph:
        """Return the graph of ``model(x, *arguments)``.

        Raises:
            ExportError: The module does with its input what has no emitter.
        """
        trace = Trace(self)
        x = trace.add("input", shape=(BATCH, *self._input_shape))
        # Slices of shared weights run for real; their gradients are nobody's business here.
        try:
            with torch.no_grad():
                output = self._model(x, *arguments)
        except WsxError:
            raise
        except Exception as error:
            # A user's module may raise anything; which subnet it was is known one level up.
            raise ExportError(
                f"the supernet failed while being recorded: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(output, Symbol):
            raise ExportError(
                f"the module returned {type(output).__name__}, not a value computed from its input"
            )
        return trace.builder.graph(output.position)

    def weight_name(self, tensor: torch.Tensor) -> str:
        """Return the name of a weight: a parameter's own, or one derived from its content."""
        name = self.names.get(id(tensor))
        if name is None:
            # Slices of two parameters may be equal and stay two: fresh norms would be one layer once extracted.
            whose = source_of(tensor).untyped_storage().data_ptr()
            owner = self._owners.get(whose, "")
            return self.weights.add_derived(_array(tensor), f"{owner}+{tensor.storage_offset()}")
        return name

    def module_name(self, frame: FrameType | None) -> str:
        """Return the name of the innermost module whose method is on the stack."""
        while frame is not None:
            owner = self._modules.get(id(frame.f_locals.get("self")))
            if owner is not None:
                return owner or type(self._model).__name__
            frame = frame.f_back
        return type(self._model).__name__


@dataclass(frozen=True)
class Fragment:
    """What a call of a pure block adds to a graph.

    Attributes:
        steps: Operands count the block's arguments first, then the nodes that it adds.
        output: Which of those is the value it returns.
        shape: That value's shape.
    """

    steps: list[Step]
    output: int
    shape: Shape


class Trace:
    """One recording under way."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.builder = GraphBuilder()
        self._added: list[tuple[NodeKind, list[int]]] = []

    def add(
        self,
        op: str,
        operands: Sequence["Symbol"] = (),
        *,
        shape: Shape | None = None,
        weights: Sequence[torch.Tensor | None] = (),
        **attributes: Any,
    ) -> "Symbol":
        name_of = self.recorder.weight_name
        names = [None if w is None else name_of(w) for w in weights]
        if shape is None:
            sizes: list[Shape] = [w.shape for w in weights if w is not None]
            try:
                shape = OPERATORS[op].shape([s.shape for s in operands], sizes, attributes)
            except (ValueError, IndexError) as error:
                self.refuse(f"{op}: {error}")
        if BATCH in shape[1:]:
            self.refuse(f"{op}, which moves the batch axis: its value would have the shape {shape}")
        kind = node_kind(op, shape=shape, weights=names, attributes=attributes)
        positions = self._positions(operands)
        self._added.append((kind, positions))
        return self._place(kind, positions)

    def _positions(self, symbols: Iterable["Symbol"]) -> list[int]:
        return [symbol.position if symbol.trace is self else self._stray() for symbol in symbols]

    def _stray(self) -> NoReturn:
        self.refuse("a value from outside a cell or pure block, which may read its arguments only")

    def _key(
        self, called: Recording | nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Hashable, list[int]]:
        """Return what decides the nodes that a call adds, None if that is not known, and its operands.

        Weights of the module count as who they are, symbols as their shapes.
        """
        key: list[Hashable] = [called, *kwargs]
        positions: list[int] = []
        is_known = True
        for value in (*args, *kwargs.values()) if kwargs else args:
            kind = type(value)
            if kind is Symbol:
                key.append(value.shape)
                positions.append(value.position if value.trace is self else self._stray())
            elif kind in _PLAIN or (kind is tuple and all(type(v) is int for v in value)):
                key.append(value)
            elif id(value) in self.recorder.names:
                key.append(id(value))
            else:
                is_known = False
        return tuple(key) if is_known else None, positions

    def _place(self, kind: NodeKind, operands: list[int]) -> "Symbol":
        return Symbol(self, self.builder.add(kind, operands), kind.shape)

    def call(
        self, name: str, record: Recording, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> "Symbol":
        key, operands = self._key(record, args, kwargs)
        kind = self.recorder.kinds.get(key)
        if kind is not None:
            return self._place(kind, operands)
        self._added.clear()
        symbol = self._record(name, record, args, kwargs)
        # Calls that add one node over their own operands add the same one whenever they come again.
        is_one_node = type(symbol) is Symbol and [read for _, read in self._added] == [operands]
        if key is not None and is_one_node:
            self.recorder.kinds[key] = self._added[0][0]
        return symbol

    def call_block(
        self,
        block: nn.Module,
        forward: Recording,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Return what a pure block makes of its arguments: run once, and what it added repeated thereafter."""
        key, positions = self._key(block, args, kwargs)
        fragment = self.recorder.fragments.get(key)
        if fragment is None:
            if key is None or not (fragment := self._learn(block, forward, args, kwargs)):
                return forward(block, *args, **kwargs)
            self.recorder.fragments[key] = fragment
        add = self.builder.add
        for kind, operands in fragment.steps:
            positions.append(add(kind, [positions[i] for i in operands]))
        return Symbol(self, positions[fragment.output], fragment.shape)

    def _learn(
        self,
        block: nn.Module,
        forward: Recording,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> "Fragment | None":
        # Each argument a node of its own: two that are equal in this recording need not be in the next.
        inner = Trace(self.recorder)

        def stand_in(value: Any) -> Any:
            if type(value) is not Symbol:
                return value
            return inner.add("argument", shape=value.shape, number=len(inner.builder.steps))

        args = [stand_in(value) for value in args]
        kwargs = {name: stand_in(value) for name, value in kwargs.items()}
        n_arguments = len(inner.builder.steps)
        output = forward(block, *args, **kwargs)
        if type(output) is not Symbol or output.trace is not inner:
            return None
        return Fragment(inner.builder.steps[n_arguments:], output.position, output.shape)

    def _record(
        self, name: str, record: Recording, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> "Symbol":
        try:
            return record(*args, **kwargs)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            self.refuse(f"{name} with these arguments: {error}")

    def refuse(self, what: str) -> NoReturn:
        module = self.recorder.module_name(sys._getframe(1))
        raise ExportError(f"cannot record {what}, in module {module}")


class Symbol:
    """The value of a node while a module runs on it; behaves as a float tensor where modules look."""

    __slots__ = ("position", "shape", "trace")

    def __init__(self, trace: Trace, position: int, shape: Shape) -> None:
        self.trace = trace
        self.position = position
        self.shape = shape

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> "Symbol":
        """Record a torch function that touches a symbol."""
        trace = next(_symbols(args, kwargs or {})).trace
        record = FUNCTIONS.get(func)
        if record is None:
            trace.refuse(unsupported(getattr(func, "__name__", repr(func))))
        return trace.call(getattr(func, "__name__", repr(func)), record, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        # Only what is neither defined here nor set by ``wsx.exporters.functions`` arrives here.
        if name.startswith("__"):
            raise AttributeError(name)
        self.trace.refuse(unsupported(f"Tensor.{name}"))

    def dim(self) -> int:
        """Return the number of axes."""
        return len(self.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def size(self, axis: int | None = None) -> Any:
        """Return the shape, or one size; the batch axis is -1."""
        return self.shape if axis is None else self.shape[axis]

    def contiguous(self, **_: Any) -> "Symbol":
        """Return the value; memory layout is no part of a graph."""
        return self

    def __bool__(self, *_: Any) -> bool:
        """Refuse to branch on values, which are not known while recording.

        Raises:
            ExportError: Always.
        """
        self.trace.refuse(
            "a branch on the values of a tensor: a subnet may depend on its arch only"
        )


# Without these a comparison would be one of identities, and silently false.
for _name in ("eq", "ne", "lt", "le", "gt", "ge", "float", "int"):
    setattr(Symbol, f"__{_name}__", Symbol.__bool__)


def unsupported(name: str) -> str:
    """Return the message for a function without an emitter, with what there is."""
    known = sorted({getattr(function, "__name__", "_") for function in FUNCTIONS})
    listed = ", ".join(name for name in known if not name.startswith("_"))
    return f"{name}, which has no emitter (supported: {listed})"


def _symbols(args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[Symbol]:
    for value in (*args, *kwargs.values()):
        if isinstance(value, Symbol):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _symbols(value, {})
