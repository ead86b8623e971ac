import copy
import itertools
import re

import numpy as np
import pytest
import torch
from heuristic_nets import images, make, relative
from torch import nn

from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.recorder import Recorder
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES
from wsx.supernets import reset_parameters
from wsx.supernets.kernels import SharedConv2d, kernel_of, share_kernels
from wsx.supernets.parts import parts_of, share

# Names of smaller kernels and what the next larger one's have instead.
LARGER = {
    "nasbench201": [("nor_conv_1x1", "nor_conv_3x3")],
    "nasbench101-v4": [("conv1x1-bn-relu", "conv3x3-bn-relu")],
    "darts": [("conv_3x3", "conv_5x5")],
    "cell64": [(r"(edges\.\d)\.1\.", r"\1.2.")],
    "nasbenchmacro": [(r"blocks\.1", "blocks.2")],
    # 3x3 first: what is larger than that is smaller than 7x7.
    "proxylessnas": [
        (rf"(cells\.\d+)\.{small}\.", rf"\1.{large}.")
        for small, large in ((0, 2), (1, 3), (2, 4), (3, 5))
    ],
}


def slow_middle(kernel, size):
    rim = (kernel.shape[-1] - size) // 2
    out = torch.zeros(*kernel.shape[:2], size, size, dtype=kernel.dtype)
    for row, column in itertools.product(range(size), repeat=2):
        out[:, :, row, column] = kernel[:, :, row + rim, column + rim]
    return out


def slow_transformed(kernel, matrix):
    """Pixel by pixel: matrix (pixel of the result, pixel of the kernel), row after row."""
    size = kernel.shape[-1]
    weights = matrix.reshape(size, size, size, size)
    return torch.einsum("rcij,xyij->xyrc", weights, kernel)


def expected_state(shared, separate, space):
    """The weights of a supernet without sharing that computes the same; smaller kernels made by hand."""
    state = dict(shared.state_dict())

    def kernel(name):
        if name in state:
            return state[name]
        size = separate[name].shape[-1]
        pairs = ((re.sub(small, large, name, count=1), large) for small, large in LARGER[space])
        larger = next(other for other, _ in pairs if other != name)
        carved = slow_middle(kernel(larger), size)[: len(separate[name])]
        transform = state.get(name.removesuffix("weight") + "transform")
        return carved if transform is None else slow_transformed(carved, transform)

    return {name: kernel(name) for name in separate}


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["centre", "transform"])
@pytest.mark.parametrize("space", LARGER)
@torch.no_grad()
def test_smaller_kernels_are_the_transformed_middle_of_larger_ones(space, kernels):
    shared = make(space, kernels=kernels).double()
    separate = make(space, seed=1).double()
    state = separate.state_dict()
    expected = expected_state(shared, state, space)
    missing = set(state) - set(shared.state_dict())
    assert missing
    assert all(state[name].dim() == 4 for name in missing)
    extra = set(shared.state_dict()) - set(state)
    assert len(extra) == (len(missing) if kernels == "transform" else 0)
    separate.load_state_dict(expected)
    x, archs = (
        images(shared, 1),
        SPACES[space].sample(3, rng=np.random.default_rng(0), measure="encodings"),
    )
    for arch in archs:
        assert relative(shared(x, arch), separate(x, arch)) < 1e-12
    if kernels == "transform":
        reset_parameters(shared, seed=0)
        for name, tensor in shared.named_parameters():
            assert not name.endswith("transform") or torch.equal(tensor, torch.eye(len(tensor)))


# The layers ---------------------------------------------------------------------------------------------------


