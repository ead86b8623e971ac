import copy

import numpy as np
import pytest
import torch
from own_spaces import isolated_registries
from sharing_nets import (
    MACROS,
    SIZES,
    build,
    images,
)
from torch import nn

from wsx.errors import ArchError, OptionError, UnknownNameError
from wsx.spaces import ProductSpace
from wsx.supernets import build_supernet, supernet_of
from wsx.supernets.parts import cells_in_order


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (
            "nasbench201",
            [
                ["stem"],
                ["stages.0.0"],
                ["stages.1.0", "reductions.0"],
                ["stages.2.0", "reductions.1"],
            ],
        ),
        ("cell64", [["stem"], ["cells.0"], ["cells.1"]]),
        ("darts", [["stem"], ["cells.0"], ["cells.1"], ["cells.2"]]),
        ("nasbench101-v4", [["stem"], ["stacks.0.0"], ["stacks.1.0"]]),
        ("nasbenchmacro", [["stem"], *([f"layers.{i}"] for i in range(8))]),
    ],
)
def test_cells_are_in_the_order_of_the_data(space, expected):
    net = build(space, {})
    assert cells_in_order(net) == expected
    # Cells run in this order, and nothing of a later one before an earlier one.
    seen = []
    for position, names in enumerate(expected):
        for name in names:
            module = net.get_submodule(name)
            module.register_forward_pre_hook(lambda *_, position=position: seen.append(position))
    archs = net.space.sample(
        1, rng=np.random.default_rng(0), measure=next(iter(net.space.measures))
    )
    net(images(net), archs[0])
    assert seen == sorted(seen)
    assert set(seen) == set(range(len(expected)))


def shared_names(net):
    """Names in the first member of tensors that all members have as one and the same object."""
    states = [{**dict(m.named_parameters()), **dict(m.named_buffers())} for m in net.members]
    return {n for n, t in states[0].items() if all(s[n] is t for s in states)}, set(states[0])


def first_cells(k):
    names = ("stem.", *(f"cells.{i}." for i in range(k)))
    return lambda name, module: name.startswith(names)


@pytest.mark.parametrize(
    ("shared", "is_expected"),
    [
        ("none", lambda name, module: False),
        ("prefix:0", first_cells(0)),
        ("prefix:1", first_cells(1)),
        ("prefix:2", first_cells(2)),
        ("convolutions", lambda name, module: isinstance(module, nn.Conv2d)),
        ("norms", lambda name, module: isinstance(module, nn.BatchNorm2d)),
        ("not:norms", lambda name, module: not isinstance(module, nn.BatchNorm2d)),
        (
            "prefix:0+convolutions",
            lambda name, module: name.startswith("stem.") or isinstance(module, nn.Conv2d),
        ),
        ("not:name:*edges.2*", lambda name, module: ".edges.2." not in name),
        ("not:none", lambda name, module: True),
    ],
)
def test_shared_parts_are_one_object_in_all_members(shared, is_expected):
    net = build("cell64", {"groups": "random:3", "shared": shared})
    found, names = shared_names(net)
    owners = {n: net.members[0].get_submodule(n.rpartition(".")[0]) for n in names}
    assert found == {name for name in names if is_expected(name, owners[name])}
    if shared.startswith("prefix"):
        # Whole modules, which recording then learns once.
        assert net.members[0].stem is net.members[2].stem


@pytest.mark.parametrize("convert", ["double", "deepcopy", "channels_last"])
def test_shared_parts_stay_shared(convert):
    net = build("cell64", {"groups": "random:3", "shared": "prefix:1"})
    before, _ = shared_names(net)
    if convert == "double":
        net = net.double()
    elif convert == "deepcopy":
        net = copy.deepcopy(net)
    else:
        net = net.to(memory_format=torch.channels_last)
    assert shared_names(net)[0] == before


def test_private_parts_start_alike_and_are_not_one():
    net = build_supernet("cell64", MACROS["cell64"], seed=4, sharing={"groups": "consecutive:2"})
    one, other = net.members
    # What all archs would have shared.
    alone = build_supernet("cell64", MACROS["cell64"], seed=4).state_dict()
    for member in (one, other):
        assert all(torch.equal(tensor, alone[name]) for name, tensor in member.state_dict().items())
    with torch.no_grad():
        one.stem[0].weight.zero_()
    assert torch.equal(other.stem[0].weight, alone["stem.0.weight"])


