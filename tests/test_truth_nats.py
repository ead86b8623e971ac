import bz2
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from wsx.errors import TruthError, UnknownNameError
from wsx.truth import load_truth, pickles, read_nats
from wsx.truth.pickles import read_pickle


def write(path, value):
    path.write_bytes(bz2.compress(value if isinstance(value, bytes) else pickle.dumps(value)))
    return path


def result(evaluations, params=0.5, latency=(0.01,)):
    return {
        "eval_acc1es": evaluations,
        "params": np.float64(params),
        "flop": np.float64(1.25),
        "latency": [np.float64(value) for value in latency],
        "train_times": OrderedDict({0: 12.5}),
    }


def record(index, seeds=(777, 888), **changes):
    full = {
        ("cifar10", seed): result({"ori-test@11": 1.0, "ori-test@199": 50.0 + index + seed / 1000})
        for seed in seeds
    }
    return {"200": {"arch_index": index, "arch_str": f"|{index}|", "all_results": full, **changes}}


def test_records_become_a_table(tmp_path):
    write(tmp_path / "000007.pickle.pbz2", record(7))
    write(tmp_path / "000002.pickle.pbz2", record(2, seeds=(888, 999)))
    (tmp_path / "meta.pickle.pbz2").write_bytes(b"passed over")
    table = read_nats(tmp_path)
    assert table.texts == ("|2|", "|7|")
    expected = np.array([[np.nan, 52.888, 52.999], [57.777, 57.888, np.nan]]) / 100
    assert np.allclose(table.per_seed, expected, rtol=0, atol=1e-12, equal_nan=True)
    assert np.allclose(table.accuracy, [0.529435, 0.578325], rtol=0, atol=1e-12)
    assert table.params.tolist() == [500_000] * 2
    assert table.flops.tolist() == [1_250_000] * 2
    assert table.info == {"epochs": 200, "seeds": [777, 888, 999], "latency_s": [0.01, 0.01]}
    assert (table.space, table.dataset, table.split) == ("nasbench201", "cifar10", "test")
    assert load_truth(tmp_path).digest == table.digest
    assert load_truth(f"{tmp_path}:cifar10_test@200").digest == table.digest


def test_datasets_and_schedules_that_are_not_there(tmp_path):
    write(tmp_path / "000007.pickle.pbz2", record(7))
    with pytest.raises(UnknownNameError, match=r"'cifar10 valid'.*cifar10-valid valid"):
        read_nats(tmp_path, "cifar10", "valid")
    with pytest.raises(TruthError, match="no training on cifar100 for 200 epochs"):
        read_nats(tmp_path, "cifar100")
    with pytest.raises(TruthError, match=r"record of 12 epochs \(KeyError"):
        load_truth(f"{tmp_path}:cifar10_test@12")
    with pytest.raises(TruthError, match="'accuracy' names no column of a NATS-Bench folder"):
        load_truth(f"{tmp_path}:accuracy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TruthError, match="holds no NATS-Bench record"):
        load_truth(tmp_path / "empty")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (record(8), "holds arch 8; was it renamed"),
        ([], "not laid out like"),
        ({"200": None}, "not laid out like"),
        (record(7, all_results=[1]), "not laid out like"),
        (record(7, all_results={("cifar10", "x"): {}}), "not laid out like"),
        (record(7, all_results={("cifar10", 1): {"latency": []}}), "not laid out like"),
        (
            record(7, all_results={("cifar10", 1): result({"ori-test@199": 105.0})}),
            "accuracies.*outside 0 to 100",
        ),
        (
            record(7, all_results={("cifar10", 1): result({"ori-test@199": np.nan})}),
            "nan.*outside 0 to 100",
        ),
    ],
)
def test_records_of_another_shape_are_refused(tmp_path, value, message):
    write(tmp_path / "000007.pickle.pbz2", value)
    with pytest.raises(TruthError, match=message):
        read_nats(tmp_path)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_runs_a_command_is_refused_by_name(tmp_path):
    victim = tmp_path / "ran"
    path = write(tmp_path / "000007.pickle.pbz2", {"200": Hostile(victim)})
    with pytest.raises(TruthError, match=rf"refused: .*{os.system.__module__}\.system"):
        read_nats(tmp_path)
    assert not victim.exists()
    pickle.loads(bz2.decompress(path.read_bytes()))
    assert victim.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cbuiltins\neval\n(V1+1\ntR.",
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.",
        b"\x80\x04\x8c\x0bcollections\x8c\x0bdefaultdict\x93.",
        pickle.dumps(np.zeros(3)),
        pickle.dumps(np.array(["x"], object)),
    ],
    ids=["eval", "attribute", "neighbour", "array", "objects"],
)
def test_other_globals_are_refused(tmp_path, data):
    with pytest.raises(TruthError, match="refused: the pickle asks for"):
        read_pickle(write(tmp_path / "x.pbz2", data))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.int32])
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_numpy_scalars_read_as_plain_numbers(tmp_path, kind, protocol):
    value = read_pickle(write(tmp_path / "x.pbz2", pickle.dumps(kind(-3), protocol)))
    assert value == -3
    assert type(value) in {int, float}


def test_old_numpy_module_name_is_known(tmp_path):
    data = pickle.dumps(np.float64(0.25), 3).replace(b"numpy._core", b"numpy.core")
    assert read_pickle(write(tmp_path / "x.pbz2", data)) == 0.25


def test_other_scalars_are_refused(tmp_path):
    for value in (np.str_("text"), np.complex128(1), np.datetime64("2020-01-01")):
        with pytest.raises(TruthError, match=r"NumPy scalar of type|asks for"):
            read_pickle(write(tmp_path / "x.pbz2", pickle.dumps(value)))
    swapped = pickle.dumps(np.float64(1), 3).replace(b"X\x01\0\0\0<", b"X\x01\0\0\0>")
    with pytest.raises(TruthError, match="byte order '>'"):
        read_pickle(write(tmp_path / "x.pbz2", swapped))


def test_bombs_and_damage_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "MAX_BYTES", 1 << 20)
    path = tmp_path / "x.pbz2"
    assert len(read_pickle(write(path, "a" * ((1 << 20) - 100)))) == (1 << 20) - 100
    with pytest.raises(TruthError, match="unpacks to more than 1048576 bytes"):
        read_pickle(write(path, bytes(1 << 24)))
    whole = bz2.compress(pickle.dumps(record(7)))
    for content in (whole[: len(whole) // 2], b"", whole[:3]):
        path.write_bytes(content)
        with pytest.raises(TruthError, match="truncated"):
            read_pickle(path)
    path.write_bytes(b"plain text")
    with pytest.raises(TruthError, match="not a readable pickle in bz2"):
        read_pickle(path)
    for data in (b"", b"\x80\x04", b"(", b"\x80\x09N.", pickle.dumps(record(7))[:-9]):
        with pytest.raises(TruthError, match="not a readable pickle in bz2"):
            read_pickle(write(path, data))
    with pytest.raises(TruthError, match="FileNotFoundError"):
        read_pickle(tmp_path / "none.pbz2")
