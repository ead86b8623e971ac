import threading

import numpy as np
import pytest
import torch
from recorded_nets import SHAPE, Net, ops, recorded
from torch import nn
from torch.nn import functional as F

from wsx.errors import ArchError, ExportError
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.emit import emit_subnet
from wsx.exporters.extract import extract, to_module
from wsx.exporters.recorder import Recorder, weight_file
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES

SPACE = SPACES["nasbench201"]


# Recording again --------------------------------------------------------------------------------------------


def all_kinds_of_calls(m, x, turns):
    parts = x.chunk(1, 1)[0].chunk(2, 1)
    y = m.c(x).relu() - x[:, :, :4, :3].abs()
    for _ in range(turns):
        y = (2 * y - m.p + y.clamp(0.0, 6.0)).relu() - y
    return torch.cat([y, -parts[0][:, :, :4, :3], y.relu()], 1).mean((2, 3))


def test_a_recorder_that_has_seen_calls_before_records_what_a_fresh_one_records():
    layers = {"c": nn.Conv2d(4, 4, 3), "p": nn.Parameter(torch.ones(3))}
    model = Net(all_kinds_of_calls, **layers).eval()
    weights = weight_file(model)
    seasoned = Recorder(model, weights, SHAPE)
    for turns in (0, 1, 2, 1, 0):
        again = seasoned.record(turns)
        fresh = Recorder(model, weights, SHAPE).record(turns)
        assert again == fresh
        x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(turns))
        difference = to_module(again, weights)(x) - model(x, turns)
        assert float(difference.detach().abs().max()) <= 1e-6


def test_calls_that_differ_in_an_argument_alone_stay_apart():
    graph, _ = recorded(lambda m, x: x.clamp(0.0, 1.0) - x.clamp(0.0, 2.0) - x.clamp(max=1.0))
    assert ops(graph).count("clip") == 3


# Hash-consing ----------------------------------------------------------------------------------------------


def test_equal_computations_are_one_node():
    graph, _ = recorded(lambda m, x: m.c(x).relu() + m.c(x).relu(), c=nn.Conv2d(4, 4, 1))
    assert ops(graph) == ["input", "conv", "relu", "add"]
    assert graph.output.inputs == (2, 2)


def test_operands_of_sums_and_products_have_no_order():
    def key(forward):
        return recorded(forward, p=nn.Parameter(torch.ones(5)))[0].function_key

    assert key(lambda m, x: x.relu() + x.abs()) == key(lambda m, x: x.abs() + x.relu())
    assert key(lambda m, x: m.p * x) == key(lambda m, x: x * m.p)
    assert key(lambda m, x: x.relu() - x.abs()) != key(lambda m, x: x.abs() - x.relu())
    assert key(lambda m, x: x / m.p) != key(lambda m, x: m.p / x)


def test_dead_branches_and_their_weights_are_absent():
    def forward(m, x):
        m.dead(x).sigmoid()
        return m.live(x)

    graph, _ = recorded(forward, dead=nn.Conv2d(4, 4, 1), live=nn.Conv2d(4, 4, 1))
    assert ops(graph) == ["input", "conv"]
    assert graph.weight_names() == ["live.weight", "live.bias"]


def test_the_function_key_sees_weights_attributes_and_input_shape():
    layers = {"a": nn.Conv2d(4, 4, 3), "b": nn.Conv2d(4, 4, 3)}
    keys = {
        recorded(forward, shape=shape, **layers)[0].function_key
        for forward, shape in [
            (lambda m, x: m.a(x), SHAPE),
            (lambda m, x: m.b(x), SHAPE),
            (lambda m, x: m.a(x), (4, 7, 5)),
            (lambda m, x: F.conv2d(x, m.a.weight), SHAPE),
            (lambda m, x: F.conv2d(x, m.a.weight, m.a.bias, padding=1), SHAPE),
            (lambda m, x: F.conv2d(x, m.a.weight, m.a.bias, padding=1) + 1.0, SHAPE),
            (lambda m, x: F.conv2d(x, m.a.weight, m.a.bias, padding=1) + 2.0, SHAPE),
        ]
    }
    assert len(keys) == 7


