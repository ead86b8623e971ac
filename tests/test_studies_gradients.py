"""Gradients compared at a checkpoint of a run, their table on disk, and the command."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from timeline_runs import RECIPE, SPACE, timeline_run

from wsx.analysis import Resampling, shared_decisions, spearman
from wsx.errors import CheckpointError, OptionError, ShapeError, StoreError
from wsx.spaces.choice import ArchChoice
from wsx.store.pairs import PairTable, read_pairs, write_pairs
from wsx.studies.gradients import GradientImages, agreement, compare_gradients
from wsx.supernets.checkpoint import file_sha256, load_tensors, save_tensors
from wsx.training import DataSpec, RunConfig, open_run, train_supernet
from wsx.training.gradients import arch_gradients, gradient_batches

TEXTS = ("111", "234", "432", "333", "334", "134")
CHOICE = ArchChoice(texts=TEXTS)
IMAGES = GradientImages(32, 16, 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return timeline_run(tmp_path_factory.getbasetemp(), 0)


@pytest.fixture(scope="module")
def table(run):
    return compare_gradients(run, CHOICE, IMAGES)


def test_the_table_is_of_the_checkpoint_and_the_images(run, table):
    net, found = run.load()
    batches = gradient_batches(run.config.data.load().train, n_images=32, batch_size=16, seed=3)
    archs = [SPACE.parse(text) for text in TEXTS]
    rows = arch_gradients(net, archs, batches, RECIPE, seed=3)
    for a in range(len(archs)):
        for b in range(a):
            pairs = [
                (part.values[rows_of.index(a)], part.values[rows_of.index(b)])
                for part in rows
                if {a, b} <= set(rows_of := part.archs.tolist())
            ]
            x, y = (
                np.concatenate(values).astype(np.float64) for values in zip(*pairs, strict=True)
            )
            right = x @ y / math.sqrt((x @ x) * (y @ y))
            assert table.columns["cosine"][a, b] == pytest.approx(right, rel=0, abs=1e-12)
            assert table.columns["n_weights"][a, b] == x.size
    assert np.array_equal(table.columns["n_shared_decisions"], shared_decisions(archs))
    assert table.texts == TEXTS
    assert table.info["checkpoint_sha256"] == found.sha256 == file_sha256(run.checkpoint_path())
    assert table.info["checkpoint"] == "epoch-0002"


def test_common_weights_are_those_that_every_arch_uses(run, table):
    # Two archs have in common all that both use; more archs, less.
    pair = compare_gradients(run, ArchChoice(texts=("333", "334")), IMAGES)
    alone = pair.columns["cosine"][0, 1]
    assert pair.columns["cosine_common"][0, 1] == alone
    places = [TEXTS.index(text) for text in ("333", "334")]
    among_all = table.columns["cosine_common"][*places]
    assert table.columns["cosine"][*places] == pytest.approx(alone, rel=0, abs=1e-12)
    assert abs(among_all - alone) > 1e-6


def test_other_seeds_and_checkpoints_are_other_gradients(run, table):
    again = compare_gradients(run, CHOICE, IMAGES)
    for name, values in table.columns.items():
        assert np.array_equal(again.columns[name], values)
    assert again.info == table.info
    for other in (
        compare_gradients(run, CHOICE, GradientImages(32, 16, 4)),
        compare_gradients(run, CHOICE, GradientImages(32, 32, 3)),
        compare_gradients(run, CHOICE, IMAGES, checkpoint="epoch-0001"),
    ):
        assert not np.array_equal(other.columns["cosine"], table.columns["cosine"])
        assert np.array_equal(other.columns["n_weights"], table.columns["n_weights"])


def test_one_batch_of_the_recipe_unless_told(run):
    info = compare_gradients(run, CHOICE, GradientImages()).info
    assert (info["n_images"], info["batch_size"], info["image_seed"]) == (32, 32, 0)


def test_archs_named_twice_are_compared_once(run):
    found = compare_gradients(run, ArchChoice(texts=("111", "234", "111")), IMAGES)
    assert found.texts == ("111", "234")


@pytest.mark.parametrize(
    ("texts", "images", "error", "message"),
    [
        (("111", "111"), IMAGES, OptionError, "1 arch makes no pair"),
        (("111", "234"), GradientImages(0), OptionError, "images are 0"),
        (("111", "234"), GradientImages(16, 0), OptionError, "batch size 0"),
    ],
)
def test_wrong_choices_are_refused(run, texts, images, error, message):
    with pytest.raises(error, match=message):
        compare_gradients(run, ArchChoice(texts=texts), images)
    with pytest.raises(CheckpointError, match="epoch-0007"):
        compare_gradients(run, CHOICE, IMAGES, checkpoint="epoch-0007")


def planted_table(cosine, n_shared, common=None):
    n = len(cosine)
    columns = {
        "cosine": np.array(cosine, dtype=float),
        "cosine_common": np.array(cosine if common is None else common, dtype=float),
        "n_weights": np.full((n, n), 9),
        "n_shared_decisions": np.array(n_shared),
    }
    info = {"run": "r", "checkpoint": "c", "n_images": 4, "batch_size": 2, "image_seed": 0}
    return PairTable(tuple(map(str, range(n))), columns, info)


def test_a_planted_relation_is_found():
    rng = np.random.default_rng(0)
    shared = shared_decisions(np.array(list(np.ndindex(3, 3, 3))))
    noise, nothing = (kicks + kicks.T for kicks in rng.normal(0, 0.01, (2, *shared.shape)))
    cosine = 0.2 + 0.1 * shared + noise
    found = agreement(planted_table(cosine, shared, nothing), Resampling(n_resamples=99))
    upper = np.triu_indices(27, 1)
    rho = spearman(cosine[upper], shared[upper])
    assert found.relation.rho.value == pytest.approx(rho, rel=0, abs=1e-12)
    assert found.relation.slope == pytest.approx(0.1, rel=0, abs=0.005)
    assert found.relation.p_value == 0.01
    assert found.common.p_value > 0.05
    assert (found.n_pairs, found.n_undefined) == (27 * 26 // 2, 0)
    assert list(found.by_shared) == [0, 1, 2]
    assert found.by_shared[2] == pytest.approx(cosine[shared == 2].mean(), rel=0, abs=1e-12)
    assert found.mean.value == pytest.approx(cosine[upper].mean(), rel=0, abs=1e-12)


def test_pairs_without_a_cosine_are_counted_and_null():
    nan = math.nan
    cosine = [[1, 0.5, nan], [0.5, 1, nan], [nan, nan, nan]]
    shared = [[2, 1, 0], [1, 2, 0], [0, 0, 2]]
    found = agreement(planted_table(cosine, shared, np.full((3, 3), nan)))
    values = found.as_dict()
    assert (values["pairs"], values["pairs_without_cosine"]) == (3, 2)
    assert values["mean_cosine_by_shared"] == {"0": None, "1": 0.5}
    assert values["shared_operations"]["rho"] is None
    assert values["shared_operations"]["reason"]
    json.dumps(values, allow_nan=False)
    assert "nan" not in found.facts()["rho of cosine and operations shared"]
    assert "0.500" in found.facts()["mean cosine"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_of_pairs_come_back(tmp_path, suffix):
    values = np.array([[1.0, 0.25, math.nan], [0.25, 1.0, -0.5], [math.nan, -0.5, 1.0]])
    counts = np.array([[9, 2, 0], [2, 8, 3], [0, 3, 7]])
    table = PairTable(("a,b", "c", "d"), {"cosine": values, "n": counts}, {"seed": 3})
    path = tmp_path / f"pairs.{suffix}"
    write_pairs(table, path)
    if suffix == "parquet":
        found = read_pairs(path)
        assert (found.texts, found.info) == (table.texts, table.info)
        assert np.array_equal(found.columns["cosine"], values, equal_nan=True)
        assert np.array_equal(found.columns["n"], counts)
        return
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 6
    for row in rows:
        i, j = table.texts.index(row["arch"]), table.texts.index(row["other"])
        assert float(row["cosine"]) == pytest.approx(values[i, j], rel=0, abs=0, nan_ok=True)
        assert int(row["n"]) == counts[i, j]
    assert json.loads((tmp_path / "pairs.csv.json").read_text()) == {"seed": 3}


def test_files_that_are_no_tables_of_pairs_are_refused(tmp_path):
    import pyarrow.parquet as pq

    table = PairTable(("a", "b"), {"n": np.eye(2)}, {})
    path = tmp_path / "pairs.parquet"
    for name in ("missing.parquet", "text.parquet"):
        (tmp_path / "text.parquet").write_text("no table")
        with pytest.raises(StoreError, match=name):
            read_pairs(tmp_path / name)
    write_pairs(table, path)
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(StoreError, match="its 2 rows are not all pairs"):
        read_pairs(path)
    with pytest.raises(OptionError, match=r"\.csv or \.parquet"):
        write_pairs(table, tmp_path / "pairs.h5")
    with pytest.raises(StoreError, match="cannot write"):
        write_pairs(table, tmp_path / "none" / "pairs.csv")
    with pytest.raises(ShapeError, match=r"\(3, 3\)"):
        PairTable(("a", "b"), {"n": np.eye(3)}, {})


def test_the_command_prints_and_writes_what_the_library_finds(wsx, run, table, tmp_path):
    archs = tmp_path / "archs.txt"
    archs.write_text("\n".join(TEXTS))
    out = tmp_path / "pairs.parquet"
    command = ["gradients", run.path, "--archs", archs, "--images", "32", "--batch-size", "16"]
    command += ["--image-seed", "3", "--resamples", "50", "--quiet"]
    code, printed, error = wsx(*command, "--out", out, "--json")
    assert (code, error) == (0, "")
    found = agreement(table, Resampling(n_resamples=50)).as_dict()
    assert json.loads(printed) == {"table": str(out), **json.loads(json.dumps(found))}
    assert np.array_equal(read_pairs(out).columns["cosine"], table.columns["cosine"])
    code, printed, error = wsx(*command)
    assert (code, error) == (0, "")
    assert f"{found['mean_cosine']:.3f}" in printed
    assert f"{found['shared_operations']['p_value']:.3f}" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--n", "4", "--checkpoint", "epoch-0009"], "has no checkpoint 'epoch-0009'"),
        (["RUN", "--n", "4", "--images", "0"], "images are 0"),
        (["RUN", "--n", "4", "--batch-size", "0"], "batch size 0"),
        (["RUN", "--n", "4", "--images", "33"], "a multiple of the batch size"),
        (["RUN", "--n", "4", "--images", "6400"], "has 64"),
        (["RUN", "--n", "4", "--image-seed", "-1"], "seed is -1"),
        (["RUN", "--n", "4", "--level", "2"], "level must lie in (0, 1)"),
        (["RUN", "--n", "4", "--out", "pairs.h5"], "must end in .csv or .parquet"),
        (["RUN", "--n", "1"], "makes no pair"),
        (["RUN"], "exactly one of --n, --archs and --all"),
        (["RUN", "--archs", "WRONG"], "999"),
        (["NOWHERE", "--n", "4"], "holds no run"),
        (["BROKEN", "--n", "4"], "is nan; the supernet has diverged"),
    ],
)
def test_wrong_options_are_one_line(wsx, run, tmp_path, arguments, message):
    (tmp_path / "wrong.txt").write_text("999\n")
    broken = tmp_path / "broken"
    (broken / "checkpoints").mkdir(parents=True)
    (broken / "run.json").write_text((run.path / "run.json").read_text())
    tensors, facts = load_tensors(run.checkpoint_path())
    tensors["stem.0.weight"] = torch.full_like(tensors["stem.0.weight"], math.nan)
    save_tensors(broken / "checkpoints" / "epoch-0002.safetensors", tensors, facts)
    places = {"RUN": run.path, "NOWHERE": tmp_path / "no", "BROKEN": broken}
    places["WRONG"] = tmp_path / "wrong.txt"
    code, out, err = wsx("gradients", *[places.get(a, a) for a in arguments], "--quiet")
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_grouped_runs_and_other_spaces(tmp_path):
    data = DataSpec("digits", n_train=64, n_valid=20, n_test=40)
    sharing = {"groups": "by:0->1", "shared": "none"}
    config = RunConfig("cell64", RECIPE, data, 0, sharing=sharing)
    run = train_supernet(config, tmp_path / "grouped")
    found = compare_gradients(open_run(run.path), CHOICE, IMAGES)
    is_same = np.array([[a[0] == b[0] for a in TEXTS] for b in TEXTS])
    assert np.array_equal(found.columns["n_weights"] > 0, is_same)
    assert np.array_equal(np.isfinite(found.columns["cosine"]), is_same)
    assert np.isnan(found.columns["cosine_common"]).all()
    assert agreement(found).as_dict()["pairs_without_cosine"] == int((~is_same).sum()) // 2
