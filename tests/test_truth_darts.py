import json

import numpy as np
import pytest

from wsx.errors import TruthError
from wsx.spaces import SPACES
from wsx.truth import load_truth
from wsx.truth.nds import genotype_text, read_nds

DARTS, NDS = SPACES["darts"], SPACES["darts-nds"]


def drawn(space, n):
    return space.sample(n, rng=np.random.default_rng(0), measure="encodings")


def test_the_public_table_is_read_by_the_usual_reader_whatever_the_order_of_pairs(shared_data):
    path = shared_data / "darts" / "ground_truth.parquet"
    table = load_truth(f"{path}:accuracy,accuracy_seed43")
    archs = [DARTS.parse(text) for text in table.texts]
    assert len({DARTS.truth_text(arch) for arch in archs}) == len(table) == 377
    assert table.params.tolist() == [
        DARTS.cost(arch, DARTS.reference_macro).params for arch in archs
    ]
    assert np.isfinite(table.per_seed).sum(axis=0).tolist() == [377, 101]
    assert table.seed_agreement().kendall == pytest.approx(0.584, abs=5e-4, rel=0)
    by_json = load_truth(f"{path}:accuracy", arch_column="architecture")
    assert [DARTS.parse(text) for text in by_json.texts] == archs


# NDS -------------------------------------------------------------------------------------------------------


def entry(arch, error, *, width=16, depth=20, **changes):
    """A training as the format's description has it: errors in percent, of each epoch."""
    cells = [[list(pair) for node in cell for pair in node] for cell in NDS.cells(arch)]
    concat = [2, 3, 4, 5]
    genotype = {
        "normal": cells[0],
        "normal_concat": concat,
        "reduce": cells[1],
        "reduce_concat": concat,
    }
    usual = {
        "job_id": 1,
        "rng_seed": 1,
        "params": 500_000,
        "flops": 80_000_000.0,
        "net": {
            "genotype": genotype,
            "width": width,
            "depth": depth,
            "aux": False,
            "drop_prob": 0.0,
        },
        "optim": {"base_lr": 0.1, "wd": 5e-4, "max_ep": 3},
        "min_test_top1": error - 1,
        "train_ep_top1": [80.0, 20.0, 1.0],
        "test_ep_top1": [70.0, error - 1, error],
    }
    return usual | changes


def write_sweep(path, entries):
    path.write_text(json.dumps(entries))
    return path


def test_accuracy_is_that_of_the_last_epoch_and_repeats_are_runs(tmp_path):
    one, other = drawn(NDS, 2)
    swapped = NDS.parse(NDS.truth_text(one))
    assert swapped != one
    entries = [entry(one, 6.0), entry(other, 8.5, width=32), entry(swapped, 7.0, depth=4)]
    table = read_nds(write_sweep(tmp_path / "DARTS.json", entries))
    assert table.texts == (NDS.truth_text(one), NDS.truth_text(other))
    np.testing.assert_allclose(table.accuracy, [0.935, 0.915], rtol=1e-12)
    np.testing.assert_allclose(table.per_seed, [[0.94, 0.93], [0.915, np.nan]], rtol=1e-12)
    assert (table.space, table.dataset, table.split, table.source) == (
        "darts-nds",
        "cifar10",
        "test",
        "DARTS.json",
    )
    assert table.info == {"width": [16, 32], "depth": [4, 20], "epochs": [3, 3], "n_trainings": 3}
    assert table.params.tolist() == [500_000] * 2
    assert table.flops.tolist() == [80_000_000] * 2


def test_width_and_depth_select(tmp_path):
    one, other = drawn(NDS, 2)
    entries = [entry(one, 6.0), entry(other, 8.5, width=32), entry(one, 7.0, depth=4, params=9)]
    path = write_sweep(tmp_path / "DARTS.json", entries)
    table = read_nds(path, width=16, depth=20)
    assert table.texts == (NDS.truth_text(one),)
    assert table.per_seed is None
    assert table.params.tolist() == [500_000]
    # Two sizes of one genotype have no params in common.
    assert read_nds(path).params is None
    assert len(read_nds(path, width=32)) == 1
    with pytest.raises(TruthError, match="no training of width 24, depth any"):
        read_nds(path, width=24)


def broken(**changes):
    good = entry(drawn(NDS, 1)[0], 6.0)
    return [good, {key: value for key, value in (good | changes).items() if value is not ...}]


def with_net(change):
    good = json.loads(json.dumps(entry(drawn(NDS, 1)[0], 6.0)))
    change(good["net"])
    return [good]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "no training of width any"),
        ({"top": [], "mid": []}, "holds a dict, not an NDS list"),
        ([1], "entry 0, is not laid out"),
        (broken(net=...), r"entry 1, .*KeyError: 'net'"),
        (broken(test_ep_top1=[]), "IndexError"),
        (broken(test_ep_top1=[50.0, float("nan")]), "not an error in percent: nan"),
        (broken(test_ep_top1=[50.0, 101.0]), "not an error in percent: 101.0"),
        (broken(test_ep_top1=["6"]), "TypeError"),
        (broken(params=-1), "not a count: -1"),
        (broken(params=10**400), "not a count: 1000"),
        (broken(flops=float("inf")), "not a count: inf"),
        (broken(flops=1.5), "not a count: 1.5"),
        (with_net(lambda net: net["genotype"]["normal"].pop()), "a cell has 7 pairs"),
        (with_net(lambda net: net["genotype"].update(reduce_concat=[5])), "gives its nodes .5."),
        (
            with_net(lambda net: net["genotype"]["normal"].__setitem__(0, ["none", 2])),
            "pair 0 of a cell",
        ),
        (
            with_net(lambda net: net["genotype"]["normal"].__setitem__(0, ["a' b", 0])),
            "pair 0 of a cell",
        ),
        (with_net(lambda net: net.pop("width")), "KeyError: 'width'"),
    ],
)
def test_files_of_another_layout_are_refused(tmp_path, entries, message):
    with pytest.raises(TruthError, match=message) as caught:
        read_nds(write_sweep(tmp_path / "DARTS.json", entries))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "content", [b"", b"[{", b"\xff\xfe", b"[" * 100_000, b"[" + b"9" * 5000 + b"]"]
)
def test_damaged_files_are_refused(tmp_path, content):
    path = tmp_path / "DARTS.json"
    path.write_bytes(content)
    with pytest.raises(TruthError, match=r"DARTS\.json is no readable JSON"):
        read_nds(path)
    with pytest.raises(TruthError, match="no readable JSON"):
        read_nds(tmp_path / "missing.json")


def test_the_genotype_text_is_that_of_the_spaces():
    for space in (DARTS, NDS):
        for arch in drawn(space, 100):
            pairs = [[pair for node in cell for pair in node] for cell in space.cells(arch)]
            assert genotype_text(*pairs) == space.truth_text(arch)
