import csv
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsx.errors import OptionError, TruthError, UnknownNameError
from wsx.truth import TruthTable, load_truth, packaged_tables, read_truth, write_truth


def parquet(folder, **columns):
    path = folder / "t.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def comma(folder, text):
    path = folder / "t.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_percent_and_fraction_columns(tmp_path):
    path = parquet(tmp_path, arch=["a", "b"], test=[93.5, 10.0], valid=[0.935, 1.0], n=[1, 2])
    table = read_truth(path, "test", space="s", dataset="d", split="test")
    assert table.accuracy.tolist() == [0.935, 0.1]
    assert (table.space, table.dataset, table.split, table.source) == (
        "s",
        "d",
        "test",
        "t.parquet",
    )
    assert table.info == {"columns": ["test"], "is_percent": True}
    assert (table.per_seed, table.params, table.flops) == (None, None, None)
    assert read_truth(path, "valid").accuracy.tolist() == [0.935, 1.0]
    assert read_truth(path, "valid", percent=True).accuracy.tolist() == [0.00935, 0.01]
    assert load_truth(f"{path}:test").digest == read_truth(path, "test").digest
    assert load_truth(path, column="test").digest == read_truth(path, "test").digest
    with pytest.raises(OptionError, match="column is stated twice"):
        load_truth(f"{path}:test", column="valid")


def test_mixed_percents_and_fractions_are_refused_but_chance_level_is_not(tmp_path):
    path = parquet(tmp_path, arch=list("abc"), acc=[0.93, 94.1, 92.0])
    with pytest.raises(TruthError, match=r"acc runs from 0.93 to 94.1, with 1 of 3 values"):
        read_truth(path, "acc")
    assert read_truth(path, "acc", percent=True).accuracy[0] == 0.93 / 100
    with pytest.raises(TruthError, match=r"row 1: acc is 94.1, outside 0 to 1"):
        read_truth(path, "acc", percent=False)
    chance = [0.8333] + [40.0 + i / 10 for i in range(30)]
    path = parquet(tmp_path, arch=[str(i) for i in range(31)], acc=chance)
    assert abs(read_truth(path, "acc").accuracy[0] - 0.008333) < 1e-12


def test_several_columns_are_runs(tmp_path):
    path = parquet(tmp_path, arch=["a", "b"], one=[50.0, 60.0], two=[70.0, None])
    table = load_truth(f"{path}:one,two")
    assert np.allclose(table.accuracy, [0.6, 0.6], rtol=0, atol=1e-15)
    assert np.array_equal(table.per_seed, [[0.5, 0.7], [0.6, np.nan]], equal_nan=True)


def test_repeated_archs_are_runs_and_keep_their_first_order(tmp_path):
    text = "arch,accuracy,params\nb,50,7\na,20,9\nb,60,7\nb,70,7\n"
    table = read_truth(comma(tmp_path, text))
    assert table.texts == ("b", "a")
    assert np.allclose(table.accuracy, [0.6, 0.2], rtol=0, atol=1e-15)
    expected = [[0.5, 0.6, 0.7], [0.2, np.nan, np.nan]]
    assert np.array_equal(table.per_seed, expected, equal_nan=True)
    assert table.params.tolist() == [7, 9]
    with pytest.raises(TruthError, match=r"line 4: 'params' is 8, but an earlier row .* has 7"):
        read_truth(comma(tmp_path, text.replace("60,7", "60,8")))
    many = "arch,accuracy\n" + "a,0.5\n" * 1001
    with pytest.raises(TruthError, match="arch 'a' has 1001 trainings"):
        read_truth(comma(tmp_path, many))


def test_arch_column_by_name_or_option(tmp_path):
    path = parquet(tmp_path, architecture=["{1}", "{2}"], genotype=["g", "h"], accuracy=[0.1, 0.2])
    assert read_truth(path).texts == ("g", "h")
    assert read_truth(path, arch_column="architecture").texts == ("{1}", "{2}")
    with pytest.raises(UnknownNameError, match="Did you mean genotype"):
        read_truth(path, arch_column="genotpye")
    path = parquet(tmp_path, arch=pa.array(["x", "y"]).dictionary_encode(), accuracy=[0.1, 0.2])
    assert read_truth(path).texts == ("x", "y")


