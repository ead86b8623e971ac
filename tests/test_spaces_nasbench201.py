import itertools
import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from wsx.errors import ArchError, UnknownNameError
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES
from wsx.spaces.nasbench201 import EDGES, NONE, OPERATIONS, POOL, SKIP

SPACE = SPACES["nasbench201"]
ALL = list(SPACE.enumerate())
MACRO = {"channels": 16, "cells": 5, "n_classes": 10, "in_channels": 3, "image_size": 32}

# The best archs on CIFAR-10, CIFAR-100 and ImageNet16-120 with their official indices, params and FLOPs,
# from NATS-Bench (D-X-Y/NATS-Bench) via v-tao/nats-bench-landscape.
BEST = {
    6111: (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
        1073466,
        153272970,
    ),
    9930: (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        1288506,
        184730250,
    ),
    857: (
        "|nor_conv_1x1~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        858426,
        121815690,
    ),
}

archs = st.tuples(*[st.integers(0, 4)] * 6)


def test_text_goes_round_for_every_arch():
    texts = [SPACE.format(arch) for arch in ALL]
    assert len(set(texts)) == 15_625
    assert [SPACE.parse(text) for text in texts] == ALL


def test_index_and_arch_at_are_inverse():
    assert len(set(ALL)) == SPACE.n_archs == 15_625
    assert [SPACE.index(arch) for arch in ALL] == list(range(15_625))


@pytest.mark.parametrize("index", BEST)
def test_the_official_order_text_and_cost(index):
    text, params, flops = BEST[index]
    assert SPACE.format(SPACE.arch_at(index)) == text
    cost = SPACE.cost(SPACE.parse(text), MACRO)
    assert (cost.params, cost.flops) == (params, flops)


def test_order_text_and_cost_equal_the_public_table(shared_data):
    table = pd.read_parquet(shared_data / "nb201" / "ground_truth.parquet")
    assert table["index"].tolist() == list(range(15_625))
    assert table["arch"].tolist() == [SPACE.format(arch) for arch in ALL]
    costs = [SPACE.cost(arch, MACRO) for arch in ALL]
    assert table["params"].tolist() == [cost.params for cost in costs]
    assert table["flops"].tolist() == [cost.flops for cost in costs]


# Text ------------------------------------------------------------------------------------------------------


@given(st.text())
@example("")
@example("|" * 50 + "+" * 50)
@example("nor_conv_3x3~0" * 5000)
@example("|none~0|+|none~0|none~1|+|none~0|none~1|none~٢|")
@example("|none~0|+|none~0|none~1|+|none~0|none~1|none~" + "2" * 5000 + "|")
def test_parse_never_fails_otherwise_than_by_its_own_errors(text):
    problem = ""
    try:
        arch = SPACE.parse(text)
    except (ArchError, UnknownNameError) as error:
        problem = str(error)
    else:
        assert SPACE.format(arch).strip("|") == text.strip().strip("|")
    assert len(problem) < 2000


# Nearly right texts reach deeper into the parser than noise does.
pieces = st.sampled_from(
    [*OPERATIONS, "~", "|", "+", "0", "1", "2", "3", " ", "nor_conv_5x5", "|none~0|"]
)


@given(archs, st.integers(0, 100), st.integers(0, 15), pieces)
def test_parse_refuses_nearly_right_text(arch, start, n_cut, inserted):
    text = SPACE.format(arch)
    broken = text[:start] + inserted + text[start + n_cut :]
    try:
        parsed = SPACE.parse(broken)
    except (ArchError, UnknownNameError):
        return
    # What is accepted reads as exactly one arch: only bars and blanks around blocks are forgiven.
    bare = [block.strip().strip("|") for block in broken.strip().split("+")]
    assert bare == [block.strip("|") for block in SPACE.format(parsed).split("+")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has 1 blocks separated by '+'; nasbench201 has 3"),
        ("|none~0|+|none~0|none~1|", "has 2 blocks"),
        ("|none~0|+|none~0|+|none~0|none~1|none~2|", "block 2 has 1 entries; it needs 2"),
        ("|none~0|+|none~1|none~0|+|none~0|none~1|none~2|", "entry 'none~1' of block 2 must read"),
        (
            "|none|+|none~0|none~1|+|none~0|none~1|none~2|",
            "entry 'none' of block 1 must read operation~0",
        ),
        ("|~0|+|none~0|none~1|+|none~0|none~1|none~2|", "entry '~0' of block 1"),
        ("||+||+||", "entry '' of block 1"),
    ],
)
def test_malformed_text_says_what_is_wrong(text, message):
    with pytest.raises(ArchError, match=re.escape(message)):
        SPACE.parse(text)