def test_a_net_of_ones_own_has_cells_if_it_names_them():
    class Net(nn.Module):
        def __init__(self, n_classes: int, in_channels: int) -> None:
            super().__init__()
            self.stem = nn.Conv2d(in_channels, 2, 1)
            self.scale = nn.Parameter(torch.ones(1))
            self.cells = nn.ModuleList(
                nn.ModuleList(nn.Conv2d(2, 2, k, padding=k // 2) for k in (1, 3)) for _ in "ab"
            )
            self.last = nn.Linear(2, n_classes)

        def forward(self, x, arch):
            x = self.stem(x) * self.scale
            for cell, option in zip(self.cells, arch, strict=True):
                x = torch.relu(cell[option](x))
            return self.last(x.mean((2, 3)))

    class Plain(Net):
        def __init__(self, n_classes: int, in_channels: int) -> None:
            super().__init__(n_classes, in_channels)
            self.first, self.stem = self.stem, nn.Identity()
            del self.stem

    with isolated_registries():
        supernet_of(ProductSpace("mine", {"a": (1, 3), "b": (1, 3)}))(Net)
        sharing = {"groups": "by:a", "shared": "prefix:1"}
        net = build_supernet("mine", SIZES, seed=0, sharing=sharing)
        assert shared_names(net)[0] == {
            n
            for n, _ in net.members[0].named_parameters()
            if n.startswith(("net.stem.", "net.cells.0."))
        }
        # A parameter of a module with private parts is shared by itself.
        sharing["shared"] = "not:name:*cells*"
        net = build_supernet("mine", SIZES, seed=0, sharing=sharing)
        assert net.members[0].net.scale is net.members[1].net.scale
        assert net.members[0].net.cells[0][0] is not net.members[1].net.cells[0][0]
        supernet_of(ProductSpace("plain", {"a": (1, 3), "b": (1, 3)}))(Plain)
        with pytest.raises(
            OptionError, match="Plain has no cells in order: its modules must be called stem"
        ):
            build_supernet("plain", SIZES, seed=0, sharing={"groups": "by:a", "shared": "prefix:1"})


@pytest.mark.parametrize(
    ("sharing", "error", "message"),
    [
        (
            {"groups": "random:2", "shared": "prefix:3"},
            OptionError,
            "prefix:3 is more than the 2 cells",
        ),
        ({"groups": "random:2", "shared": "prefix"}, OptionError, "'prefix' must read"),
        ({"groups": "random:2", "shared": "prefix:x"}, OptionError, "must read"),
        ({"groups": "random:2", "shared": "prefix:" + "9" * 5000}, OptionError, "must read"),
        ({"groups": "random:2", "shared": "name:"}, OptionError, "must read"),
        ({"groups": "random:2", "shared": "norms:2"}, OptionError, "must read"),
        ({"groups": "random:2", "shared": "norm"}, UnknownNameError, "Did you mean norms"),
        ({"groups": "random:2", "shared": ""}, UnknownNameError, "no shared part named ''"),
        ({"groups": "random:2", "share": "norms"}, UnknownNameError, "Did you mean shared"),
        ({"groups": 2}, OptionError, "groups is 2; it must be of type str"),
        ({"shared": "norms"}, OptionError, "groups and shared, or arch and copies; not shared"),
        ({"groups": "random:2", "copies": 2}, OptionError, "not copies, groups"),
        ({"copies": 2}, OptionError, "not copies"),
        ({"copies": True, "arch": "434"}, OptionError, "copies is True"),
        ({"copies": 65, "arch": "434"}, OptionError, "there may be 1 to 64 copies, not 65"),
        ({"copies": 0, "arch": "434"}, OptionError, "not 0"),
        ({"copies": 2, "arch": "435"}, ArchError, "'435' must be three digits"),
        ([], OptionError, None),
        ("random:3", OptionError, "must give values by name"),
    ],
)
def test_bad_sharings_are_refused(sharing, error, message):
    if sharing == []:
        assert type(build("cell64", sharing)).__name__ == "Cell64Supernet"
        return
    with pytest.raises(error, match=message) as caught:
        build("cell64", sharing)
    assert len(str(caught.value)) < 400


def test_kernels_that_are_shared_already_are_not_torn_apart():
    macro = {**MACROS["nasbench201"], "kernels": "centre"}
    sharing = {"groups": "random:2", "shared": "name:*nor_conv_1x1*"}
    with pytest.raises(OptionError, match="without the one whose kernel it uses"):
        build_supernet("nasbench201", macro, seed=0, sharing=sharing)
    for shared in ("convolutions", "norms", "prefix:1", "not:norms", "not:convolutions"):
        sharing["shared"] = shared
        net = build_supernet("nasbench201", macro, seed=0, sharing=sharing)
        for member in net.members:
            for edge in (e for stage in member.stages for cell in stage for e in cell.edges):
                (source,) = edge["nor_conv_1x1"][1]._source
                assert source is edge["nor_conv_3x3"][1]
