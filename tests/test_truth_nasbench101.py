from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wsx.errors import TruthError, UnknownNameError
from wsx.truth import read_truth, write_truth
from wsx.truth.nasbench101 import read_nasbench101

SHARED = Path(__file__).parents[2] / "shared" / "data" / "nb101"
HASHES = [bytes([i] * 16) for i in (7, 3, 255)]


def columns(**changes):
    test = [[0.5, 0.25, 0.75], [0.9, 0.9, 0.9], [0.1, 0.2, 0.3]]
    full = {"module_hash": pa.array(HASHES, pa.binary()), "params": [10, 20, 30]}
    for run in range(3):
        full[f"test_acc_{run + 1}"] = [accuracies[run] for accuracies in test]
        full[f"valid_acc_{run + 1}"] = [accuracies[run] / 2 for accuracies in test]
    return full | changes


def write(path, table):
    pq.write_table(pa.table(table), path)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table.parquet"


@pytest.mark.parametrize(("split", "scale"), [("test", 1.0), ("valid", 0.5)])
def test_rows_become_a_table(path, split, scale):
    table = read_nasbench101(write(path, columns()), split)
    assert table.texts == tuple(value.hex() for value in HASHES)
    assert np.allclose(table.accuracy, np.array([0.5, 0.9, 0.2]) * scale, rtol=0, atol=1e-12)
    assert table.per_seed.shape == (3, 3)
    assert table.per_seed[0].tolist() == [0.5 * scale, 0.25 * scale, 0.75 * scale]
    assert table.params.tolist() == [10, 20, 30]
    assert (table.space, table.dataset, table.split) == ("nasbench101", "cifar10", split)
    assert (table.source, table.info) == ("table.parquet", {"epochs": 108})


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(16), pa.string()])
def test_hashes_are_bytes_or_text(path, kind):
    values = HASHES if kind != pa.string() else [value.hex() for value in HASHES]
    table = read_nasbench101(write(path, columns(module_hash=pa.array(values, kind))))
    assert table.texts == tuple(value.hex() for value in HASHES)


def test_a_training_may_be_missing_and_the_table_is_written_again(path, tmp_path):
    table = read_nasbench101(write(path, columns(test_acc_2=[None, 0.9, 0.2])))
    assert table.accuracy[0] == 0.625
    write_truth(tmp_path / "own.parquet", table)
    assert read_truth(tmp_path / "own.parquet").digest == table.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"module_hash": pa.array([b"x", *HASHES[1:]])},
            "row 0: module_hash is '78', not 16 bytes",
        ),
        ({"module_hash": ["0" * 32, "1" * 32, "G" * 32]}, "row 2: module_hash is 'G{32}', not"),
        ({"module_hash": ["0" * 32, "1" * 32, "f" * 10_000]}, "row 2: module_hash is 'f{60}', not"),
        ({"module_hash": pa.array([HASHES[0], None, HASHES[2]])}, "row 1: module_hash is 'None'"),
        ({"module_hash": ["0" * 32, None, "1" * 32]}, "row 1: no arch in 'module_hash'"),
        ({"module_hash": [0.5, 1.5, 2.5]}, "is double, not text"),
        ({"module_hash": pa.array([HASHES[0]] * 3)}, "names arch '0707.*' twice"),
        ({"test_acc_1": [0.5, 95.0, 0.1]}, "gives arch '0303.*' the accuracy"),
        ({"test_acc_1": [0.5, -0.1, 0.1]}, "gives arch '0303.*' the accuracy"),
        ({f"test_acc_{i}": [0.5, None, 0.1] for i in (1, 2, 3)}, "row 1: no test accuracy of 0303"),
        ({f"test_acc_{i}": [0.5, np.nan, 0.1] for i in (1, 2, 3)}, "row 1: no test accuracy"),
        ({"test_acc_1": ["high", "0.9", "0.1"]}, "row 0: 'test_acc_1' is 'high', not a number"),
        ({"params": [10, 20.5, 30]}, "row 1: 'params' is 20.5, not a whole number"),
    ],
)
def test_bad_tables_are_refused(path, changes, message):
    with pytest.raises(TruthError, match=message):
        read_nasbench101(write(path, columns(**changes)))


def test_files_that_are_no_such_table(path, tmp_path):
    with pytest.raises(TruthError, match="cannot be read as parquet"):
        read_nasbench101(path)
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(TruthError, match="cannot be read as parquet"):
        read_nasbench101(path)
    with pytest.raises(TruthError, match=r"is a \.parquet or \.csv file"):
        read_nasbench101(tmp_path / "nasbench_only108.tfrecord")
    with pytest.raises(UnknownNameError, match=r"split named 'train'.*test"):
        read_nasbench101(write(path, columns()), "train")
    for missing in ("module_hash", "params", "test_acc_3"):
        left = {name: values for name, values in columns().items() if name != missing}
        with pytest.raises(UnknownNameError, match=f"no column of table.parquet named '{missing}'"):
            read_nasbench101(write(path, left))
    empty = {name: pa.array([], pa.float64()) for name in columns()}
    empty["module_hash"] = pa.array([], pa.binary())
    with pytest.raises(TruthError, match="holds no arch"):
        read_nasbench101(write(path, empty))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared NAS-Bench-101 tables are not here")
def test_the_public_table():
    table = read_nasbench101(SHARED / "ground_truth_subset.parquet")
    assert len(table) == 151_644
    best = int(np.argmax(table.accuracy))
    assert abs(table.accuracy[best] - 0.943176) < 1e-6
    assert table.params[best] == 32_426_634
    part = read_nasbench101(SHARED / "nb101_1shot1c_subset.parquet", "valid")
    full = read_nasbench101(SHARED / "ground_truth_subset.parquet", "valid")
    rows, is_known = full.align(part.texts)
    assert is_known.all()
    # The smaller table rounds to six decimals.
    assert np.abs(full.accuracy[rows] - part.accuracy).max() < 1e-6
    assert full.params[rows].tolist() == part.params.tolist()
    assert 0.5 < table.seed_agreement().kendall < 0.9
