"""How each torch function becomes a node: the one list of what a module may do with its input.

A function here has the signature of the torch functions that it records, so torch's own arguments bind.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from wsx.errors import ExportError
from wsx.exporters.batchnorm import DEFAULT_MODE
from wsx.exporters.graph import BATCH
from wsx.exporters.recorder import FUNCTIONS, Recording, Symbol

Operand = Any
"""A symbol, a tensor of weights, or a number."""


def records(*functions: Any, methods: Sequence[str] = ()) -> Callable[[Recording], Recording]:
    """Return a decorator that makes a function the recording of torch functions and tensor methods."""

    def add(record: Recording) -> Recording:
        FUNCTIONS.update(dict.fromkeys(functions, record))
        for method in methods:
            setattr(Symbol, method, _method(method, record))
        return record

    return add


def _method(name: str, record: Recording) -> Recording:
    def method(symbol: Symbol, *args: Any, **kwargs: Any) -> Any:
        return symbol.trace.call(name, record, (symbol, *args), kwargs)

    return method


def _tuple(value: int | Sequence[int], n: int) -> tuple[int, ...]:
    return (value,) * n if isinstance(value, int) else tuple(value)


def _axes(symbol: Symbol, dim: int | Sequence[int] | None) -> tuple[int, ...]:
    n = symbol.dim()
    # To torch no axes are all axes.
    dims = (dim,) if isinstance(dim, int) else dim or range(n)
    axes = tuple(sorted(axis % n for axis in dims))
    if 0 in axes:
        symbol.trace.refuse("a reduction over the batch axis")
    return axes


@records(torch.conv1d, torch.conv2d, torch.conv3d)
def _conv(
    x: Symbol,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Symbol:
    n = weight.dim() - 2
    if isinstance(padding, str):
        x.trace.refuse(f"padding {padding!r}; give it as numbers")
    return x.trace.add(
        "conv",
        [x],
        weights=[weight, bias],
        stride=_tuple(stride, n),
        padding=_tuple(padding, n),
        dilation=_tuple(dilation, n),
        groups=groups,
    )


@records(F.linear)
def _linear(x: Symbol, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Symbol:
    return x.trace.add("linear", [x], weights=[weight, bias])


@records(F.batch_norm)
def _batch_norm(
    x: Symbol,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Symbol:
    mode = x.trace.recorder.mode
    weights = [weight, bias]
    if mode is None or mode.kind == "running":
        weights += [running_mean, running_var]
    if mode is not None and mode.kind == "running" and None in weights[2:]:
        raise ExportError(
            "BatchNorm mode 'running' needs tracked statistics, and this supernet was built with "
            f"tracks_statistics=False; use batch or {DEFAULT_MODE}"
        )
    op = "batch_norm" if mode is None else mode.operator
    facts = {"epsilon": float(eps), "momentum": float(momentum)}
    return x.trace.add(op, [x], shape=x.shape, weights=weights, **facts)


@records(F.avg_pool2d)
def _avg_pool(
    x: Symbol,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: None = None,
) -> Symbol:
    if divisor_override is not None:
        x.trace.refuse("avg_pool2d with divisor_override")
    return x.trace.add(
        "avg_pool",
        [x],
        **_window(kernel_size, stride, padding, ceil_mode),
        counts_padding=bool(count_include_pad),
    )


@records(F.max_pool2d)
def _max_pool(
    x: Symbol,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Symbol:
    if _tuple(dilation, 2) != (1, 1) or return_indices:
        x.trace.refuse("max_pool2d with dilation or indices")
    return x.trace.add("max_pool", [x], **_window(kernel_size, stride, padding, ceil_mode))


def _window(kernel_size: Any, stride: Any, padding: Any, ceil: bool) -> dict[str, Any]:
    kernel = _tuple(kernel_size, 2)
    stride = kernel if stride in (None, ()) else _tuple(stride, 2)
    return {"kernel": kernel, "stride": stride, "padding": _tuple(padding, 2), "ceil": bool(ceil)}


@records(F.adaptive_avg_pool2d)
def _adaptive_avg_pool(x: Symbol, output_size: Any) -> Symbol:
    target, sizes = _tuple(output_size, 2), x.shape[2:]
    if target == (1, 1):
        return x.trace.add("global_avg_pool", [x])
    if any(size % n for size, n in zip(sizes, target, strict=True)):
        x.trace.refuse(f"adaptive_avg_pool2d from {sizes} to {target}: sizes must divide")
    kernel = tuple(size // n for size, n in zip(sizes, target, strict=True))
    return _avg_pool(x, kernel)


@records(F.relu, torch.relu, methods=["relu"])
def _relu(x: Symbol, inplace: bool = False) -> Symbol:
    return x.trace.add("relu", [x])


def _register_unary(op: str, *functions: Any, methods: Sequence[str] = ()) -> None:
    @records(*functions, methods=methods)
    def _unary(x: Symbol, inplace: bool = False) -> Symbol:
        return x.trace.add(op, [x])


for _op, _functions in {
    "sigmoid": (torch.sigmoid,),
    "tanh": (torch.tanh,),
    "exp": (torch.exp,),
    "log": (torch.log,),
    "sqrt": (torch.sqrt,),
    "abs": (torch.abs,),
    "erf": (torch.erf,),
    "silu": (F.silu,),
    "hardswish": (F.hardswish,),
    "hardsigmoid": (F.hardsigmoid,),
}.items():
    _register_unary(_op, *_functions, methods=[_op])
_register_unary("neg", torch.neg, methods=["neg", "__neg__"])


@records(F.relu6)
def _relu6(x: Symbol, inplace: bool = False) -> Symbol:
    return _clamp(x, 0.0, 6.0)


@records(F.hardtanh)
def _hardtanh(
    x: Symbol, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Symbol:
    return _clamp(x, min_val, max_val)


@records(torch.clamp, methods=["clamp"])
def _clamp(x: Symbol, min: float | None = None, max: float | None = None) -> Symbol:
    low = float("-inf") if min is None else float(min)
    return x.trace.add("clip", [x], low=low, high=float("inf") if max is None else float(max))


@records(F.leaky_relu)
def _leaky_relu(x: Symbol, negative_slope: float = 0.01, inplace: bool = False) -> Symbol:
    return x.trace.add("leaky_relu", [x], slope=float(negative_slope))


@records(F.elu)
def _elu(x: Symbol, alpha: float = 1.0, inplace: bool = False) -> Symbol:
    return x.trace.add("elu", [x], alpha=float(alpha))


@records(F.gelu)
def _gelu(x: Symbol, approximate: str = "none") -> Symbol:
    if approximate != "none":
        x.trace.refuse(f"gelu with approximate={approximate!r}")
    return x.trace.add("gelu", [x])


@records(F.softmax, torch.softmax, methods=["softmax"])
def _softmax(x: Symbol, dim: int, _stacklevel: int = 3, dtype: None = None) -> Symbol:
    return x.trace.add("softmax", [x], axis=_axes(x, dim)[0])


@records(F.log_softmax, torch.log_softmax, methods=["log_softmax"])
def _log_softmax(x: Symbol, dim: int, _stacklevel: int = 3, dtype: None = None) -> Symbol:
    return x.trace.add("log_softmax", [x], axis=_axes(x, dim)[0])


@records(F.dropout, F.dropout2d)
def _dropout(x: Symbol, p: float = 0.5, training: bool = True, inplace: bool = False) -> Symbol:
    return x.trace.add("dropout", [x], p=float(p))


def _symbol(like: Symbol, value: Operand) -> Symbol:
    if isinstance(value, Symbol):
        return value
    if isinstance(value, torch.Tensor):
        if not value.is_floating_point():
            # As torch promotes it when it meets floats.
            value = value.to(torch.get_default_dtype())
        return like.trace.add("weight", weights=[value])
    return like.trace.add("scalar", value=float(value))


def _register_binary(op: str, *functions: Any, method: str) -> None:
    @records(*functions, methods=[op, f"__{method}__", f"__i{method}__"])
    def _binary(a: Operand, b: Operand) -> Symbol:
        like = a if isinstance(a, Symbol) else b
        return like.trace.add(op, [_symbol(like, a), _symbol(like, b)])

    @records(methods=[f"__r{method}__"])
    def _reversed(b: Operand, a: Operand) -> Symbol:
        return _binary(a, b)


# An operator with a tensor on its left arrives as the tensor's method, a power as its magic one.
_register_binary("add", torch.add, torch.Tensor.add, method="add")
_register_binary("sub", torch.sub, torch.Tensor.sub, method="sub")
_register_binary("mul", torch.mul, torch.Tensor.mul, method="mul")
_register_binary("div", torch.div, torch.Tensor.div, method="truediv")
_register_binary("pow", torch.pow, torch.Tensor.pow, torch.Tensor.__pow__, method="pow")


@records(torch.matmul, torch.Tensor.matmul, methods=["matmul", "__matmul__"])
def _matmul(a: Operand, b: Operand) -> Symbol:
    like = a if isinstance(a, Symbol) else b
    return like.trace.add("matmul", [_symbol(like, a), _symbol(like, b)])


@records(torch.mean, methods=["mean"])
def _mean(x: Symbol, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Symbol:
    return x.trace.add("mean", [x], axes=_axes(x, dim), keeps_axes=bool(keepdim))


@records(torch.sum, methods=["sum"])
def _sum(x: Symbol, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Symbol:
    return x.trace.add("sum", [x], axes=_axes(x, dim), keeps_axes=bool(keepdim))


@records(torch.flatten, methods=["flatten"])
def _flatten(x: Symbol, start_dim: int = 0, end_dim: int = -1) -> Symbol:
    start, end = start_dim % x.dim(), end_dim % x.dim()
    if start == 0:
        x.trace.refuse("flatten from the batch axis; use flatten(1)")
    n = 1
    for size in x.shape[start : end + 1]:
        n *= size
    return x.trace.add("reshape", [x], sizes=(*x.shape[:start], n, *x.shape[end + 1 :]))


@records(torch.reshape, methods=["reshape", "view"])
def _reshape(x: Symbol, *shape: Any) -> Symbol:
    sizes = list(shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)
    if not sizes or sizes[0] != BATCH:
        x.trace.refuse(f"reshape to {tuple(sizes)}: the first axis must stay the batch's")
    n = 1
    for size in x.shape[1:]:
        n *= size
    known = 1
    for size in sizes[1:]:
        known *= size if size != -1 else 1
    sizes = [BATCH, *(n // known if size == -1 else size for size in sizes[1:])]
    total = 1
    for size in sizes[1:]:
        total *= size
    if total != n:
        x.trace.refuse(f"reshape from {x.shape} to {tuple(shape)}: sizes differ")
    return x.trace.add("reshape", [x], sizes=tuple(sizes))


@records(torch.cat, torch.concat)
def _cat(tensors: Sequence[Operand], dim: int = 0) -> Symbol:
    like = next(t for t in tensors if isinstance(t, Symbol))
    return like.trace.add("cat", [_symbol(like, t) for t in tensors], axis=_axes(like, dim)[0])


@records(torch.permute, methods=["permute"])
def _permute(x: Symbol, *dims: Any) -> Symbol:
    axes = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
    return x.trace.add("permute", [x], axes=tuple(axis % x.dim() for axis in axes))


@records(torch.transpose, methods=["transpose"])
def _transpose(x: Symbol, dim0: int, dim1: int) -> Symbol:
    axes = list(range(x.dim()))
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return _permute(x, axes)


@records(methods=["__getitem__"])
def _getitem(x: Symbol, index: Any) -> Symbol:
    for axis, part in enumerate(index if isinstance(index, tuple) else (index,)):
        if not isinstance(part, slice):
            x.trace.refuse(f"an index {part!r}; slices are supported")
        if part == slice(None):
            continue
        if axis == 0:
            x.trace.refuse("a slice of the batch axis")
        start, stop, step = part.indices(x.shape[axis])
        x = x.trace.add("slice", [x], axis=axis, start=start, stop=stop, step=step)
    return x


@records(torch.chunk, methods=["chunk"])
def _chunk(x: Symbol, chunks: int, dim: int = 0) -> Any:
    return _split(x, -(-x.shape[dim] // chunks), dim)


@records(torch.split, methods=["split"])
def _split(x: Symbol, split_size_or_sections: Any, dim: int = 0) -> Any:
    axis = _axes(x, dim)[0]
    if isinstance(split_size_or_sections, int):
        starts = range(0, x.shape[axis], split_size_or_sections)
        bounds = [(start, start + split_size_or_sections) for start in starts]
    else:
        ends = list(itertools.accumulate(split_size_or_sections))
        bounds = list(zip([0, *ends], ends, strict=False))
    return tuple(_getitem(x, (*(slice(None),) * axis, slice(*bound))) for bound in bounds)


@records(F.pad)
def _pad(
    x: Symbol, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Symbol:
    if mode != "constant" or min(pad) < 0:
        x.trace.refuse(f"pad {tuple(pad)} in mode {mode!r}; constant widths >= 0 are supported")
    before, after = [0] * x.dim(), [0] * x.dim()
    for i in range(len(pad) // 2):
        before[-1 - i], after[-1 - i] = pad[2 * i], pad[2 * i + 1]
    if before[0] or after[0]:
        x.trace.refuse("a pad of the batch axis")
    return x.trace.add(
        "pad", [x], before=tuple(before), after=tuple(after), value=float(value or 0.0)
    )
