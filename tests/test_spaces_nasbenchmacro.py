import itertools

import pyarrow.parquet as pq
import pytest

from wsx.errors import ArchError
from wsx.spaces import SPACES
from wsx.spaces.nasbenchmacro import NASBENCHMACRO, canonical, layers
from wsx.truth import load_truth

CIFAR = {"channels": 32, "n_classes": 10, "in_channels": 3, "image_size": 32}
TRIALS = ("test_acc_1", "test_acc_2", "test_acc_3")


@pytest.fixture(scope="module")
def table(shared_data):
    return pq.read_table(shared_data / "macro" / "ground_truth.parquet").to_pylist()


def test_size_decisions_and_layers():
    assert SPACES["nasbenchmacro"] is NASBENCHMACRO
    assert NASBENCHMACRO.n_archs == 6561
    assert [d.name for d in NASBENCHMACRO.decisions][1:3] == ["stage0_layer1", "stage1_layer0"]
    assert {d.options for d in NASBENCHMACRO.decisions} == {("Identity", "MB3_K3", "MB6_K5")}
    first = [(64, 2), (64, 1), (128, 2), (128, 1), (128, 1), (256, 2), (256, 1), (256, 1)]
    assert layers(32) == first


def test_text_and_order_are_those_of_the_table(table):
    assert [row["arch"] for row in table] == [
        NASBENCHMACRO.format(arch) for arch in NASBENCHMACRO.enumerate()
    ]
    for index in (0, 1, 80, 6560):
        arch = NASBENCHMACRO.parse(table[index]["arch"])
        assert NASBENCHMACRO.index(arch) == index
        assert NASBENCHMACRO.arch_at(index) == arch


@pytest.mark.parametrize(
    "text",
    ["", "0000000", "000000000", "00000003", "0000 000", "-0000001", "\u06600000000", "2" * 10**6],
)
def test_bad_texts_are_refused(text):
    with pytest.raises(ArchError, match="8 digits from 0 to 2"):
        NASBENCHMACRO.parse(text)


def test_cost_equals_the_whole_table(table):
    wrong = [
        row["arch"]
        for row in table
        if (cost := NASBENCHMACRO.cost(NASBENCHMACRO.parse(row["arch"]), CIFAR)).params
        != row["params"]
        or cost.flops != row["flops"]
    ]
    assert len(table) == 6561
    assert wrong == []


def test_networks_are_counted_by_stage():
    networks = NASBENCHMACRO.population("networks")
    # A stage is its first layer and what is no identity among the others, in order.
    behind = {n: sum(2**k for k in range(n + 1)) for n in (1, 2)}
    assert len(networks) == (3 * behind[1]) * (3 * behind[2]) ** 2 == 3969
    blocks = {tuple(tuple(s) for s in stages(arch)) for arch in NASBENCHMACRO.enumerate()}
    assert len(blocks) == 3969
    assert {stages_text(arch) for arch in networks} == {str(b) for b in blocks}
    assert NASBENCHMACRO.population("encodings") is None


def stages(arch):
    starts = itertools.accumulate((2, 3, 3), initial=0)
    for start, n in zip(starts, (2, 3, 3), strict=False):
        yield arch[start], *(option for option in arch[start + 1 : start + n] if option)


def stages_text(arch):
    return str(tuple(tuple(stage) for stage in stages(arch)))


def test_the_benchmark_trained_one_of_each_network(table):
    by_text = {row["arch"]: [row[name] for name in TRIALS] for row in table}
    for text, trials in by_text.items():
        arch = canonical(NASBENCHMACRO.parse(text))
        assert by_text[NASBENCHMACRO.format(arch)] == trials
    assert canonical((0, 0, 0, 0, 1, 2, 0, 2)) == (0, 0, 0, 1, 0, 2, 2, 0)


def test_truth_has_three_trials(shared_data):
    path = shared_data / "macro" / "ground_truth.parquet"
    truth = load_truth(f"{path}:{','.join(TRIALS)}")
    assert truth.per_seed.shape == (6561, 3)
    rows, is_known = truth.align(["21020112", "00000000"])
    assert is_known.all()
    assert truth.accuracy[rows[1]] == pytest.approx(0.453633, abs=1e-6)
    costs = [NASBENCHMACRO.cost(NASBENCHMACRO.parse(t), CIFAR) for t in ("21020112", "00000000")]
    assert truth.params[rows].tolist() == [cost.params for cost in costs]
    assert truth.seed_agreement().kendall > 0.8