def test_unknown_column_is_suggested(tmp_path):
    path = parquet(tmp_path, arch=["a"], cifar10_test=[50.0])
    with pytest.raises(UnknownNameError, match=r"'cifar_test'.*Did you mean cifar10_test"):
        load_truth(f"{path}:cifar_test")
    with pytest.raises(TruthError, match=r"no column 'accuracy'; name one.*cifar10_test"):
        load_truth(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"arch": pa.array([], pa.string()), "accuracy": pa.array([], pa.float64())},
            "holds no arch",
        ),
        ({"accuracy": [0.5]}, "no column named arch"),
        ({"arch": ["a", "b"], "accuracy": [0.5, float("nan")]}, "row 1: no accuracy"),
        ({"arch": ["a", "b"], "accuracy": [0.5, None]}, "row 1: no accuracy"),
        ({"arch": ["a", "b"], "accuracy": [50.0, 105.0]}, "row 1: accuracy is 105.0, outside 0 to"),
        ({"arch": ["a", "b"], "accuracy": [0.5, -0.1]}, "row 1: accuracy is -0.1, outside"),
        ({"arch": ["a", "b"], "accuracy": [0.5, float("inf")]}, "mixed"),
        ({"arch": ["a", "b"], "accuracy": [50.0, float("inf")]}, "row 1: accuracy is inf, outside"),
        (
            {"arch": ["a", "b"], "accuracy": ["0.5", "good"]},
            "row 1: 'accuracy' is 'good', not a nu",
        ),
        ({"arch": ["a"], "accuracy": [[0.5]]}, "'accuracy' is list<.*not a number"),
        ({"arch": ["a", None], "accuracy": [0.5, 0.6]}, "row 1: no arch in 'arch'"),
        ({"arch": ["a", ""], "accuracy": [0.5, 0.6]}, "row 1: no arch in 'arch'"),
        ({"arch": [0.5], "accuracy": [0.5]}, "arch column 'arch' is double, not text"),
        (
            {"arch": ["a"], "accuracy": [0.5], "params": [0.8]},
            "row 0: 'params' is 0.8, not a whole",
        ),
        ({"arch": ["a"], "accuracy": [0.5], "flops": [-1]}, "row 0: 'flops' is -1"),
        (
            {"arch": ["a"], "accuracy": [0.5], "flops": [None]},
            "column 'flops' is null, not a number",
        ),
    ],
)
def test_wrong_parquet_tables_are_refused(tmp_path, columns, message):
    with pytest.raises(TruthError, match=message):
        read_truth(parquet(tmp_path, **columns))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line must name each column once"),
        ("arch,accuracy\n", "holds no arch"),
        ("arch,arch\na,b\n", "each column once"),
        ("arch,accuracy\na,0.5\n\nb\n", "line 4: 1 cells, not 2"),
        ("arch,accuracy\na,0.5\nb,\n", "line 3: no accuracy"),
        ("arch,accuracy\na,0.5\nb,nan\n", "line 3: no accuracy"),
        ('arch,accuracy\n"a\nb",0.5\nc,93%\n', "line 4: 'accuracy' is '93%', not a number"),
        ('arch,accuracy\n"a,0.5\n', "cannot be read as csv"),
        ("arch,accuracy\n\0,0.5\n\0", "t.csv"),
        ("# wsx.truth {oops\narch,accuracy\na,0.5\n", "damaged metadata"),
        ("# wsx.truth []\narch,accuracy\na,0.5\n", "metadata must be an object"),
        (
            '# wsx.truth {"format_version": 2}\narch,accuracy\na,0.5\n',
            "of format 2, this wsx reads 1",
        ),
    ],
)
def test_wrong_csv_tables_are_refused(tmp_path, text, message):
    with pytest.raises(TruthError, match=message):
        read_truth(comma(tmp_path, text))


def test_damaged_and_missing_files_are_refused(tmp_path):
    path = parquet(tmp_path, arch=["a"] * 99, accuracy=[0.5] * 99)
    whole = path.read_bytes()
    for content in (whole[:100], whole[:-100], b"", b"PAR1PAR1"):
        path.write_bytes(content)
        with pytest.raises(TruthError, match="cannot be read as parquet"):
            read_truth(path)
    binary = tmp_path / "t.csv"
    binary.write_bytes(b"arch,accuracy\n\xff\xfe,0.5\n")
    with pytest.raises(TruthError, match="cannot be read as csv"):
        read_truth(binary)
    with pytest.raises(TruthError, match=r"a truth table is a \.parquet or \.csv file"):
        read_truth(tmp_path / "t.json")
    for spec in (tmp_path / "none.parquet", f"{tmp_path}/none.csv:accuracy", "none.csv"):
        with pytest.raises(TruthError, match="does not exist"):
            load_truth(spec)


