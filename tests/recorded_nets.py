"""Nets whose forward is a function that a test gives, and what recording them gives."""

from torch import nn

from wsx.exporters.recorder import Recorder, weight_file

SHAPE = (4, 6, 5)


class Net(nn.Module):
    def __init__(self, forward, **layers):
        super().__init__()
        self.function = forward
        for name, value in layers.items():
            setattr(self, name, value)

    def forward(self, x, *args):
        return self.function(self, x, *args)


def recorded(forward, *args, shape=SHAPE, **layers):
    model = Net(forward, **layers).eval()
    weights = weight_file(model)
    return Recorder(model, weights, shape).record(*args), weights


def ops(graph):
    return [node.op for node in graph.nodes]
