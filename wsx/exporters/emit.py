"""From a recorded graph to ONNX: the subnet, its calibration graph, and the scoring head.

Opset 17 and IR 9, for which both the CPU and the CUDA provider have kernels of every operator used.
"""

from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper

from wsx.errors import ExportError
from wsx.exporters.batchnorm import Statistics, calibrated_nodes
from wsx.exporters.emission import Emission
from wsx.exporters.graph import BATCH, Graph, Shape
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
    has_fused_norm: bool = True,
) -> onnx.ModelProto:
    """Return the model images -> logits of a graph in one of the BatchNorm modes.

    Args:
        graph: The subnet.
        weights: The shared weights; the model refers to them by offset.
        statistics: Of each calibrated node, for graphs in calibrated mode.
        metadata: Written into the model's properties.
        has_fused_norm: See ``Emission``.

    Raises:
        ExportError: A calibrated node has no statistics.
    """
    if is_text(graph):
        return emit_text_subnet(graph, weights, metadata or {}, output=LOGITS)
    emission = Emission(weights, has_fused_norm=has_fused_norm)
    names = _emit_nodes(emission, graph, statistics or {})
    emission.named("Identity", [names[-1]], [LOGITS])
    return _model(emission, graph, {LOGITS: graph.output.shape}, metadata or {})


def emit_calibration(
    graph: Graph, weights: WeightFile, *, has_fused_norm: bool = True
) -> onnx.ModelProto:
    """Return the model images -> means, variances of all calibrated nodes in a row.

    Every BatchNorm node normalises with the statistics of its batch, as in training.

    Raises:
        ExportError: The graph has no BatchNorm nodes to calibrate.
    """
    nodes = calibrated_nodes(graph)
    if not nodes:
        raise ExportError("the subnet has no BatchNorm layers to calibrate; use --bn running")
    emission = Emission(weights, has_fused_norm=has_fused_norm)
    rows: tuple[list[str], list[str]] = ([], [])
    names: list[str] = []
    last = max(i for i, node in enumerate(graph.nodes) if node.op == "batch_norm_calibrated")
    for node in graph.nodes[: last + 1]:
        operands = [names[i] for i in node.inputs]
        if node.op == "batch_norm_calibrated":
            value, mean, variance = normalise_batch(emission, node, operands[0])
            rows[0].append(mean)
            rows[1].append(variance)
        else:
            value = INPUT if node.op == "input" else emit_node(emission, node, operands)
        names.append(value)
    n_channels = sum(node.shape[1] for node in nodes)
    for output, parts in zip((MEANS, VARIANCES), rows, strict=True):
        emission.named("Concat", parts, [output], axis=0)
    return _model(emission, graph, {MEANS: (n_channels,), VARIANCES: (n_channels,)}, {})


def attach_scoring_head(model: onnx.ModelProto) -> None:
    """Turn a model images -> logits into one that scores: images, labels -> correct, loss_sum, outcomes.

    ``correct`` (int64) and ``loss_sum`` (float32, nats) are of the batch, ``outcomes`` (image,) is uint8:
    1 where the first largest logit is the label's. A label of -1 marks padding, which counts nowhere.
    Labels and outcomes of text are (stream, time), and its hidden state stays an output.
    """
    graph = model.graph
    _, *middle, classes = graph.output[0].type.tensor_type.shape.dim
    n_classes, axis = classes.dim_value, len(middle) + 1
    # What follows the logits, such as the hidden state of text, stays.
    del graph.output[0]
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    sizes = [batch, *(dim.dim_param for dim in middle)]
    graph.input.append(helper.make_tensor_value_info(LABELS, TensorProto.INT64, sizes))
    one = helper.make_tensor("score.one", TensorProto.INT64, [1], [axis])
    zero = helper.make_tensor("score.zero", TensorProto.INT64, [], [0])
    graph.initializer.extend([one, zero])
    graph.node.extend(
        [
            helper.make_node("ArgMax", [LOGITS], ["score.top"], axis=axis, keepdims=0),
            helper.make_node("Equal", ["score.top", LABELS], ["score.hit"]),
            helper.make_node("Cast", ["score.hit"], [OUTCOMES], to=TensorProto.UINT8),
            helper.make_node("Cast", ["score.hit"], ["score.count"], to=TensorProto.INT64),
            helper.make_node("ReduceSum", ["score.count"], [CORRECT], keepdims=0),
            helper.make_node("LogSoftmax", [LOGITS], ["score.log"], axis=axis),
            helper.make_node("Unsqueeze", [LABELS, "score.one"], ["score.column"]),
            helper.make_node(
                "GatherElements", ["score.log", "score.column"], ["score.own"], axis=axis
            ),
            helper.make_node("Squeeze", ["score.own", "score.one"], ["score.row"]),
            helper.make_node("Less", [LABELS, "score.zero"], ["score.pad"]),
            helper.make_node("Not", ["score.pad"], ["score.real"]),
            helper.make_node("Cast", ["score.real"], ["score.mask"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["score.row", "score.mask"], ["score.kept"]),
            helper.make_node("ReduceSum", ["score.kept"], ["score.sum"], keepdims=0),
            helper.make_node("Neg", ["score.sum"], [LOSS_SUM]),
        ]
    )
    graph.output.extend(
        [
            helper.make_tensor_value_info(CORRECT, TensorProto.INT64, []),
            helper.make_tensor_value_info(LOSS_SUM, TensorProto.FLOAT, []),
            helper.make_tensor_value_info(OUTCOMES, TensorProto.UINT8, sizes),
        ]
    )
    if n_classes < 1:
        raise ExportError("the model's output names no number of classes; wsx exports name it")


def _emit_nodes(emission: Emission, graph: Graph, statistics: Statistics) -> list[str]:
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
    return names


def _model(
    emission: Emission, graph: Graph, outputs: Mapping[str, Shape], metadata: Mapping[str, str]
) -> onnx.ModelProto:
    values = [_value_info(name, shape) for name, shape in outputs.items()]
    return emission.model([_value_info(INPUT, graph.input_shape)], values, metadata)


def _value_info(name: str, shape: Shape) -> onnx.ValueInfoProto:
    sizes = ["batch" if n == BATCH else n for n in shape]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
