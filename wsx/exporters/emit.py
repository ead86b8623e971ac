"""From a recorded graph to ONNX: the subnet, its calibration graph, and the scoring head.

Opset 17 and IR 9, for which both the CPU and the CUDA provider have kernels of every operator used.
"""

from collections.abc import Mapping, Sequence

import onnx
from onnx import TensorProto, helper

from wsx.errors import ExportError
from wsx.exporters.batchnorm import Statistics, calibrated_nodes
from wsx.exporters.blocked import BlockedWriter
from wsx.exporters.emission import PORTABLE, Emission, Target
from wsx.exporters.graph import BATCH, Graph, Shape
from wsx.exporters.merge import MergedGraph, calibration_part
from wsx.exporters.operators.norm import normalise, normalise_batch
from wsx.exporters.templates import emit_node
from wsx.exporters.text_model import emit_text_subnet, is_text
from wsx.exporters.weights import WeightFile

INPUT, LABELS, LOGITS = "images", "labels", "logits"
CORRECT, LOSS_SUM, OUTCOMES = "correct", "loss_sum", "outcomes"
MEANS, VARIANCES = "means", "variances"
PADDING_LABEL = -1


def emit_subnet(
    graph: Graph,
    weights: WeightFile,
    *,
    statistics: Statistics | None = None,
    metadata: Mapping[str, str] | None = None,
    target: Target = PORTABLE,
) -> onnx.ModelProto:
    """Return the model images -> logits of a graph in one of the BatchNorm modes.

    Args:
        graph: The subnet.
        weights: The shared weights; the model refers to them by offset.
        statistics: Of each calibrated node, for graphs in calibrated mode.
        metadata: Written into the model's properties.
        target: What the model may use of the provider that runs it; files that are kept must be portable.

    Raises:
        ExportError: A calibrated node has no statistics.
    """
    return _parsed(
        subnet_bytes(
            graph,
            weights,
            statistics=statistics,
            metadata=metadata,
            target=target,
        )
    )


def subnet_bytes(
    graph: Graph,
    weights: WeightFile,
    *,
    statistics: Statistics | None = None,
    metadata: Mapping[str, str] | None = None,
    target: Target = PORTABLE,
) -> bytes:
    """Return what ``emit_subnet`` returns, serialised; to write it so is faster.

    Raises:
        ExportError: A calibrated node has no statistics.
    """
    if is_text(graph):
        return emit_text_subnet(graph, weights, metadata or {}, output=LOGITS)
    emission = Emission(weights, target)
    (logits,) = _emit_nodes(emission, graph, statistics or {}, [len(graph.nodes) - 1])
    emission.named("Identity", [logits], [LOGITS])
    return _model(emission, graph, {LOGITS: graph.output.shape}, metadata or {})


def emit_merged(
    merged: MergedGraph,
    weights: WeightFile,
    *,
    statistics: Statistics | None = None,
    target: Target = PORTABLE,
) -> onnx.ModelProto:
    """Return the model images -> logits of every subnet, ``logits.0``, ``logits.1`` and so on.

    Args:
        merged: The subnets.
        weights: The shared weights; the model refers to them by offset.
        statistics: Of each calibrated node, for graphs in calibrated mode.
        target: What the model may use of the provider that runs it; files that are kept must be portable.

    Raises:
        ExportError: A calibrated node has no statistics.
    """
    emission = Emission(weights, target)
    values = _emit_nodes(emission, merged.graph, statistics or {}, merged.outputs)
    shapes = {}
    for number, (position, value) in enumerate(zip(merged.outputs, values, strict=True)):
        name = f"{LOGITS}.{number}"
        emission.named("Identity", [value], [name])
        shapes[name] = merged.graph.nodes[position].shape
    return _parsed(_model(emission, merged.graph, shapes, {}))


def emit_calibration(
    graph: Graph, weights: WeightFile, *, target: Target = PORTABLE
) -> onnx.ModelProto:
    """Return the model images -> means, variances of all calibrated nodes in a row.

    Every BatchNorm node normalises with the statistics of its batch, as in training.

    Raises:
        ExportError: The graph has no BatchNorm nodes to calibrate.
    """
    nodes = calibrated_nodes(graph)
    if not nodes:
        raise ExportError("the subnet has no BatchNorm layers to calibrate; use --bn running")
    emission = Emission(weights, target)
    part = calibration_part(graph)
    if target.block_size:
        writer = BlockedWriter(emission, part, INPUT)
        rows = (writer.means, writer.variances)
    else:
        rows = _emit_calibration_nodes(emission, part)
    n_channels = sum(node.shape[1] for node in nodes)
    for output, parts in zip((MEANS, VARIANCES), rows, strict=True):
        emission.named("Concat", parts, [output], axis=0)
    shapes: dict[str, Shape] = {MEANS: (n_channels,), VARIANCES: (n_channels,)}
    return _parsed(_model(emission, graph, shapes, {}))