def test_unknown_operations_are_suggested():
    text = SPACE.format(ALL[0]).replace(OPERATIONS[ALL[0][0]], "nor_conv_3X3", 1)
    with pytest.raises(
        UnknownNameError, match=r"no nasbench201 operation named 'nor_conv_3X3'.*nor_conv_3x3"
    ):
        SPACE.parse(text)


@pytest.mark.parametrize(
    "method", ["format", "index", "is_reachable", "function_key", "neighbours"]
)
@pytest.mark.parametrize(
    "arch", [(), (0,) * 5, (0, 0, 0, 0, 0, 5), (0, 0, 0, 0, 0, -1), (0.5,) * 6]
)
def test_what_is_no_arch_is_refused_everywhere(method, arch):
    with pytest.raises(ArchError):
        getattr(SPACE, method)(arch)
    with pytest.raises(ArchError):
        SPACE.cost(arch, MACRO)


# Structure -------------------------------------------------------------------------------------------------


def has_path(arch):
    routes = [[0, 3], [0, 1, 3], [0, 2, 3], [0, 1, 2, 3]]
    live = {edge for edge, option in zip(EDGES, arch, strict=True) if option != NONE}
    return any(all(edge in live for edge in itertools.pairwise(route)) for route in routes)


def test_reachable_archs_have_a_path():
    assert [SPACE.is_reachable(arch) for arch in ALL] == [has_path(arch) for arch in ALL]
    assert sum(map(has_path, ALL)) == len(SPACE.population("reachable")) == 15_284
    assert set(SPACE.population("reachable")) == set(filter(has_path, ALL))


def test_there_are_8196_distinct_expressions_of_which_one_is_zero():
    keys = {SPACE.function_key(arch) for arch in ALL if has_path(arch)}
    assert len(keys) == 8_195
    chosen = SPACE.population("functions")
    assert {SPACE.function_key(arch) for arch in chosen} == keys
    assert len(chosen) == len(keys)
    assert {SPACE.function_key(arch) for arch in ALL if not has_path(arch)} == {None}


def test_neighbours_are_24_and_symmetric():
    for arch in ALL[::50]:
        found = SPACE.neighbours(arch)
        assert len(set(found)) == 24
        assert all(sum(a != b for a, b in zip(arch, other, strict=True)) == 1 for other in found)
        assert all(arch in SPACE.neighbours(other) for other in found)


def test_mutate_is_uniform_over_the_neighbours():
    rng = np.random.default_rng(0)
    arch = SPACE.arch_at(6111)
    counts = dict.fromkeys(SPACE.neighbours(arch), 0)
    for _ in range(4800):
        counts[SPACE.mutate(arch, rng=rng)] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


@pytest.mark.parametrize("measure", ["encodings", "reachable", "functions"])
def test_sampling_is_uniform_under_each_measure(measure):
    listed = SPACE.population(measure) or ALL
    place = {arch: i for i, arch in enumerate(listed)}
    rng = np.random.default_rng(7)
    drawn = [arch for _ in range(20) for arch in SPACE.sample(600, rng=rng, measure=measure)]
    assert set(drawn) <= set(place)
    # Where in the list the draws fall, and what they choose on an edge.
    parts = np.array_split(np.arange(len(listed)), 40)
    where = np.histogram([place[arch] for arch in drawn], [p[0] for p in parts] + [len(listed)])[0]
    expected = np.array([len(p) for p in parts]) / len(listed) * len(drawn)
    assert stats.chisquare(where, expected).pvalue > 0.01
    options = np.bincount([arch[3] for arch in drawn], minlength=5)
    shares = np.bincount([arch[3] for arch in listed], minlength=5) / len(listed)
    assert stats.chisquare(options, shares * len(drawn)).pvalue > 0.01


def test_the_check_of_uniformity_can_fail():
    listed = SPACE.population("functions")
    shares = np.bincount([arch[5] for arch in listed], minlength=5) / len(listed)
    drawn = SPACE.sample(12_000, rng=np.random.default_rng(7), measure="reachable")
    options = np.bincount([arch[5] for arch in drawn], minlength=5)
    assert stats.chisquare(options, shares * len(drawn)).pvalue < 1e-6


# Against the torch module ----------------------------------------------------------------------------------


