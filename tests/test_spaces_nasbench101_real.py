from pathlib import Path

import pyarrow.parquet as pq
import pytest

from wsx.spaces import SPACES
from wsx.truth.nasbench101 import read_nasbench101

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "nb101"
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the shared NAS-Bench-101 tables are not here"
)

SPACE = SPACES["nasbench101"]
SHOT = SPACES["nasbench101-1shot1c"]
# All 151,644 rows agree (two minutes of work); the tests take a part of each kind.
STEP = 75


def arch_of(space, upper, ops):
    return space.parse(f"{upper}-{''.join('31m'[int(op)] for op in ops)}")


def rows_of(name, step):
    rows = pq.read_table(FOLDER / name).to_pylist()
    return rows[::step]


@pytest.mark.slow
def test_hashes_and_parameters_of_the_public_table():
    rows = rows_of("ground_truth_subset.parquet", STEP)
    assert len(rows) > 2000
    assert {row["vertices"] for row in rows} >= {5, 6, 7}
    for row in rows:
        arch = arch_of(SPACE, row["upper"], row["ops"])
        assert SPACE.truth_text(arch) == row["module_hash"].hex()
        assert SPACE.cost(arch, SPACE.reference_macro).params == row["params"]


@pytest.mark.slow
def test_encodings_of_the_fixed_fan_in_space_meet_their_hashes():
    hashes = {
        row["arch_id"]: row["module_hash"] for row in rows_of("nb101_1shot1c_subset.parquet", 1)
    }
    encodings = rows_of("nb101_1shot1c_encodings.parquet", 1)
    assert len(encodings) == 24_822
    archs = {arch_of(SHOT, row["upper"], row["ops"]) for row in encodings}
    assert len(archs) == 24_822
    for row in encodings[::STEP]:
        arch = arch_of(SHOT, row["upper"], row["ops"])
        assert SHOT.truth_text(arch) == hashes[row["arch_id"]]


def test_drawn_archs_meet_their_truth():
    table = read_nasbench101(FOLDER / "ground_truth_subset.parquet")
    encodings = rows_of("nb101_1shot1c_encodings.parquet", 500)
    texts = [SHOT.truth_text(arch_of(SHOT, row["upper"], row["ops"])) for row in encodings]
    rows, is_known = table.align(texts)
    assert is_known.all()
    assert rows.tolist() == [row["arch_id"] for row in encodings]