class Layer(nn.Module):
    def __init__(self, size, channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, size, padding=size // 2, bias=False)
        self.same = nn.Conv2d(channels, channels, 1, bias=False)


def group(kernels="transform"):
    layers = [Layer(size) for size in (7, 5, 3)]
    share_kernels(kernels, *layers)
    return layers


def test_convolutions_of_one_size_and_separate_ones_are_left_alone():
    assert [type(layer.same) for layer in group()] == [nn.Conv2d] * 3
    assert [type(layer.conv) for layer in group("separate")] == [nn.Conv2d] * 3


def test_one_kernel_is_stored_once():
    net = nn.ModuleList(group())
    convs = {name for name in net.state_dict() if ".conv." in name}
    assert convs == {"0.conv.weight", "1.conv.transform", "2.conv.transform"}
    assert {name for name in nn.ModuleList(group("centre")).state_dict() if ".conv." in name} == {
        "0.conv.weight"
    }


def test_a_copy_carves_out_of_its_own_copy():
    net = nn.ModuleList(group("centre"))
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[0].conv.weight.zero_()
    assert not kernel_of(other[2].conv).any()
    assert kernel_of(net[2].conv).all()


@pytest.mark.parametrize("text", ["none", "convolutions", "prefix:1"])
def test_nets_that_share_layers_carve_out_of_kernels_of_their_own(text):
    one, other = (make("nasbench201", kernels="centre", seed=seed) for seed in (0, 1))
    share([one, other], parts_of(one, text))
    convs = [m for m in other.modules() if isinstance(m, SharedConv2d)]
    assert len(convs) == 36
    for conv in convs:
        assert not conv._source or conv._source[0] in convs


def test_picked_channels_are_those_of_the_carved_kernel():
    *_, small = group()
    whole = kernel_of(small.conv)
    rows, columns = torch.tensor([0, 2]), torch.tensor([1, 2])
    found = kernel_of(small.conv, [rows, columns])
    torch.testing.assert_close(found, whole[rows][:, columns], rtol=0, atol=1e-6)
    found = kernel_of(small.conv, [slice(1, 3), slice(0, 1)])
    torch.testing.assert_close(found, whole[1:3, :1], rtol=0, atol=1e-6)


def test_gradients_reach_the_middle_and_the_rows_in_use():
    large, middle, small = (layer.conv for layer in group())
    with torch.no_grad():
        middle.transform.add_(0.1)
    kernel_of(small).square().sum().backward()
    reached = large.weight._wsx_reached[0, 0]
    assert torch.equal(reached.nonzero().unique(), torch.arange(1, 6))
    assert torch.equal(reached, large.weight.grad[0, 0] != 0)
    # A 3x3 kernel takes the middle of the 5x5 one after its transform.
    rows = middle.transform._wsx_reached.all(1).nonzero().flatten().tolist()
    assert rows == [6, 7, 8, 11, 12, 13, 16, 17, 18]
    assert small.transform._wsx_reached.all()


def test_without_gradients_the_largest_kernel_is_the_parameter_itself():
    large, _, small = (layer.conv for layer in group("centre"))
    with torch.no_grad():
        assert kernel_of(large) is large.weight
        # A view: nothing is copied, and what it belongs to is known.
        assert kernel_of(small).data_ptr() != large.weight.data_ptr()
        storages = {kernel_of(c).untyped_storage().data_ptr() for c in (large, small)}
    assert len(storages) == 1


# Recording ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["nasbench201", "nasbench101-v4", "darts", "proxylessnas"])
def test_each_kernel_is_carved_and_stored_once(space, monkeypatch):
    supernet = make(space, kernels="transform")
    carved, original = [], SharedConv2d.carved

    def counted(self, size, picks):
        carved.append(self)
        return original(self, size, picks)

    monkeypatch.setattr(SharedConv2d, "carved", counted)
    hashed, weight_name = [], Recorder.weight_name
    monkeypatch.setattr(
        Recorder, "weight_name", lambda self, t: (hashed.append(t), weight_name(self, t))[1]
    )
    recorder = SubnetRecorder(supernet, BatchNormMode("batch"))
    archs = SPACES[space].sample(4, rng=np.random.default_rng(0), measure="encodings")
    graphs = [recorder.record(arch) for arch in archs]
    assert carved
    n_carved, n_hashed, n_bytes = len(carved), len(hashed), recorder.weights.n_bytes
    assert [recorder.record(arch) for arch in archs] == graphs
    assert (len(carved), len(hashed), recorder.weights.n_bytes) == (n_carved, n_hashed, n_bytes)
    names = [name for name in recorder.weights.places if name.startswith("derived.")]
    contents = [recorder.weights.array(name).tobytes() for name in names]
    assert len(set(contents)) == len(contents)


def test_random_slices_are_recorded_as_the_first_channels():
    archs = SPACES["nasbench101-v4"].sample(6, rng=np.random.default_rng(0), measure="archs")
    keys = {}
    for slicing in ("fixed", "random", "shuffle"):
        recorder = SubnetRecorder(make("nasbench101-v4", slicing=slicing), BatchNormMode("batch"))
        keys[slicing] = [recorder.record(arch).function_key for arch in archs]
    assert keys["fixed"] == keys["random"] == keys["shuffle"]
