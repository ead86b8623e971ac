"""From a recorded graph to an ordinary PyTorch module that owns copies of just the weights it uses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from wsx.errors import ExportError
from wsx.exporters import functions  # noqa: F401  (fills the table of what can be recorded)
from wsx.exporters.batchnorm import Statistics
from wsx.exporters.graph import Graph, Node
from wsx.exporters.recorder import Recorder, weight_file
from wsx.exporters.weights import WeightFile
from wsx.spaces import Arch
from wsx.supernets import Supernet

Layer = Callable[[Node, WeightFile, Statistics], nn.Module]


def extract(supernet: Supernet, arch: Arch) -> fx.GraphModule:
    """Return a subnet as a module of its own.

    The module shares nothing with the supernet: it can be fine-tuned, initialised afresh with
    ``reset_parameters`` and trained alone, saved, or handed on. Its code is readable (``module.code``).
    It starts in evaluation mode and its BatchNorm layers hold copies of the supernet's averages.

    Args:
        supernet: Left as it is, its training mode included.
        arch: Which subnet.

    Raises:
        ExportError: The supernet does with its input what cannot be recorded.
        ArchError: The arch lies outside the space.
    """
    arch = supernet.space.check(arch)
    if supernet.reads_text:
        raise ExportError("subnets that read text are extracted as text_recorder.TextSubnet")
    was_training = {module: module.training for module in supernet.modules()}
    weights = weight_file(supernet)
    shape = supernet.options.input_shape
    try:
        graph = Recorder(supernet.eval(), weights, shape).record(arch)
    finally:
        for module, is_training in was_training.items():
            module.training = is_training
    return to_module(graph, weights)


def to_module(
    graph: Graph, weights: WeightFile, statistics: Statistics | None = None
) -> fx.GraphModule:
    """Return a recorded graph, in any BatchNorm mode, as a module with its own weights.

    Args:
        graph: The subnet.
        weights: The weights that it refers to.
        statistics: Of each calibrated node, for graphs in calibrated mode.
    """
    root = nn.Module()
    fx_graph = fx.Graph()
    values: list[fx.Node] = []
    for node in graph.nodes:
        operands = [values[i] for i in node.inputs]
        if node.op == "input":
            values.append(fx_graph.placeholder("images"))
        elif node.op == "weight":
            values.append(fx_graph.get_attr(_add_parameter(root, str(node.weights[0]), weights)))
        elif node.op in LAYERS:
            name = _add_layer(root, node, weights, statistics or {})
            values.append(fx_graph.call_module(name, tuple(operands)))
        else:
            function, arguments, keywords = _call(node, operands)
            values.append(fx_graph.call_function(function, arguments, keywords))
    fx_graph.output(values[-1])
    _tie(root)
    return fx.GraphModule(root, fx_graph, class_name="Subnet").eval()


def _tie(root: nn.Module) -> None:
    """Make a weight that several layers use one parameter, as it is in the supernet."""
    first: dict[str, nn.Parameter] = {}
    for layer in root.children():
        for name, parameter in layer.named_parameters(recurse=False):
            setattr(layer, name, first.setdefault(parameter.wsx_weight, parameter))  # type: ignore[attr-defined]


def _tensor(weights: WeightFile, name: str) -> torch.Tensor:
    return torch.from_numpy(np.array(weights.array(name)))


def _add_parameter(root: nn.Module, weight: str, weights: WeightFile) -> str:
    parameter = nn.Parameter(_tensor(weights, weight))
    return _add(root, _identifier(weight), (weight,), lambda: parameter)


def _add_layer(root: nn.Module, node: Node, weights: WeightFile, statistics: Statistics) -> str:
    """Add the layer of a node and return its name; nodes with the same weights share it."""
    own = next((name for name in node.weights if name is not None), node.digest)
    # Two nodes may use one weight with other attributes, such as another stride, or other statistics.
    tag = (node.op, node.attributes, node.weights, node.digest if node.digest in statistics else "")
    base = _identifier(own.rpartition(".")[0] or own)
    return _add(root, base, tag, lambda: LAYERS[node.op](node, weights, statistics))


def _add(root: nn.Module, base: str, tag: object, make: Callable[[], Any]) -> str:
    """Add a layer or parameter under a free name and return the name; equal tags are one object."""
    name, n = base, 1
    while True:
        taken = getattr(root, name, getattr(fx.GraphModule, name, None))
        if taken is None or getattr(taken, "wsx_tag", None) == tag:
            break
        n += 1
        name = f"{base}_{n}"
    if taken is None:
        entry = make()
        entry.wsx_tag = tag
        setattr(root, name, entry)
    return name


def _identifier(name: str) -> str:
    return "w_" + name.replace(".", "_") if name[0].isdigit() else name.replace(".", "_")


def _load(layer: nn.Module, node: Node, names: tuple[str, ...], weights: WeightFile) -> nn.Module:
    # Layers are made on the meta device: no time and no random numbers for values that are replaced.
    layer = layer.to_empty(device="cpu")
    for attribute, weight in zip(names, node.weights, strict=True):
        if weight is not None:
            tensor = _tensor(weights, weight)
            if not attribute.startswith("running_"):
                tensor = nn.Parameter(tensor)
                tensor.wsx_weight = weight  # type: ignore[attr-defined]
            setattr(layer, attribute, tensor)
    if hasattr(layer, "num_batches_tracked") and layer.num_batches_tracked is not None:
        layer.num_batches_tracked.zero_()  # type: ignore[operator]
    return layer


def _conv(node: Node, weights: WeightFile, statistics: Statistics) -> nn.Module:
    shape = weights[str(node.weights[0])].shape
    kinds: dict[int, Callable[..., nn.Module]] = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
    layer = kinds[len(shape)](
        shape[1] * node["groups"],
        shape[0],
        shape[2:],
        stride=node["stride"],
        padding=node["padding"],
        dilation=node["dilation"],
        groups=node["groups"],
        bias=node.weights[1] is not None,
        device="meta",
    )
    return _load(layer, node, ("weight", "bias"), weights)


def _linear(node: Node, weights: WeightFile, statistics: Statistics) -> nn.Module:
    n_out, n_in = weights[str(node.weights[0])].shape
    layer = nn.Linear(n_in, n_out, bias=node.weights[1] is not None, device="meta")
    return _load(layer, node, ("weight", "bias"), weights)


def _norm(node: Node, *, tracks_statistics: bool) -> nn.Module:
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    return kind[len(node.shape)](
        node.shape[1],
        eps=node["epsilon"],
        momentum=node["momentum"],
        affine=node.weights[0] is not None,
        track_running_stats=tracks_statistics,
        device="meta",
    )


def _batch_norm(node: Node, weights: WeightFile, statistics: Statistics) -> nn.Module:
    layer = _norm(node, tracks_statistics=node.weights[2] is not None)
    return _load(layer, node, ("weight", "bias", "running_mean", "running_var"), weights)


def _batch_norm_batch(node: Node, weights: WeightFile, statistics: Statistics) -> nn.Module:
    return _load(_norm(node, tracks_statistics=False), node, ("weight", "bias"), weights)


def _batch_norm_calibrated(node: Node, weights: WeightFile, statistics: Statistics) -> nn.Module:
    layer = _load(_norm(node, tracks_statistics=True), node, ("weight", "bias"), weights)
    for name, array in zip(("running_mean", "running_var"), statistics[node.digest], strict=True):
        setattr(layer, name, torch.from_numpy(np.array(array)))
    return layer


LAYERS: dict[str, Layer] = {
    "conv": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "batch_norm_batch": _batch_norm_batch,
    "batch_norm_calibrated": _batch_norm_calibrated,
    "dropout": lambda node, weights, statistics: nn.Dropout(node["p"]),
}

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(torch, name) for name in ("add", "sub", "mul", "div", "pow", "matmul")},
    **{name: getattr(torch, name) for name in ("sigmoid", "tanh", "exp", "log", "sqrt", "abs")},
    **{name: getattr(torch, name) for name in ("neg", "erf")},
    **{name: getattr(F, name) for name in ("relu", "silu", "hardswish", "hardsigmoid", "gelu")},
}


def _call(
    node: Node, operands: list[Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Return the torch function of a node with its positional and keyword arguments."""
    a = dict(node.attributes)
    if node.op in _FUNCTIONS:
        return _FUNCTIONS[node.op], tuple(operands), {}
    x = operands[0] if operands else None
    match node.op:
        case "scalar":
            return float, (a["value"],), {}
        case "clip":
            return torch.clamp, (x, a["low"], a["high"]), {}
        case "leaky_relu":
            return F.leaky_relu, (x, a["slope"]), {}
        case "elu":
            return F.elu, (x, a["alpha"]), {}
        case "softmax" | "log_softmax":
            return getattr(F, node.op), (x, a["axis"]), {}
        case "avg_pool":
            window = (x, a["kernel"], a["stride"], a["padding"], a["ceil"], a["counts_padding"])
            return F.avg_pool2d, window, {}
        case "max_pool":
            return F.max_pool2d, (x, a["kernel"], a["stride"], a["padding"], 1, a["ceil"]), {}
        case "global_avg_pool":
            return F.adaptive_avg_pool2d, (x, 1), {}
        case "mean" | "sum":
            return getattr(torch, node.op), (x, a["axes"], a["keeps_axes"]), {}
        case "reshape":
            return torch.reshape, (x, a["sizes"]), {}
        case "cat":
            return torch.cat, (operands, a["axis"]), {}
        case "slice":
            return _slice, (x, a["axis"], a["start"], a["stop"], a["step"]), {}
        case "permute":
            return torch.permute, (x, a["axes"]), {}
        case "pad":
            pairs = list(zip(a["before"], a["after"], strict=True))[::-1]
            widths = [width for pair in pairs for width in pair]
            return F.pad, (x, widths, "constant", a["value"]), {}
    raise KeyError(node.op)


def _slice(x: torch.Tensor, axis: int, start: int, stop: int, step: int) -> torch.Tensor:
    return x[(slice(None),) * axis + (slice(start, stop, step),)]