def test_integers_and_floats_of_one_value_are_the_same_computation():
    # What Python calls equal must not give two keys, nor one key that depends on who came first.
    bn = nn.BatchNorm2d(4)
    forwards = [
        lambda m, x: F.batch_norm(x * 1, m.n.running_mean, m.n.running_var, momentum=1).mean(
            2, keepdim=1
        ),
        lambda m, x: F.batch_norm(x * 1.0, m.n.running_mean, m.n.running_var, momentum=1.0).mean(
            2, True
        ),
    ]
    first, second = (recorded(forward, n=bn)[0] for forward in forwards)
    assert first.function_key == second.function_key
    assert [node.attributes for node in first.nodes] == [node.attributes for node in second.nodes]
    types = [[type(value) for _, value in node.attributes] for node in first.nodes]
    assert types == [[type(value) for _, value in node.attributes] for node in second.nodes]


# Weights ---------------------------------------------------------------------------------------------------


def test_weights_carry_their_parameters_names_and_tied_ones_are_one():
    conv = nn.Conv2d(4, 4, 1)
    graph, weights = recorded(
        lambda m, x: m.b(m.a(x)), a=conv, b=conv, row=nn.Parameter(torch.ones(5))
    )
    assert graph.weight_names() == ["a.weight", "a.bias"]
    assert set(weights.places) == {"a.weight", "a.bias", "row"}


def test_slices_of_shared_weights_are_stored_once_per_content():
    def forward(m, x, n):
        y = F.conv2d(x, m.conv.weight[:n, :, 1:2, 1:2])
        return F.conv2d(x, m.conv.weight[:n, :, 1:2, 1:2]) + y

    model = Net(forward, conv=nn.Conv2d(4, 6, 3)).eval()
    weights = weight_file(model)
    recorder = Recorder(model, weights, SHAPE)
    graphs = [recorder.record(n) for n in (2, 3, 2)]
    assert ops(graphs[0]) == ["input", "conv", "add"]
    assert graphs[0].function_key == graphs[2].function_key != graphs[1].function_key
    derived = [name for name in weights.places if name.startswith("derived.")]
    assert len(derived) == 2
    (name,) = graphs[1].weight_names()
    np.testing.assert_array_equal(weights.array(name), model.conv.weight[:3, :, 1:2, 1:2].detach())


def test_bfloat16_and_half_precision_are_refused():
    for dtype in (torch.bfloat16, torch.float16):
        with pytest.raises(ExportError, match=r"float16; subnets are exported from float32"):
            weight_file(nn.Linear(2, 2).to(dtype))


# Nothing is changed ----------------------------------------------------------------------------------------


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_recording_and_extracting_change_nothing(make_supernet):
    supernet = make_supernet()
    supernet.train()
    supernet.stem[1].eval()
    modes = {name: module.training for name, module in supernet.named_modules()}
    before, rng = state(supernet), torch.get_rng_state()
    dispatch = F.relu, torch.Tensor.add, nn.Module.__call__
    subnet = extract(supernet, SPACE.arch_at(6111))
    assert {name: module.training for name, module in supernet.named_modules()} == modes
    recorder = SubnetRecorder(supernet.eval(), BatchNormMode("batch"))
    recorder.record(SPACE.arch_at(857))
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.is_grad_enabled()
    assert (F.relu, torch.Tensor.add, nn.Module.__call__) == dispatch
    after = supernet.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is None and p.requires_grad for p in supernet.parameters())
    own = {p.data_ptr() for p in supernet.parameters()}
    assert not own & {p.data_ptr() for p in subnet.parameters()}


