import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from wsx.errors import ExportError, OptionError
from wsx.evaluators.devices import CPU, SessionFactory
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.cost import graph_cost
from wsx.exporters.emit import emit_subnet
from wsx.exporters.extract import extract
from wsx.exporters.subnets import SubnetRecorder
from wsx.exporters.text_recorder import TextRecorder, TextSubnet
from wsx.exporters.weights import WeightFile
from wsx.spaces import SPACES
from wsx.spaces.darts_ptb import nodes_of
from wsx.supernets import build_supernet, reset_parameters
from wsx.supernets.darts_ptb import DROPOUTS
from wsx.supernets.recurrence import recurrence
from wsx.supernets.text import locked_dropout

SPACE = SPACES["darts-ptb"]
TINY = {"n_tokens": 13, "hidden_size": 6}
# Every activation at every node, and every predecessor of every node.
ARCHS = [
    tuple(v for node in range(8) for v in ((node + shift) % 4, (node + shift) % (node + 1)))
    for shift in range(8)
]


def make_net(seed=0, **options):
    """A supernet in evaluation mode whose weights are large enough for every activation to matter."""
    net = build_supernet("darts-ptb", TINY | options, seed=seed).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(
                -0.8, 0.8, generator=torch.Generator().manual_seed(parameter.numel())
            )
    return net


def make_inputs(net, n_streams=3, time=5, dtype=torch.float32):
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(net.options.n_tokens, (n_streams, time), generator=generator)
    hidden = torch.randn(n_streams, net.options.hidden_size, dtype=dtype, generator=generator)
    return tokens, hidden


def slow(net, tokens, arch, hidden):
    """The definition, token by token and in numpy."""
    state = {name: p.detach().numpy() for name, p in net.named_parameters()}
    functions = [np.tanh, lambda v: v * (v > 0), lambda v: 1 / (1 + np.exp(-v)), lambda v: v]
    width = hidden.shape[1]
    h, logits = hidden.numpy(), []
    for t in range(tokens.shape[1]):
        x = state["embedding"][tokens[:, t].numpy()]
        product = x @ state["input_weight"][:width] + h @ state["input_weight"][width:]
        gate, value = product[:, :width], product[:, width:]
        s = [h + functions[2](gate) * (np.tanh(value) - h)]
        for i, (activation, source) in enumerate(nodes_of(arch)):
            product = s[source] @ state[f"node_weights.{i}"]
            gate, value = product[:, :width], product[:, width:]
            s.append(s[source] + functions[2](gate) * (functions[activation](value) - s[source]))
        h = sum(s[1:]) / 8
        logits.append(h @ state["embedding"].T + state["decoder_bias"])
    return np.stack(logits, 1), h


def test_the_archs_of_these_tests_cover_every_option():
    for place, n in enumerate(SPACE.n_options):
        assert {arch[place] for arch in ARCHS} == set(range(n))


def test_the_supernet_computes_the_definition():
    net = make_net().double()
    tokens, hidden = make_inputs(net, dtype=torch.float64)
    with torch.no_grad():
        for arch in ARCHS:
            expected = slow(net, tokens, arch, hidden)
            for found, right in zip(net(tokens, arch, hidden), expected, strict=True):
                assert np.abs(found.numpy() - right).max() <= 1e-12 * np.abs(right).max()


def run_onnx_text(net, arch, *inputs):
    recorder = SubnetRecorder(net, BatchNormMode("none"))
    model = emit_subnet(recorder.record(arch), recorder.weights)
    session = SessionFactory(recorder.weights, CPU).session(model.SerializeToString())
    tokens, hidden = (value.numpy() for value in inputs)
    return model, session.run(None, {"tokens": tokens, "hidden": hidden})


def test_supernet_subnet_and_onnx_agree(tmp_path):
    net = make_net()
    inputs = make_inputs(net)
    for arch in ARCHS:
        model, found = run_onnx_text(net, arch, *inputs)
        with torch.no_grad():
            eager = net(inputs[0], arch, inputs[1])
            alone = TextSubnet(net, arch)(*inputs)
        for a, b, c in zip(eager, alone, found, strict=True):
            assert torch.equal(a, b)
            assert np.abs(c - a.numpy()).max() <= 1e-4 * a.abs().max()
    # The cell is written once, however long the window.
    assert [node.op_type for node in model.graph.node].count("Scan") == 1
    SubnetRecorder(net, BatchNormMode("none")).weights.write(tmp_path)
    onnx.save_model(model, tmp_path / "subnet.onnx")
    onnx.checker.check_model(tmp_path / "subnet.onnx")
    assert {i.name for i in model.graph.input} == {"tokens", "hidden"}


def test_two_windows_are_one_when_the_state_is_carried():
    net = make_net()
    tokens, hidden = make_inputs(net, time=7)
    _, whole = run_onnx_text(net, ARCHS[1], tokens, hidden)
    _, first = run_onnx_text(net, ARCHS[1], tokens[:, :4], hidden)
    _, second = run_onnx_text(net, ARCHS[1], tokens[:, 4:], torch.from_numpy(first[1]))
    joined = np.concatenate([first[0], second[0]], axis=1)
    assert np.abs(joined - whole[0]).max() <= 1e-5 * np.abs(whole[0]).max()
    assert np.abs(second[1] - whole[1]).max() <= 1e-5
    _, cold = run_onnx_text(net, ARCHS[1], tokens[:, 4:], hidden)
    assert np.abs(cold[0] - second[0]).max() > 1e-3


