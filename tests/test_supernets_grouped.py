import numpy as np
import pytest
import torch
from sharing_nets import (
    ALL,
    CELL64,
    MACROS,
    SHARINGS,
    build,
    groups_of,
    images,
    saved,
)

from wsx.contracts import ContractError, check_contract
from wsx.contracts._base import Subject
from wsx.errors import ArchError, CheckpointError
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES
from wsx.supernets import build_supernet
from wsx.supernets.build import pinned_sharing
from wsx.supernets.checkpoint import load_supernet, load_tensors
from wsx.supernets.grouped import GroupedSupernet


def few_archs(net):
    """Archs of which two share a member and one does not: what options do is tested with the spaces."""
    measure = next(iter(net.space.measures))
    drawn = net.space.sample(9, rng=np.random.default_rng(2), measure=measure)
    if not hasattr(net, "grouping"):
        return drawn[:3]
    one, other, *_ = groups_of(net, drawn)
    return [one[0], other[0], one[1]]


QUICK = (
    "cell64-groups-onnx",
    "cell64-groups-training",
    "nasbench201-arch-onnx",
    "nasbench201-arch-training",
)


def cases():
    for space, sharing in SHARINGS:
        for contract in ("extract", "onnx", "stateless", "training", "cost"):
            name = f"{space}-{next(iter(sharing))}-{contract}"
            marks = [] if name in QUICK else [pytest.mark.slow]
            yield pytest.param(space, sharing, contract, marks=marks, id=name)


@pytest.mark.parametrize(("space", "sharing", "contract"), list(cases()))
def test_sharings_keep_the_contracts_of_supernets(space, sharing, contract):
    def make():
        return build_supernet(space, MACROS[space], seed=0, sharing=sharing)

    net = make()
    subject = Subject(net.space, make)
    subject.__dict__["archs"] = few_archs(net)
    check_contract(contract, subject)


class Leaking(GroupedSupernet):
    def forward(self, x, arch):
        # A gradient of zero still lets momentum and decay move another member.
        leak = 0.0 * self.members[(arch[0] + 1) % 4].classifier.bias
        y = super().forward(x, arch)
        return y + leak if isinstance(x, torch.Tensor) else y


@pytest.mark.slow
def test_the_contract_of_training_sees_members_that_are_mixed_up():
    def make():
        net = build_supernet("cell64", MACROS["cell64"], seed=0, sharing={"groups": "by:0->1"})
        net.__class__ = Leaking
        return net

    subject = Subject(CELL64, make)
    subject.__dict__["archs"] = [(0, 1, 2), (1, 1, 2)]
    with pytest.raises(ContractError, match=r"moves 3 elements of members\.1\.classifier\.bias"):
        check_contract("training", subject)


def test_an_arch_computes_what_its_own_member_does():
    net = build("cell64", {"groups": "random:8", "shared": "prefix:1"})
    x = images(net)
    for arch in ALL[::7]:
        member = net.members[net.grouping.of(arch)]
        assert torch.equal(net(x, arch), member(x, arch))
        for other in net.members:
            assert torch.equal(net(x, arch), other(x, arch)) is (other is member)
    assert net.macro() == build("cell64", {}).macro()


def test_functions_are_equal_within_groups_only():
    net = build("nasbench201", {"groups": "by:0->1"})
    recorder = SubnetRecorder(net, BatchNormMode("batch"))

    def key(text):
        return recorder.record(SPACES["nasbench201"].parse(text)).function_key

    # Edges 0->1 and 1->2 are dead ends here, and say only in which group an arch is.
    texts = [
        f"|{one}~0|+|none~0|{other}~1|+|nor_conv_3x3~0|none~1|none~2|"
        for one in ("none", "nor_conv_1x1")
        for other in ("none", "nor_conv_3x3")
    ]
    keys = [key(text) for text in texts]
    assert keys[0] == keys[1] != keys[2] == keys[3]
    everything = build("nasbench201", {"groups": "by:0->1", "shared": "not:none"})
    recorder = SubnetRecorder(everything, BatchNormMode("batch"))
    assert len({key(text) for text in texts}) == 1


@pytest.mark.slow
def test_shared_cells_are_recorded_once():
    def n_learnt(shared):
        net = build("cell64", {"groups": "consecutive:4", "shared": shared})
        recorder = SubnetRecorder(net, BatchNormMode("batch"))
        for arch in ALL:
            recorder.record(arch)
        return len(recorder._recorder.fragments)

    alone = n_learnt("not:none")
    assert n_learnt("prefix:1") < n_learnt("none")
    assert n_learnt("none") < 4 * alone


@pytest.mark.parametrize(("space", "sharing"), SHARINGS[:6:2] + SHARINGS[1:4:2])
def test_checkpoints_hold_each_tensor_once_and_read_back(tmp_path, space, sharing):
    sharing = pinned_sharing(sharing)
    net = build(space, sharing)
    path = saved(tmp_path / "a.safetensors", space, net, sharing=sharing)
    tensors, _ = load_tensors(path)
    stored = sum(
        t.numel() for n, t in tensors.items() if "running" not in n and "num_batches" not in n
    )
    assert stored == sum(p.numel() for p in net.parameters())
    back, _ = load_supernet(path)
    assert not back.training
    assert back.space.n_archs == net.space.n_archs
    x, rng = images(net), np.random.default_rng(0)
    for arch in net.space.sample(4, rng=rng, measure=next(iter(net.space.measures))):
        assert torch.equal(back(x, arch), net(x, arch))


def test_a_restricted_checkpoint_has_the_restricted_space(tmp_path):
    restriction = {"0->1": ["dil_conv"]}
    net = build("cell64", {}, restriction=restriction)
    assert net.space.n_archs == 16
    path = saved(tmp_path / "a.safetensors", "cell64", net, restriction=restriction)
    back, _ = load_supernet(path)
    assert set(back.space.enumerate()) == {arch for arch in ALL if arch[0] == 3}
    recorder = SubnetRecorder(back, BatchNormMode("batch"))
    with pytest.raises(ArchError, match="allows dil_conv"):
        recorder.record((0, 0, 0))
    # Groups are those of the archs that there are.
    both = build("cell64", {"groups": "consecutive:4"}, restriction=restriction)
    assert [len(group) for group in groups_of(both, both.space.enumerate())] == [4, 4, 4, 4]


@pytest.mark.parametrize(
    "facts",
    [
        {"sharing": {"groups": "random:3"}},
        {"sharing": {"groups": "random:2", "shared": "norms"}},
        {"sharing": {"groups": "list:/no/such/file@0123456789abcdef"}},
        {"sharing": {"copies": 10**9, "arch": "434"}},
        {"sharing": {"groups": "random:" + "9" * 9}},
        {"sharing": ["groups"]},
        {"sharing": 3},
        {"restriction": {"0->1": ["nonsense"]}},
        {"restriction": ["0->1"]},
        {"restriction": {"0->1": {"a": 1}}},
        {},
    ],
)
def test_headers_that_lie_are_refused(tmp_path, facts):
    net = build("cell64", {"groups": "random:2"})
    path = saved(tmp_path / "a.safetensors", "cell64", net, **facts)
    with pytest.raises(CheckpointError, match="does not hold a supernet of wsx"):
        load_supernet(path)


def test_states_with_missing_tensors_are_refused():
    net = build("cell64", {"groups": "random:2", "shared": "prefix:1"})
    state = net.state_dict()
    assert not any(name.startswith("members.1.stem") for name in state)
    del state["members.0.stem.0.weight"]
    with pytest.raises(RuntimeError, match=r"members\.0\.stem\.0\.weight"):
        net.load_state_dict(state)