def test_four_threads_record_what_one_does(make_supernet):
    supernet = make_supernet()
    archs = SPACE.sample(12, rng=np.random.default_rng(0), measure="encodings")

    def models(recorder, into):
        for arch in archs:
            graph = recorder.record(arch)
            model = emit_subnet(graph, recorder.weights)
            into.append((graph.function_key, model.SerializeToString(deterministic=True)))

    serial: list = []
    models(SubnetRecorder(supernet, BatchNormMode("running")), serial)
    shared = SubnetRecorder(supernet, BatchNormMode("running"))
    found: list[list] = [[], [], [], []]
    threads = [threading.Thread(target=models, args=(shared, into)) for into in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [serial] * 4


def test_threads_record_slices_under_the_same_names():
    def forward(m, x, n):
        return F.conv2d(x, m.conv.weight[:n])

    model = Net(forward, conv=nn.Conv2d(4, 40, 3)).eval()
    serial = Recorder(model, weight_file(model), SHAPE)
    expected = [serial.record(n).function_key for n in range(1, 40)]
    weights = weight_file(model)
    shared = Recorder(model, weights, SHAPE)
    found: list[list] = [[], [], [], []]

    def record(into):
        into.extend(shared.record(n).function_key for n in range(1, 40))

    threads = [threading.Thread(target=record, args=(into,)) for into in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4
    assert sum(name.startswith("derived.") for name in weights.places) == 39


# What cannot be recorded -----------------------------------------------------------------------------------


def test_an_operator_without_emitter_is_named_with_its_module_and_the_supported_ones():
    inner = Net(lambda m, x: torch.cumsum(x, 1))
    with pytest.raises(ExportError) as caught:
        recorded(lambda m, x: m.outer(x), outer=nn.Sequential(nn.ReLU(), inner))
    message = str(caught.value)
    assert message.startswith("cannot record cumsum, which has no emitter (supported: abs, ")
    assert "conv2d" in message
    assert message.endswith("in module outer.1")


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda m, x: x.cumsum(1), "Tensor.cumsum, which has no emitter"),
        (lambda m, x: torch.zeros(5, device=x.device) + x, "Tensor.device, which has no emitter"),
        (lambda m, x: torch.einsum("bchw,c->bhw", x, m.row), "einsum, which has no emitter"),
        (lambda m, x: m.row.add_(x), "add_, which has no emitter"),
        # The values of the input are nobody's to look at.
        (lambda m, x: x if x.mean((1, 2, 3)) > 0 else -x, "a branch on the values of a tensor"),
        (lambda m, x: x if x else -x, "a branch on the values of a tensor"),
        (lambda m, x: x * float(x.mean((1, 2, 3))), "a branch on the values of a tensor"),
        (lambda m, x: x * (x == 0), "a branch on the values of a tensor"),
        (lambda m, x: x * (x != 0), "a branch on the values of a tensor"),
        (lambda m, x: x * int(x < 0), "a branch on the values of a tensor"),
        (lambda m, x: x.item(), "Tensor.item, which has no emitter"),
        # An image must not see its neighbours.
        (lambda m, x: x.mean(), "a reduction over the batch axis"),
        (lambda m, x: x.mean(()), "a reduction over the batch axis"),
        (lambda m, x: x.sum((0, 2)), "a reduction over the batch axis"),
        (lambda m, x: x.mean(-4), "a reduction over the batch axis"),
        (lambda m, x: F.softmax(x, 0), "a reduction over the batch axis"),
        (lambda m, x: torch.cat([x, x]), "a reduction over the batch axis"),
        (lambda m, x: x.chunk(2), "a reduction over the batch axis"),
        (lambda m, x: x[:2], "a slice of the batch axis"),
        (lambda m, x: x[0], "an index 0"),
        (lambda m, x: x[:, 0], "an index 0; slices are supported"),
        (lambda m, x: x.flatten(), "flatten from the batch axis"),
        (lambda m, x: x.reshape(-1, 3), "reshape from .*: sizes differ"),
        (lambda m, x: x.view(2, -1), "the first axis must stay the batch's"),
        (lambda m, x: x.transpose(0, 1), "permute, which moves the batch axis"),
        (lambda m, x: x.permute(1, 2, 3, 0), "permute, which moves the batch axis"),
        (lambda m, x: F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0)), "a pad of the batch axis"),
        (
            lambda m, x: x.mean((2, 3), keepdim=True) + x.mean((2, 3)),
            "add, which moves the batch axis",
        ),
        (lambda m, x: x.mean((2, 3)) + m.three, "add, which moves the batch axis"),
        (lambda m, x: x + m.batch, "add: shapes .* do not broadcast"),
        (lambda m, x: torch.cat([x, m.batch], 1), "cat: shapes .* do not concatenate"),
        # Options without an emitter, and wrong use.
        (lambda m, x: F.conv2d(x, m.kernel, padding="same"), "padding 'same'"),
        (lambda m, x: F.avg_pool2d(x, 2, divisor_override=3), "divisor_override"),
        (lambda m, x: F.max_pool2d(x, 2, dilation=2), "max_pool2d with dilation"),
        (lambda m, x: F.adaptive_avg_pool2d(x, 4), r"from \(6, 5\) to \(4, 4\): sizes must divide"),
        (
            lambda m, x: F.adaptive_avg_pool2d(x, (None, 1)),
            "adaptive_avg_pool2d with these arguments",
        ),
        (lambda m, x: F.gelu(x, approximate="tanh"), "gelu with approximate='tanh'"),
        (lambda m, x: F.pad(x, (1, 1), mode="circular"), "in mode 'circular'"),
        (lambda m, x: F.pad(x, (-1, 0)), "constant widths >= 0"),
        (lambda m, x: torch.add(x, x, alpha=2), "add with these arguments"),
        (lambda m, x: x.add(x, alpha=2), "add with these arguments"),
        (lambda m, x: x.mean(1, dtype=torch.float64), "mean with these arguments"),
        (lambda m, x: x + "one", "with these arguments"),
        (lambda m, x: x[:, :, :, :, 1:], "with these arguments"),
        (lambda m, x: F.conv2d(m.batch, x), "conv2d with these arguments"),
        (
            lambda m, x: F.linear(x, m.kernel[:, :, 0, 0]),
            "linear: a linear layer of 4 inputs meets 5",
        ),
        (lambda m, x: x @ x, "matmul: matrices of shapes"),
        (lambda m, x: x[..., 1:], "an index Ellipsis"),
        (lambda m, x: m.row * 2, "the module returned Tensor, not a value computed from its input"),
        (lambda m, x: (x, x), "the module returned tuple"),
        (lambda m, x: None, "the module returned NoneType"),
    ],
)
def test_refusals_are_clear(forward, message):
    layers = {
        "row": nn.Parameter(torch.ones(4)),
        "three": nn.Parameter(torch.ones(3, 1, 1)),
        "batch": nn.Parameter(torch.ones(2, 4, 6, 5)),
        "kernel": nn.Parameter(torch.ones(4, 4, 3, 3)),
    }
    with pytest.raises(ExportError, match=message):
        recorded(forward, **layers)


def test_training_mode_is_refused(make_supernet):
    supernet = make_supernet().train()
    with pytest.raises(ExportError, match=r"in training mode; call eval\(\) before recording"):
        SubnetRecorder(supernet, BatchNormMode("batch"))


def test_archs_outside_the_space_are_refused(tiny_supernet):
    for use in (
        SubnetRecorder(tiny_supernet, BatchNormMode("batch")).record,
        lambda a: extract(tiny_supernet, a),
    ):
        with pytest.raises(ArchError, match="5 decisions"):
            use((0, 0, 0, 0, 0))
