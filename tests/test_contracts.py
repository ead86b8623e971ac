import itertools
import json

import numpy as np
import pytest
import torch
from own_spaces import DECISIONS, SMALL, ToyNet, isolated_registries, toy_space
from torch import nn
from torch.nn import functional as F

from wsx.contracts import (
    CONTRACTS,
    DESCRIPTION,
    ContractError,
    check_contract,
    check_space,
    cover,
    functions,
    subject_of,
    training,
)
from wsx.contracts.cover import covering_archs
from wsx.contracts.norms import logits_in, norm_kinds
from wsx.errors import OptionError, UnknownNameError
from wsx.exporters.weights import WeightFile
from wsx.spaces import SPACES, Cost, ProductSpace
from wsx.supernets import supernet_of
from wsx.supernets.slicing import shared_slice


@pytest.fixture(autouse=True)
def _isolated():
    with isolated_registries():
        yield


def subject(space=None, net=ToyNet, n_archs=8, **options):
    space = space or toy_space()
    supernet_of(space)(net)
    return subject_of(space, SMALL | options, n_archs=n_archs)


def breaks(contract, which):
    with pytest.raises(ContractError) as caught:
        check_contract(contract, which)
    assert caught.value.contract == contract
    assert f"breaks the contract '{contract}'" in str(caught.value)
    return str(caught.value)


# What holds ------------------------------------------------------------------------------------------------


def test_a_right_space_keeps_every_contract():
    supernet_of(toy_space())(ToyNet)
    done = []
    report = check_space(
        "toy", supernet_options=SMALL, n_archs=6, on_contract=lambda *n: done.append(n)
    )
    assert list(report.passed) == list(CONTRACTS)
    assert done == [(i, len(CONTRACTS)) for i in range(1, len(CONTRACTS) + 1)]
    assert (report.space, report.n_archs, report.uncovered) == ("toy", 6, ())
    assert report.left_out == {}
    figures = json.loads(json.dumps(report.as_dict()))["passed"]
    assert 0 < figures["extract"]["largest relative difference"] < 1e-12
    assert set(figures["onnx"]["largest relative difference"]) == {"running", "batch", "calibrated"}
    assert figures["cost"]["archs"] >= 6


class NoNorm(ToyNet):
    def __init__(self, n_classes, in_channels):
        super().__init__(n_classes, in_channels)
        self.norm = nn.Identity()


class Untracked(ToyNet):
    def __init__(self, n_classes, in_channels):
        super().__init__(n_classes, in_channels)
        self.norm = type(self.norm)(4, track_running_stats=False)


@pytest.mark.parametrize(
    ("net", "kinds"), [(NoNorm, {"running"}), (Untracked, {"batch", "calibrated"})]
)
def test_modes_that_a_net_does_not_have_are_not_asked_of_it(net, kinds):
    which = subject(net=net)
    for contract in CONTRACTS:
        figures = check_contract(contract, which)
        if contract == "onnx":
            assert set(figures["largest relative difference"]) == kinds


def test_spaces_that_read_text_keep_the_contracts_of_their_description(monkeypatch):
    kind = type(subject().make())
    monkeypatch.setattr(kind, "reads_text", True)
    report = check_space("toy", supernet_options=SMALL, n_archs=4)
    assert set(report.passed) == set(DESCRIPTION)
    assert set(report.left_out) == set(CONTRACTS) - set(DESCRIPTION)


@pytest.mark.parametrize(
    ("space", "options", "error", "message"),
    [
        ("tou", {}, UnknownNameError, "no space named 'tou'"),
        ("toy", {"n_classs": 3}, UnknownNameError, "Did you mean n_classes"),
        ("toy", {"n_classes": 0}, OptionError, "n_classes is 0"),
        ("absent.py:SPACE", {}, OptionError, "there is no file absent.py"),
    ],
)
def test_wrong_use_is_no_broken_contract(space, options, error, message):
    supernet_of(toy_space())(ToyNet)
    with pytest.raises(error, match=message):
        check_space(space, supernet_options=options)
    with pytest.raises(OptionError, match="n_archs is 0"):
        check_space("toy", n_archs=0)
    with pytest.raises(UnknownNameError, match="Did you mean stateless"):
        check_contract("statless", subject_of("toy"))


# Which archs -----------------------------------------------------------------------------------------------


def test_chosen_archs_have_every_option_and_differ():
    rng = np.random.default_rng(0)
    for n in (1, 5, 12):
        archs = covering_archs(toy_space(), n, rng)
        assert len(set(archs)) == len(archs) == min(8, max(n, 2))
        for place, values in enumerate(DECISIONS.values()):
            assert {arch[place] for arch in archs} == set(range(len(values)))


