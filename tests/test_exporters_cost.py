import torch
from torch import nn

from wsx.exporters import functions  # noqa: F401
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.cost import graph_cost, subnet_cost
from wsx.exporters.export import export_subnets
from wsx.exporters.recorder import Recorder, weight_file
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES, Cost
from wsx.supernets import build_supernet


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(6, 6, 3, groups=3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.scale = nn.Parameter(torch.ones(6, 1, 1))
        self.matrix = nn.Parameter(torch.ones(6, 5))
        self.unused = nn.Linear(100, 100)
        self.last = nn.Linear(5, 7)

    def forward(self, x):
        x = self.norm(self.grouped(self.conv(x))) * self.scale
        return self.last(torch.matmul(x.mean((2, 3)), self.matrix)).relu()


def cost_of(model, shape):
    weights = weight_file(model.eval())
    return graph_cost(Recorder(model, weights, shape).record(), weights)


def test_params_and_multiply_adds_by_hand():
    params = (6 * 4 * 9 + 6) + 6 * 2 * 9 + 2 * 6 + 6 + 30 + (35 + 7)
    # 9 pixels become 5 and then 3.
    flops = 25 * 6 * (4 * 9 + 1) + 9 * 6 * 2 * 9 + 6 * 5 + 7 * (5 + 1)
    assert cost_of(Everything(), (4, 9, 9)) == Cost(params, flops)


def test_a_weight_that_is_used_twice_is_one_weight_and_two_products():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1, bias=False)

        def forward(self, x):
            return self.conv(self.conv(x))

    assert cost_of(Twice(), (2, 3, 3)) == Cost(4, 2 * 9 * 4)


def test_what_reaches_no_output_costs_nothing():
    class DeadEnd(nn.Module):
        def __init__(self):
            super().__init__()
            self.dead, self.live = (nn.Conv2d(2, 2, 1, bias=False) for _ in range(2))

        def forward(self, x):
            self.dead(x)
            return self.live(x)

    assert cost_of(DeadEnd(), (2, 3, 3)) == Cost(4, 9 * 4)


def test_an_export_says_what_scoring_says_of_dead_edges(tmp_path):
    space = SPACES["nasbench201"]
    arch = space.parse("|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|")
    recorder = SubnetRecorder(
        build_supernet(space.name, {"channels": 2, "cells": 1}, seed=0).eval(),
        BatchNormMode("running"),
    )
    report = export_subnets(
        recorder, [arch], tmp_path / "subnets", facts={"checkpoint_sha256": "0"}
    )
    row, said = report.folder.rows[arch], subnet_cost(recorder, arch)
    assert (row.params, row.flops) == (said.params, said.flops)
    # The 3x3 convolution leads nowhere: the public table counts it, the file does not hold it.
    assert said.params > graph_cost(recorder.record(arch), recorder.weights).params
