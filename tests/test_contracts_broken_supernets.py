import pytest
import torch
from own_spaces import DECISIONS, SMALL, ToyNet, breaks, isolated_registries, subject
from torch.nn import functional as F

from wsx.contracts import (
    check_contract,
    functions,
    subject_of,
    training,
)
from wsx.exporters.graph import Node, node_kind
from wsx.exporters.weights import WeightFile
from wsx.spaces import Cost, ProductSpace
from wsx.supernets.slicing import shared_slice


@pytest.fixture(autouse=True)
def _isolated():
    with isolated_registries():
        yield


# Broken supernets ------------------------------------------------------------------------------------------


class ExportsOtherChannels(ToyNet):
    def features(self, x, arch):
        y = super().features(x, arch)
        return (
            y
            if isinstance(x, torch.Tensor)
            else y * torch.ones(y.shape[1]).index_fill_(0, torch.tensor([y.shape[1] - 1]), 0.5)
        )


class SlicesTheEndInExport(ToyNet):
    is_recorded = False

    def kernel(self, width, kernel):
        weight = super().kernel(width, kernel)
        return weight.flip(0) if self.is_recorded else weight

    def features(self, x, arch):
        self.is_recorded = not isinstance(x, torch.Tensor)
        try:
            return super().features(x, arch)
        finally:
            self.is_recorded = False


class CannotBeRecorded(ToyNet):
    def features(self, x, arch):
        return super().features(x.cumsum(1) if arch[0] else x, arch)


class RemembersTheLastArch(ToyNet):
    last_arch = None

    def forward(self, x, arch):
        before, self.last_arch = self.last_arch, arch
        return super().forward(x, before or arch)


class KeepsTheFirstKernel(ToyNet):
    first = None

    def kernel(self, width, kernel):
        self.first = self.first or kernel
        weight = super().kernel(width, kernel)
        return weight if self.first == kernel else weight * 0.5


class ReadsTheArchFromItself(ToyNet):
    def forward(self, x, arch):
        self.arch = arch
        y = self.features(x, arch)
        width = self.values(self.arch)["width"]
        y = F.pad(y, (0, 4 - y.shape[1])) * (torch.arange(4) < width)
        return F.linear(y, shared_slice(self.last.weight, ...), self.last.bias)


class CountsItsCalls(ToyNet):
    def __init__(self, n_classes, in_channels):
        super().__init__(n_classes, in_channels)
        self.register_buffer("n_calls", torch.zeros(()))

    def forward(self, x, arch):
        self.n_calls += 1
        return super().forward(x, arch)


class ForgetsTheActivation(ToyNet):
    def features(self, x, arch):
        return super().features(x, (*arch[:2], 0))


class IgnoresSlices(ToyNet):
    def kernel(self, width, kernel):
        rim = (3 - kernel) // 2
        return self.weight[:width, :, rim : 3 - rim, rim : 3 - rim]


class MasksInsteadOfSlicing(ToyNet):
    def features(self, x, arch):
        choice = self.values(arch)
        mask = torch.zeros_like(self.weight)
        mask[: choice["width"]] = 1.0
        y = F.conv2d(x, shared_slice(self.weight, ...) * mask, padding=1)
        return y.mean((2, 3))[:, : choice["width"]]


class Detaches(ToyNet):
    def kernel(self, width, kernel):
        return super().kernel(width, kernel).detach()


class FreezesOneLayer(ToyNet):
    def forward(self, x, arch):
        y = self.features(x, arch)
        if not self.training:
            return F.linear(
                y, shared_slice(self.last.weight, (..., slice(y.shape[1]))), self.last.bias
            )
        return F.linear(y, shared_slice(self.last.weight, (..., slice(y.shape[1]))))


class SharesOneUseOfTwo(ToyNet):
    def forward(self, x, arch):
        y = self.features(x, arch)
        last = self.last.weight
        first = F.linear(y[:, :1], shared_slice(last, (..., slice(1))), self.last.bias)
        return first + F.linear(y[:, 1:], last[:, 1 : y.shape[1]])


@pytest.mark.parametrize(
    ("net", "contract", "message"),
    [
        (ExportsOtherChannels, "extract", "extracted, it is off by"),
        (SlicesTheEndInExport, "extract", "extracted, it is off by"),
        (SlicesTheEndInExport, "onnx", "in ONNX Runtime it is off by"),
        (CannotBeRecorded, "extract", "ExportError: cannot record Tensor.cumsum"),
        (RemembersTheLastArch, "stateless", "it gives other logits"),
        (KeepsTheFirstKernel, "stateless", "after other archs it gives other logits"),
        (ReadsTheArchFromItself, "stateless", "it gives other logits while"),
        (CountsItsCalls, "stateless", "in evaluation mode changes net.n_calls"),
        (ForgetsTheActivation, "decisions", "changes no logit: activation (8 pairs of archs)"),
        (IgnoresSlices, "training", "elements of net.weight that the arch does not use"),
        (MasksInsteadOfSlicing, "training", "elements of net.weight that the arch does not use"),
        (Detaches, "training", "it uses net.weight detached"),
        (FreezesOneLayer, "training", "elements of net.last.bias that the arch uses"),
        (SharesOneUseOfTwo, "training", "elements of net.last.weight that the arch uses"),
    ],
)
def test_broken_supernets_are_seen(net, contract, message):
    found = breaks(contract, subject(net=net))
    assert message in found
    blames_one = contract not in ("decisions",) and "n_calls" not in message
    assert (", arch kernel=" in found) is blames_one