class Rare(ProductSpace):
    """Option 1 of the first decision goes with one choice of the others only, which no draw hits."""

    n_archs = 4**10 + 1

    def is_valid(self, arch):
        return arch[0] == 0 or set(arch[1:]) == {3}

    def arch_at(self, index):
        return (1, *[3] * 10) if index == 4**10 else super().arch_at(index)


def rare():
    return Rare("rare", {"first": (0, 1)} | {f"d{i}": (0, 1, 2, 3) for i in range(10)})


def test_an_option_that_no_arch_has_is_left_out_and_named(monkeypatch):
    monkeypatch.setattr(cover, "MAX_DRAWN", 50)
    which = subject_of(rare(), n_archs=3)
    assert {arch[0] for arch in which.archs} == {0}
    assert which.uncovered == ("first=1",)


def test_an_option_that_no_arch_of_a_product_has_is_a_breach(monkeypatch):
    monkeypatch.setattr(cover, "MAX_DRAWN", 50)
    monkeypatch.setattr(Rare, "n_archs", 2 * 4**10)
    monkeypatch.setattr(Rare, "draw", lambda self, rng, measure: (0,) * 11)
    assert "no arch has '1' for 'first'" in breaks("text", subject_of(rare(), n_archs=3))


def test_an_option_that_draws_miss_is_put_in():
    class Seldom(Rare):
        def is_valid(self, arch):
            return arch[0] == 0 or arch[1] == 3

    space = Seldom("seldom", rare().options)
    archs = covering_archs(space, 3, np.random.default_rng(0))
    assert any(arch[0] == 1 for arch in archs)
    assert all(space.is_valid(arch) for arch in archs)


# Broken descriptions ---------------------------------------------------------------------------------------


class DropsADecision(ProductSpace):
    def format(self, arch):
        return super().format(arch).rpartition(",")[0]

    def parse(self, text):
        return super().parse(f"{text},{self.decisions[-1].name}={self.decisions[-1].options[0]}")


class AcceptsAnything(ProductSpace):
    def parse(self, text):
        try:
            return super().parse(text)
        except Exception:
            return (0,) * len(self.decisions)


class FailsOtherwise(ProductSpace):
    def parse(self, text):
        chosen = dict(part.split("=") for part in text.split(","))
        return super().parse(",".join(f"{name}={value}" for name, value in chosen.items()))


class Comments(ProductSpace):
    """Texts that a file of archs takes for remarks."""

    def format(self, arch):
        return f"#{super().format(arch)}"

    def parse(self, text):
        return super().parse(text.removeprefix("#"))


class SomeComments(Comments):
    def format(self, arch):
        return super().format(arch).removeprefix("#" if arch[0] else "")


class Blanks(ProductSpace):
    """Texts that end in blanks, which a file of archs does not keep."""

    def format(self, arch):
        return super().format((*arch[:-1], 0)) + " " * arch[-1]

    def parse(self, text):
        return (*super().parse(text.strip())[:-1], int(text.endswith(" ")))


class TwoLines(ProductSpace):
    def format(self, arch):
        return super().format(arch).replace(",", ",\n", 1)


class CountsTooFew(ProductSpace):
    n_archs = 7


class ForgetsAnArch(ProductSpace):
    def arch_at(self, index):
        return super().arch_at(max(index, 1))


class WrongIndex(ProductSpace):
    def index(self, arch):
        return super().index(arch) ^ 1


class RefusesNothing(ProductSpace):
    def check(self, arch):
        return tuple(int(option) for option in arch)


class OwnDice(ProductSpace):
    dice = np.random.default_rng(0)

    def draw(self, *, rng, measure):
        return super().draw(rng=self.dice, measure=measure)


class DrawsOutside(ProductSpace):
    @property
    def measures(self):
        return {"encodings": lambda: None, "first": lambda: [(0, 0, 0), (0, 0, 1)]}

    def draw(self, *, rng, measure):
        return super().draw(rng=rng, measure="encodings")


class ListsTwice(ProductSpace):
    @property
    def measures(self):
        return {"encodings": lambda: None, "twice": lambda: [(0, 0, 0), (0, 0, 0)]}


class Repeats(ProductSpace):
    def sample(self, n, *, rng, measure, has_repeats=False):
        return super().sample(n, rng=rng, measure=measure, has_repeats=True)


class OneWay(ProductSpace):
    def neighbours(self, arch):
        return [other for other in super().neighbours(arch) if other > arch]


class OwnNeighbour(ProductSpace):
    def neighbours(self, arch):
        return [*super().neighbours(arch), arch]


class MutatesTwice(ProductSpace):
    def mutate(self, arch, *, rng):
        return super().mutate(super().mutate(arch, rng=rng), rng=rng)