def attach_scoring_head(model: onnx.ModelProto) -> None:
    """Turn a model images -> logits into one that scores: images, labels -> correct, loss_sum, outcomes.

    ``correct`` (int64) and ``loss_sum`` (float32, nats) are of the batch, ``outcomes`` (image,) is uint8:
    1 where the first largest logit is the label's. A label of -1 marks padding, which counts nowhere.
    Labels and outcomes of text are (stream, time), and its hidden state stays an output.
    A merged model gets a head for every subnet, ``correct.0`` and so on.

    Raises:
        ExportError: The model does not say how many classes it has.
    """
    graph = model.graph
    logits = [v for v in graph.output if v.name == LOGITS or v.name.startswith(f"{LOGITS}.")]
    if not logits:
        raise ExportError(f"the model has no output named {LOGITS}")
    # What follows the logits, such as the hidden state of text, stays.
    del graph.output[: len(logits)]
    first, *middle, _ = logits[0].type.tensor_type.shape.dim
    sizes = [first.dim_param, *(dim.dim_param for dim in middle)]
    axis = len(middle) + 1
    graph.input.append(helper.make_tensor_value_info(LABELS, TensorProto.INT64, sizes))
    one = helper.make_tensor("score.one", TensorProto.INT64, [1], [axis])
    zero = helper.make_tensor("score.zero", TensorProto.INT64, [], [0])
    graph.initializer.extend([one, zero])
    for value in logits:
        if value.type.tensor_type.shape.dim[-1].dim_value < 1:
            raise ExportError("the model's output names no number of classes; wsx exports name it")
        _attach_head(graph, value.name.removeprefix(LOGITS), sizes, axis)


def _attach_head(graph: onnx.GraphProto, suffix: str, sizes: list[str], axis: int) -> None:
    logits, own = LOGITS + suffix, f"score{suffix}"
    correct, loss_sum, outcomes = score_outputs(suffix)
    graph.node.extend(
        [
            helper.make_node("ArgMax", [logits], [f"{own}.top"], axis=axis, keepdims=0),
            helper.make_node("Equal", [f"{own}.top", LABELS], [f"{own}.hit"]),
            helper.make_node("Cast", [f"{own}.hit"], [outcomes], to=TensorProto.UINT8),
            helper.make_node("Cast", [f"{own}.hit"], [f"{own}.count"], to=TensorProto.INT64),
            helper.make_node("ReduceSum", [f"{own}.count"], [correct], keepdims=0),
            helper.make_node("LogSoftmax", [logits], [f"{own}.log"], axis=axis),
            helper.make_node("Unsqueeze", [LABELS, "score.one"], [f"{own}.column"]),
            helper.make_node(
                "GatherElements", [f"{own}.log", f"{own}.column"], [f"{own}.own"], axis=axis
            ),
            helper.make_node("Squeeze", [f"{own}.own", "score.one"], [f"{own}.row"]),
            helper.make_node("Less", [LABELS, "score.zero"], [f"{own}.pad"]),
            helper.make_node("Not", [f"{own}.pad"], [f"{own}.real"]),
            helper.make_node("Cast", [f"{own}.real"], [f"{own}.mask"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{own}.row", f"{own}.mask"], [f"{own}.kept"]),
            helper.make_node("ReduceSum", [f"{own}.kept"], [f"{own}.sum"], keepdims=0),
            helper.make_node("Neg", [f"{own}.sum"], [loss_sum]),
        ]
    )
    graph.output.extend(
        [
            helper.make_tensor_value_info(correct, TensorProto.INT64, []),
            helper.make_tensor_value_info(loss_sum, TensorProto.FLOAT, []),
            helper.make_tensor_value_info(outcomes, TensorProto.UINT8, sizes),
        ]
    )


def score_outputs(suffix: str = "") -> tuple[str, str, str]:
    """Return the names of the three outputs of a scoring head."""
    return CORRECT + suffix, LOSS_SUM + suffix, OUTCOMES + suffix


def _emit_nodes(
    emission: Emission, graph: Graph, statistics: Statistics, outputs: Sequence[int]
) -> list[str]:
    """Write a graph and return the names of some of its values."""
    if emission.target.block_size and any(n.op == "batch_norm_batch" for n in graph.nodes):
        writer = BlockedWriter(emission, graph, INPUT)
        return [writer.value(position) for position in outputs]
    names: list[str] = []
    for node in graph.nodes:
        operands = [names[i] for i in node.inputs]
        if node.op == "input":
            names.append(INPUT)
        elif node.op == "batch_norm_calibrated":
            if node.digest not in statistics:
                raise ExportError(
                    "a calibrated BatchNorm node has no statistics; calibrate the graph"
                )
            names.append(normalise(emission, node, operands[0], statistics[node.digest]))
        else:
            names.append(emit_node(emission, node, operands))
    return [names[position] for position in outputs]


def _emit_calibration_nodes(emission: Emission, graph: Graph) -> tuple[list[str], list[str]]:
    """Write a graph whose norms measure, and return the names of their means and variances."""
    means: list[str] = []
    variances: list[str] = []
    names: list[str] = []
    for node in graph.nodes:
        operands = [names[i] for i in node.inputs]
        if node.op == "batch_norm_calibrated":
            value, mean, variance = normalise_batch(emission, node, operands[0])
            means.append(mean)
            variances.append(variance)
        else:
            value = INPUT if node.op == "input" else emit_node(emission, node, operands)
        names.append(value)
    return means, variances


def _model(
    emission: Emission, graph: Graph, outputs: Mapping[str, Shape], metadata: Mapping[str, str]
) -> bytes:
    values = [_value_info(name, shape) for name, shape in outputs.items()]
    return emission.model([_value_info(INPUT, graph.input_shape)], values, metadata)


def _parsed(model: bytes) -> onnx.ModelProto:
    return onnx.load_model_from_string(model)


def _value_info(name: str, shape: Shape) -> onnx.ValueInfoProto:
    sizes = ["batch" if n == BATCH else n for n in shape]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
