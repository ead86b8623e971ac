"""What a kind of node becomes is learnt once and repeated: the bytes must be those of writing it every time."""

import numpy as np
import onnx
import pytest

from wsx.exporters import emission, emit
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.emit import emit_calibration, emit_subnet
from wsx.exporters.operators import OPERATORS
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES
from wsx.supernets import build_supernet

SMALL = {
    "nasbench201": {"channels": 4, "cells": 1},
    "nasbench101": {"channels": 4, "cells_per_stack": 1},
    "darts": {"channels": 4, "cells": 3},
    "proxylessnas": {"width_percent": 25, "image_size": 32},
}


def written(recorder, graphs):
    calibrated = recorder.mode.kind == "calibrated"
    return [
        (emit_calibration if calibrated else emit_subnet)(graph, recorder.weights)
        for graph in graphs
    ]


@pytest.mark.parametrize("mode", ["running", "batch", "calibrated:1x4"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in ("darts", "proxylessnas")))
        for name in SMALL
    ],
)
def test_repeated_nodes_are_the_ones_written_anew(name, mode, monkeypatch):
    net = build_supernet(name, SMALL[name], seed=0).eval()
    recorder = SubnetRecorder(net, BatchNormMode.parse(mode))
    archs = SPACES[name].sample(5, rng=np.random.default_rng(2), measure="encodings")
    graphs = [recorder.record(arch) for arch in archs]
    written(recorder, graphs[:2])
    learnt = [template for template in recorder.weights.emitted.values() if template is not None]
    assert len(learnt) > 10
    repeated = written(recorder, graphs)
    monkeypatch.setattr(
        emit,
        "emit_node",
        lambda emission, node, operands: OPERATORS[node.op].emit(emission, node, operands),
    )
    for found, right in zip(repeated, written(recorder, graphs), strict=True):
        assert list(found.graph.node) == list(right.graph.node)
        # A template brings all initializers of a node at once, so their order may differ.
        by_name = [{i.name: i for i in model.graph.initializer} for model in (found, right)]
        assert by_name[0] == by_name[1]


def test_graphs_with_more_values_than_names_of_one_length(make_supernet, monkeypatch):
    recorder = SubnetRecorder(make_supernet(), BatchNormMode("running"))
    graph = recorder.record((3, 3, 3, 3, 3, 3))
    right = emit_subnet(graph, recorder.weights)
    monkeypatch.setattr(emission, "VALUE_NAMES", emission.VALUE_NAMES[:5])
    model = emit_subnet(graph, recorder.weights)
    renamed = {
        new: old
        for node, same in zip(model.graph.node, right.graph.node, strict=True)
        for new, old in zip(node.output, same.output, strict=True)
    }
    assert len(set(renamed.values())) == len(renamed) > 5
    assert list(renamed)[:6] == ["v0000", "v0001", "v0002", "v0003", "v0004", "v5"]
    for node, same in zip(model.graph.node, right.graph.node, strict=True):
        assert [renamed.get(name, name) for name in node.input] == list(same.input)
        assert (node.op_type, node.attribute) == (same.op_type, same.attribute)


def test_a_node_may_be_an_initializer(make_supernet, tmp_path):
    recorder = SubnetRecorder(make_supernet(), BatchNormMode("running"))
    nowhere = recorder.record((0, 0, 0, 0, 0, 0))
    models = [emit_subnet(nowhere, recorder.weights) for _ in range(2)]
    assert [node.op for node in nowhere.nodes if not node.inputs] == ["input", "scalar"]
    assert models[0] == models[1]
    recorder.weights.write(tmp_path)
    onnx.save_model(models[0], tmp_path / "subnet.onnx")
    onnx.checker.check_model(tmp_path / "subnet.onnx")


def test_nodes_that_depend_on_where_they_stand_are_not_repeated(make_supernet):
    recorder = SubnetRecorder(make_supernet(), BatchNormMode("batch"))
    model = emit_subnet(recorder.record((3, 3, 3, 3, 3, 3)), recorder.weights)
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    # ONNX Runtime writes over the incoming averages, so no two nodes may read the same.
    incoming = [tuple(node.input[3:]) for node in norms]
    assert len(norms) > 5
    assert len(set(incoming)) == len(norms)


def test_adopted_weights_forget_what_was_written_of_the_old_places(make_supernet):
    recorder = SubnetRecorder(make_supernet(), BatchNormMode("running"))
    emit_subnet(recorder.record((1, 1, 1, 1, 1, 1)), recorder.weights)
    assert recorder.weights.emitted
    stored = SubnetRecorder(make_supernet(), BatchNormMode("running")).weights
    recorder.weights.adopt(stored)
    assert not recorder.weights.emitted
