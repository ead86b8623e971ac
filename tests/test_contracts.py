import itertools
import json

import numpy as np
import pytest
import torch
from own_spaces import DECISIONS, SMALL, ToyNet, breaks, isolated_registries, subject, toy_space
from torch import nn

from wsx.contracts import (
    CONTRACTS,
    DESCRIPTION,
    check_contract,
    check_space,
    cover,
    subject_of,
    training,
)
from wsx.contracts.cover import covering_archs
from wsx.contracts.norms import logits_in, norm_kinds
from wsx.errors import OptionError, UnknownNameError
from wsx.spaces import SPACES, ProductSpace
from wsx.supernets import supernet_of


@pytest.fixture(autouse=True)
def _isolated():
    with isolated_registries():
        yield


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