def test_columns_that_are_better_when_lower_are_refused(tmp_path):
    path = parquet(tmp_path, arch=["a", "b"], latency_ms=[59.4, 61.0])
    with pytest.raises(TruthError, match="'latency_ms' does not sound like an accuracy"):
        load_truth(f"{path}:latency_ms")


def equal(one, other):
    return one.digest == other.digest and dict(one.info) == dict(other.info)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
fractions = st.floats(0, 1)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.dictionaries(
        texts,
        st.tuples(st.lists(st.none() | fractions, min_size=2, max_size=2), st.integers(0, 2**50)),
        min_size=1,
        max_size=6,
    ),
    first=fractions,
    has_seeds=st.booleans(),
    has_sizes=st.booleans(),
    suffix=st.sampled_from(["parquet", "csv"]),
    note=st.text(),
)
def test_what_is_written_reads_back_equal(rows, first, has_seeds, has_sizes, suffix, note):
    seeds = [[first, *(np.nan if s is None else s for s in row[0])] for row in rows.values()]
    sizes = np.array([row[1] for row in rows.values()], np.int64)
    table = TruthTable(
        space='toy, "quoted"',
        dataset=note,
        split="test",
        source="a\nb",
        texts=tuple(rows),
        accuracy=np.nanmean(seeds, axis=1),
        per_seed=np.array(seeds) if has_seeds else None,
        params=sizes if has_sizes else None,
        flops=sizes[::-1] if has_sizes else None,
        info={"note": note, "seeds": [1, 2]},
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t.{suffix}"
        write_truth(path, table)
        assert equal(load_truth(path), table)


def test_written_files_open_elsewhere(tmp_path):
    table = read_truth(parquet(tmp_path, arch=["a", "b"], accuracy=[0.25, 0.5]))
    write_truth(tmp_path / "own.parquet", table)
    contents = pq.read_table(tmp_path / "own.parquet")
    assert contents.to_pydict() == {"arch": ["a", "b"], "accuracy": [0.25, 0.5]}
    assert json.loads(contents.schema.metadata[b"wsx.truth"])["source"] == "t.parquet"
    write_truth(tmp_path / "own.csv", table)
    with (tmp_path / "own.csv").open() as file:
        next(file)
        assert list(csv.reader(file)) == [["arch", "accuracy"], ["a", "0.25"], ["b", "0.5"]]


def test_writing_where_it_cannot_be_is_refused(tmp_path):
    table = read_truth(parquet(tmp_path, arch=["a"], accuracy=[0.5]))
    with pytest.raises(TruthError, match=r"\.parquet or \.csv"):
        write_truth(tmp_path / "t.txt", table)
    for suffix in ("parquet", "csv"):
        with pytest.raises(TruthError, match="cannot be written"):
            write_truth(tmp_path / "none" / f"t.{suffix}", table)


def test_packaged_names(monkeypatch, tmp_path):
    (tmp_path / "tables").mkdir()
    source = parquet(tmp_path, arch=["a", "b"], accuracy=[0.25, 0.5])
    write_truth(tmp_path / "tables" / "digits-toy.parquet", read_truth(source, dataset="digits"))
    monkeypatch.setattr("wsx.truth.load.files", lambda package: tmp_path)
    assert packaged_tables() == ["digits-toy"]
    assert load_truth("digits-toy").dataset == "digits"
    assert load_truth("digits-toy:accuracy").accuracy.tolist() == [0.25, 0.5]
    with pytest.raises(UnknownNameError, match=r"'digits-toi'.*Did you mean digits-toy"):
        load_truth("digits-toi")


def test_every_packaged_table_loads():
    for name in packaged_tables():
        assert len(load_truth(name)) > 0
    with pytest.raises(UnknownNameError, match="no packaged truth table"):
        load_truth("nothing-of-the-kind")