def equal_key_groups(n):
    groups = {}
    for arch in ALL:
        groups.setdefault(SPACE.function_key(arch), []).append(arch)
    several = [group for key, group in groups.items() if key is not None and len(group) > 1]
    rng = np.random.default_rng(3)
    return [several[i][:4] for i in rng.permutation(len(several))[:n]]


def outputs(supernet, x, archs):
    with torch.inference_mode():
        return [supernet(x, arch) for arch in archs]


def test_equal_function_keys_give_equal_outputs(make_supernet):
    supernet = make_supernet(image_size=6).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for group in equal_key_groups(24):
        first, *others = outputs(supernet, x, group)
        for other in others:
            # Sums may be taken in another order, which float64 shows in the last digits.
            torch.testing.assert_close(other, first, rtol=1e-11, atol=1e-11)


def expression(arch):
    """The multiset of terms that reaches the output, sums within sums dissolved."""
    values = [(("input",),)]
    for node in range(1, 4):
        terms = []
        for edge, (option, (source, end)) in enumerate(zip(arch, EDGES, strict=True)):
            if end != node or option == NONE or values[source] is None:
                continue
            value = values[source]
            own = [("pool", value)] if option == POOL else [(option, edge, value)]
            terms += list(value) if option == SKIP else own
        values.append(tuple(sorted(terms, key=repr)) or None)
    return values[-1]


def test_different_function_keys_give_different_outputs(make_supernet):
    supernet = make_supernet(image_size=6).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chosen = SPACE.sample(150, rng=np.random.default_rng(5), measure="functions")
    found = {}
    for arch, logits in zip(chosen, outputs(supernet, x, chosen), strict=True):
        # Pooling is linear and sums associate, so that a few keys part what is mathematically one function.
        found.setdefault(tuple(np.round(logits.flatten().numpy(), 9)), set()).add(expression(arch))
    assert all(len(group) == 1 for group in found.values())
    assert len(found) > 140


def check_graph_keys(supernet, archs):
    recorder = SubnetRecorder(supernet, BatchNormMode("running"))
    graphs_of, expressions_of = {}, {}
    for arch in archs:
        graph = recorder.record(arch).function_key
        graphs_of.setdefault(SPACE.function_key(arch), set()).add(graph)
        expressions_of.setdefault(graph, set()).add(expression(arch))
    assert all(len(found) == 1 for found in expressions_of.values())
    # Floats make (a + b) + c and a + (b + c) two functions; only the output node has three terms.
    several = [key for key, graphs in graphs_of.items() if len(graphs) > 1]
    assert all(key[0] == "sum" and len(key) == 4 for key in several)
    return len(graphs_of), len(expressions_of), len(several)


def test_equal_function_keys_are_equal_graphs_but_for_the_order_of_sums(tiny_supernet):
    chosen = [arch for group in equal_key_groups(40) for arch in group]
    n_keys, _, n_several = check_graph_keys(tiny_supernet, chosen)
    assert n_keys == 40
    assert n_several <= 1


@pytest.mark.slow
def test_graph_keys_of_all_archs(tiny_supernet):
    assert check_graph_keys(tiny_supernet, ALL) == (8_196, 8_162, 31)


def torch_cost(supernet, arch):
    """Multiply-adds by hooks and parameters by use, written without the space."""
    flops, used = [], {}

    def count(layer, inputs, output):
        used.update({id(p): p.numel() for p in layer.parameters()})
        if isinstance(layer, nn.Conv2d):
            flops.append(output[0].numel() * layer.weight[0].numel())
        elif isinstance(layer, nn.Linear):
            flops.append(layer.weight.numel() + layer.bias.numel())

    leaves = [layer for layer in supernet.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(count) for layer in leaves]
    options = supernet.options
    with torch.inference_mode():
        supernet(torch.zeros(1, options.in_channels, options.image_size, options.image_size), arch)
    for hook in hooks:
        hook.remove()
    return sum(used.values()), sum(flops)


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 6, "cells": 2, "image_size": 13, "n_classes": 7, "in_channels": 1},
        {"channels": 3, "cells": 1, "image_size": 5, "n_classes": 2},
    ],
)
def test_cost_equals_a_count_by_hooks(make_supernet, options):
    supernet = make_supernet(**options)
    # Every edge of these carries a signal to the output, as the benchmark's counting supposes.
    live = [arch for arch in ALL if NONE not in arch][::400]
    for arch in live:
        cost = SPACE.cost(arch, supernet.macro())
        assert (cost.params, cost.flops) == torch_cost(supernet, arch)