def test_function_keys_tell_archs_and_weights_apart():
    recorder = SubnetRecorder(make_net(), BatchNormMode("none"))
    keys = {recorder.record(arch).function_key for arch in [*ARCHS, *ARCHS]}
    assert len(keys) == len(ARCHS)
    graph = recorder.record(ARCHS[0])
    named = {name for name, _ in make_net().named_parameters()}
    assert set(graph.weight_names()) - named == set()
    assert "node_weights.7" in graph.weight_names()


def test_cost_is_what_is_there():
    net = make_net()
    tokens, hidden = make_inputs(net, n_streams=1, time=1)
    cost = SPACE.cost(ARCHS[0], net.macro())
    assert sum(p.numel() for p in TextSubnet(net, ARCHS[0]).parameters()) == cost.params
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(tokens, ARCHS[0], hidden)
    # The counter counts a product and its sum apart, and no biases.
    assert counter.get_total_flops() // 2 + net.options.n_tokens == cost.flops
    recorder = SubnetRecorder(net, BatchNormMode("none"))
    assert graph_cost(recorder.record(ARCHS[0]), recorder.weights) == cost


def test_a_step_reaches_every_weight_whatever_the_arch():
    for arch in ARCHS[:3]:
        # Without dropout, which can silence all six units of a net this small.
        net = make_net(**dict.fromkeys(DROPOUTS, 0.0)).train()
        net(*make_inputs(net)[:1], arch, make_inputs(net)[1])[0].square().sum().backward()
        # All archs share all weights: there is nothing outside a slice.
        assert all(bool(p.grad.abs().sum() > 0) for p in net.parameters())


def test_dropouts_are_locked_over_a_window_and_off_in_evaluation():
    torch.random.default_generator.manual_seed(3)
    x = locked_dropout(torch.ones(4, 9, 50), 0.5, is_training=True)
    assert torch.equal(x, x[:, :1].expand_as(x))
    assert set(x.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(x[0], x[1])
    net = make_net()
    tokens, hidden = make_inputs(net)
    with torch.no_grad():
        assert torch.equal(net(tokens, ARCHS[0], hidden)[0], net(tokens, ARCHS[0], hidden)[0])
        net.train()
        assert not torch.equal(net(tokens, ARCHS[0], hidden)[0], net(tokens, ARCHS[0], hidden)[0])


def test_without_dropout_training_computes_what_evaluation_does():
    net = make_net(**dict.fromkeys(DROPOUTS, 0.0))
    tokens, hidden = make_inputs(net)
    with torch.no_grad():
        expected = net(tokens, ARCHS[2], hidden)[0]
        found = net.train()(tokens, ARCHS[2], hidden)[0]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_initial_weights_are_the_published_range():
    net = build_supernet("darts-ptb", TINY, seed=1)
    reset_parameters(net, seed=2)
    values = torch.cat(
        [p.detach().flatten() for n, p in net.named_parameters() if n != "decoder_bias"]
    )
    assert 0.039 < values.abs().max() <= 0.04
    assert net.decoder_bias.abs().sum() == 0


@pytest.mark.parametrize(
    "options",
    [{"dropout_output": 1.0}, {"dropout_hidden": -0.1}, {"hidden_size": 0}, {"n_tokens": -1}],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(OptionError):
        build_supernet("darts-ptb", TINY | options, seed=0)


def test_the_image_extractor_says_what_to_use():
    with pytest.raises(ExportError, match="TextSubnet"):
        extract(make_net(), ARCHS[0])


class Odd(torch.nn.Module):
    """A text module whose cell does what ``forward`` is told to."""

    def __init__(self, cell):
        super().__init__()
        self.options = make_net().options
        self.cell = cell
        self.embedding = torch.nn.Parameter(torch.ones(13, 6))

    def forward(self, tokens, arch, hidden):
        xs = F.embedding(tokens, self.embedding, max_norm=1.0 if self.cell is None else None)
        return recurrence(self.cell(hidden), xs, hidden)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (None, "max_norm"),
        (lambda outer: lambda x, h: h * x + outer, "from outside a cell"),
        (lambda outer: lambda x, h: torch.cat((h, outer), 1)[:, :6], "from outside a cell"),
        (lambda outer: lambda x, h: outer, "does not come from its own inputs"),
        (lambda outer: lambda x, h: torch.tanh(x), "does not read its hidden state"),
        (lambda outer: lambda x, h: h[:, :3], "shape"),
    ],
)
def test_cells_that_cannot_be_repeated_are_refused(cell, message):
    recorder = TextRecorder(Odd(cell).eval(), WeightFile({}))
    with pytest.raises(ExportError, match=message):
        recorder.record(())
