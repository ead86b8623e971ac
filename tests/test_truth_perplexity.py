import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from wsx.errors import TruthError
from wsx.truth import TruthTable, load_truth, read_truth, write_truth


def parquet(tmp_path, **columns):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_perplexities_become_losses(tmp_path):
    path = parquet(tmp_path, arch=["a", "b"], test_ppl=[50.0, 75.5])
    table = load_truth(f"{path}:test_ppl")
    assert (table.metric, table.info["columns"]) == ("loss", ["test_ppl"])
    assert table.loss.tolist() == [np.log(50.0), np.log(75.5)]
    assert table.goodness.tolist() == [-np.log(50.0), -np.log(75.5)]
    assert np.isnan(table.accuracy).all()
    # The lower perplexity is the better one.
    assert table.goodness.argmax() == 0


def test_accuracies_are_what_they_were(tmp_path):
    table = load_truth(f"{parquet(tmp_path, arch=['a', 'b'], acc=[0.5, 0.75])}:acc")
    assert (table.metric, table.loss, table.goodness.tolist()) == ("accuracy", None, [0.5, 0.75])


def test_two_seeds_are_two_runs_and_their_mean_is_of_losses(tmp_path):
    path = parquet(tmp_path, arch=["a", "b"], p=[1, 2], ppl=[50.0, 60.0], ppl_seed43=[54.0, None])
    table = read_truth(path, ["ppl", "ppl_seed43"])
    assert table.loss[0] == pytest.approx((np.log(50) + np.log(54)) / 2, rel=1e-12)
    assert table.loss[1] == np.log(60.0)
    assert np.isnan(table.per_seed[1, 1])


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_table_of_losses_is_read_back_equal(tmp_path, suffix):
    path = parquet(tmp_path, arch=["a", "b"], ppl=[50.0, 60.0], ppl_2=[54.0, None])
    table = read_truth(path, ["ppl", "ppl_2"], space="darts-ptb")
    write_truth(tmp_path / f"own{suffix}", table)
    back = load_truth(tmp_path / f"own{suffix}")
    assert (back.digest, back.metric) == (table.digest, "loss")
    assert table.digest != read_truth(path, ["ppl"], space="darts-ptb").digest


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([50.0, 0.5], "row 1: ppl is 0.5"),
        ([50.0, -3.0], "at least 1"),
        ([50.0, np.inf], "finite"),
        ([50.0, None], "row 1: no perplexity"),
    ],
)
def test_what_is_no_perplexity_is_refused(tmp_path, values, message):
    with pytest.raises(TruthError, match=message):
        load_truth(f"{parquet(tmp_path, arch=['a', 'b'], ppl=values)}:ppl")


def test_perplexities_are_neither_percents_nor_mixed_with_accuracies(tmp_path):
    path = parquet(tmp_path, arch=["a", "b"], ppl=[50.0, 60.0], acc=[0.5, 0.6])
    with pytest.raises(TruthError, match="percent"):
        read_truth(path, "ppl", percent=True)
    with pytest.raises(TruthError, match="'ppl' does not sound like an accuracy"):
        read_truth(path, ["acc", "ppl"])


def test_a_table_holds_losses_or_accuracies():
    values = np.array([0.5, 0.6])
    facts = {"space": "", "dataset": "", "split": "", "source": "x", "texts": ("a", "b")}
    with pytest.raises(TruthError, match="both"):
        TruthTable(**facts, accuracy=values, loss=values)
    for wrong in (-0.1, np.nan, np.inf):
        with pytest.raises(TruthError, match="losses are at least 0"):
            TruthTable(**facts, accuracy=values * np.nan, loss=np.array([4.0, wrong]))


def test_published_perplexities_reproduce_the_agreement_of_seeds(shared_data):
    path = shared_data / "ptb" / "ground_truth.parquet"
    table = load_truth(f"{path}:valid_ppl,valid_ppl_seed43")
    agreement = table.seed_agreement()
    assert (len(table), agreement.n_archs) == (137, 93)
    assert round(agreement.kendall, 3) == 0.715
    assert round(agreement.spearman, 3) == 0.880
    valid, test = (load_truth(f"{path}:{split}_ppl").loss for split in ("valid", "test"))
    assert round(stats.kendalltau(valid, test).statistic, 3) == 0.889
    assert np.exp(valid).min() == pytest.approx(57.87, abs=0.01)