@pytest.mark.parametrize(
    ("space", "contract", "message"),
    [
        (DropsADecision, "text", "is read as"),
        (AcceptsAnything, "text", "the text '' is read as an arch"),
        (FailsOtherwise, "text", "fails with ValueError instead of ArchError"),
        (Comments, "text", "a file of archs with their texts is refused"),
        (SomeComments, "text", "a file of 8 archs is read as 4"),
        (Blanks, "text", "from a file of archs it comes back as"),
        (TwoLines, "text", "is not one plain line"),
        (CountsTooFew, "order", "n_archs is 7, and 8 combinations are valid"),
        (ForgetsAnArch, "order", "7 different archs are listed, and n_archs is 8"),
        (WrongIndex, "order", "index 0 gives it, its own index is 1"),
        (RefusesNothing, "order", "instead of ArchError|is accepted"),
        (OwnDice, "sampling", "gives other archs from the same seed"),
        (DrawsOutside, "sampling", "draws it and does not list it"),
        (ListsTwice, "sampling", "lists an arch twice"),
        (Repeats, "sampling", "different archs of 8 asked for"),
        (OneWay, "neighbours", "does not have it as a neighbour"),
        (OwnNeighbour, "neighbours", "twice, or itself"),
        (MutatesTwice, "neighbours", "which is no neighbour"),
    ],
)
def test_broken_descriptions_are_seen(space, contract, message):
    broken = subject(space("toy", DECISIONS))
    found = breaks(contract, broken)
    assert any(part in found for part in message.split("|")), found


def test_a_large_space_is_not_listed_and_its_wrong_index_is_seen():
    options = {f"d{i}": tuple(range(9)) for i in range(20)}
    assert check_contract("order", subject_of(ProductSpace("large", options)))["is listed"] is False
    assert "its own index" in breaks("order", subject_of(WrongIndex("large", options)))


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
            graph = type(graph)(tuple(_without_relu(node) for node in graph.nodes))
        return right(graph, weights, statistics=statistics)

    monkeypatch.setattr(functions, "emit_subnet", emit)
    for kind in ("batch_norm", "batch_norm_batch", "batch_norm_calibrated"):
        mode = kind.removeprefix("batch_norm").strip("_") or "running"
        assert f"({mode})" in breaks("onnx", which)


def _without_relu(node):
    if node.op == "tanh":
        node = type(node)("sigmoid", *(getattr(node, n) for n in node.__slots__[1:]))
    return node


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


# The parts themselves --------------------------------------------------------------------------------------


@torch.no_grad()
def test_norm_modes_by_hand_are_those_of_torch():
    net = subject().double
    inputs = [torch.randn(5, 2, 6, 6, dtype=torch.float64)]
    calibration = [torch.randn(9, 2, 6, 6, dtype=torch.float64)]
    arch = (1, 1, 0)
    assert norm_kinds(net, arch, inputs) == ["running", "batch", "calibrated"]
    running = logits_in("running", net, arch, inputs, calibration)
    torch.testing.assert_close(running, net(inputs[0], arch), rtol=0, atol=1e-12)
    averages = {n: t.clone() for n, t in net.net.norm.named_buffers()}
    batch = logits_in("batch", net, arch, inputs, calibration)
    net.net.norm.train()
    torch.testing.assert_close(batch, net(inputs[0], arch), rtol=0, atol=1e-12)
    # Momentum 1 sets the averages to those of the calibration images, the variance unbiased.
    net.net.norm.momentum = 1.0
    net(calibration[0], arch)
    net.net.norm.eval()
    net.net.norm.running_var *= 1 - 1 / (9 * 36)
    calibrated = logits_in("calibrated", net, arch, inputs, calibration)
    torch.testing.assert_close(calibrated, net(inputs[0], arch), rtol=0, atol=1e-12)
    assert not torch.equal(averages["running_mean"], net.net.norm.running_mean)
    for one, other in itertools.combinations((running, batch, calibrated), 2):
        assert (one - other).abs().max() > 1e-3


def test_used_elements_are_the_slices():
    net = subject().double
    live, read = training.UsedElements(net, torch.Generator().manual_seed(0))((0, 0, 1))
    expected = torch.zeros(4, 2, 3, 3, dtype=torch.bool)
    expected[:2, :, 1, 1] = True
    assert torch.equal(live["net.weight"], expected)
    assert live["net.norm.weight"].tolist() == [True, True, False, False]
    assert read["net.norm.running_var"].tolist() == [True, True, False, False]
    assert live["net.last.weight"].tolist() == [[True, True, False, False]] * 3
    assert bool(live["net.last.bias"].all())
    assert not hasattr(net.net.weight, "_wsx_reached")


def test_spaces_of_wsx_are_found_by_name():
    assert subject_of("nasbench201").space is SPACES["nasbench201"]


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
