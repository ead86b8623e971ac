import csv
import itertools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsx.errors import ArchError
from wsx.spaces import SPACES
from wsx.truth import load_truth

SPACE = SPACES["cell64"]
TEXTS = ["".join(digits) for digits in itertools.product("1234", repeat=3)]


def test_index_is_16a_4b_c_of_the_digits_from_zero():
    assert SPACE.n_archs == 64
    archs = list(SPACE.enumerate())
    assert [SPACE.format(arch) for arch in archs] == TEXTS
    assert [SPACE.parse(text) for text in TEXTS] == archs
    for text, arch in zip(TEXTS, archs, strict=True):
        a, b, c = (int(digit) - 1 for digit in text)
        assert arch == (a, b, c)
        assert SPACE.index(arch) == 16 * a + 4 * b + c


def test_digits_are_the_edges_in_the_papers_order():
    assert [decision.name for decision in SPACE.decisions] == ["0->1", "0->2", "1->2"]
    options = SPACE.decisions[0].options
    assert [options[int(digit) - 1].split("_")[0] for digit in "1234"] == [
        "max",
        "sep",
        "sep",
        "dil",
    ]
    assert SPACE.truth_text(SPACE.parse(" 434\n")) == "434"


@given(st.text())
@example("")
@example("4")
@example("4340")
@example("450")
@example("0.4")
@example("٤٣٤")
@example("1" * 100_000)
@example("-11")
def test_other_text_is_refused(text):
    if text.strip() in TEXTS:
        return
    with pytest.raises(ArchError, match="must be three digits from 1 to 4, such as 434") as caught:
        SPACE.parse(text)
    assert len(str(caught.value)) < 500


def test_the_public_table_is_read_by_the_usual_reader(shared_data):
    table = load_truth(f"{shared_data / 'cell64' / 'ground_truth.csv'}:accuracy_mean")
    rows, is_known = table.align([SPACE.truth_text(arch) for arch in SPACE.enumerate()])
    assert is_known.all()
    assert sorted(rows) == list(range(64))
    best, worst = table.accuracy.argmax(), table.accuracy.argmin()
    assert (table.texts[best], table.texts[worst]) == ("434", "111")
    assert table.accuracy[best] == pytest.approx(0.8516, abs=5e-5, rel=0)
    assert table.accuracy[worst] == pytest.approx(0.7014, abs=5e-5, rel=0)


@pytest.mark.parametrize("kind", ["csv", "text", "int64"])
def test_digits_that_a_table_holds_as_numbers_are_texts(tmp_path, kind):
    accuracies = [0.5 + index / 1000 for index in range(64)]
    if kind == "csv":
        path = tmp_path / "truth.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("arch", "accuracy"), *zip(TEXTS, accuracies, strict=True)])
    else:
        path = tmp_path / "truth.parquet"
        archs = TEXTS if kind == "text" else [int(text) for text in TEXTS]
        pq.write_table(pa.table({"arch": archs, "accuracy": accuracies}), path)
    table = load_truth(path)
    assert list(table.texts) == TEXTS
    assert table.align(["434"])[0].tolist() == [SPACE.index((3, 2, 3))]