def test_a_broken_optimiser_step_is_seen(monkeypatch):
    which = subject()
    check_contract("training", which)
    monkeypatch.setattr(training, "untouched_outside_slices", lambda *_: isolated_registries())
    assert "that the arch does not use" in breaks("training", which)


def test_broken_emission_is_seen_in_each_mode(monkeypatch):
    which = subject()
    right = functions.emit_subnet

    def emit(graph, weights, *, statistics=None):
        if kind in {node.op for node in graph.nodes}:
            graph = type(graph)(tuple(_with_sigmoid(node) for node in graph.nodes))
        return right(graph, weights, statistics=statistics)

    monkeypatch.setattr(functions, "emit_subnet", emit)
    for kind in ("batch_norm", "batch_norm_batch", "batch_norm_calibrated"):
        mode = kind.removeprefix("batch_norm").strip("_") or "running"
        assert f"({mode})" in breaks("onnx", which)


def _with_sigmoid(node):
    if node.op != "tanh":
        return node
    kind = node_kind(
        "sigmoid", shape=node.shape, weights=node.weights, attributes=dict(node.attributes)
    )
    return Node(kind, node.inputs, node.digest)


def test_wrong_statistics_are_seen(monkeypatch):
    right = functions.split_statistics

    def split(graph, means, variances):
        return right(graph, means, variances * 1.01)

    monkeypatch.setattr(functions, "split_statistics", split)
    assert "(calibrated)" in breaks("onnx", subject())


class TooManyParams(ProductSpace):
    def cost(self, arch, macro):
        return Cost(1, 1)


class AlmostRightFlops(ProductSpace):
    def cost(self, arch, macro):
        right = ToyCosts(self.values(arch), macro)
        return Cost(right.params, right.flops + (arch == (1, 1, 1)))


class RightCosts(ProductSpace):
    def cost(self, arch, macro):
        right = ToyCosts(self.values(arch), macro)
        return Cost(right.params, right.flops)


class ToyCosts:
    def __init__(self, values, macro):
        width, kernel, n_classes = values["width"], values["kernel"] ** 2, macro["n_classes"]
        weights = kernel * width * macro["in_channels"]
        self.params = weights + 2 * width + (width + 1) * n_classes
        self.flops = weights * macro["image_size"] ** 2 + (width + 1) * n_classes


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (TooManyParams, "its params are said to be 1"),
        (AlmostRightFlops, "its flops are said to be"),
    ],
)
def test_wrong_costs_are_seen(space, message):
    check_contract("cost", subject(RightCosts("right", DECISIONS)))
    found = breaks("cost", subject(space("toy", DECISIONS)))
    assert message in found


def test_costs_that_are_never_exact_are_seen():
    class Vague(RightCosts):
        def is_cost_exact(self, arch):
            return False

    assert "is_cost_exact holds for none" in breaks("cost", subject(Vague("toy", DECISIONS)))


def test_parameters_that_extraction_takes_for_one_are_seen(monkeypatch):
    class TwoNorms(ToyNet):
        def __init__(self, n_classes, in_channels):
            super().__init__(n_classes, in_channels)
            self.second = type(self.norm)(4)

        def features(self, x, arch):
            choice = self.values(arch)
            kernel = self.kernel(choice["width"], choice["kernel"])
            x = self.norm(F.conv2d(x, kernel, padding=choice["kernel"] // 2))
            return self.second(getattr(torch, choice["activation"])(x)).mean((2, 3))

    check_contract("cost", subject(net=TwoNorms))
    right = WeightFile.add_derived
    monkeypatch.setattr(WeightFile, "add_derived", lambda self, array, owner: right(self, array))
    assert "extracted from a fresh supernet" in breaks("cost", subject_of("toy", SMALL, n_archs=8))


class Diverges(ToyNet):
    def forward(self, x, arch):
        return super().forward(x, arch) * (float("nan") if self.training else 1.0)


def test_a_loss_that_is_not_finite_is_seen():
    assert "the loss is nan" in breaks("training", subject(net=Diverges))


class FlopsWithoutBias(RightCosts):
    def cost(self, arch, macro):
        right = super().cost(arch, macro)
        return Cost(right.params, right.flops - macro["n_classes"])


def test_a_table_may_leave_biases_out():
    check_contract("cost", subject(FlopsWithoutBias("toy", DECISIONS)))
