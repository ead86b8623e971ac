import json
import math

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from wsx.analysis import SummaryOptions
from wsx.cli import app
from wsx.data import TextSet
from wsx.errors import CheckpointError, DataError, OptionError
from wsx.evaluators.batches import Tally
from wsx.evaluators.devices import CPU, SessionFactory
from wsx.evaluators.engines import OnnxEngine
from wsx.evaluators.sources import SupernetSource
from wsx.evaluators.text import DeviceText
from wsx.evaluators.text_eager import TextOracle
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES
from wsx.spaces.choice import ArchChoice
from wsx.store import open_store
from wsx.studies.analyze import compare, report_comparison
from wsx.studies.evaluate_folder import evaluate_folder
from wsx.studies.evaluate_run import evaluate_run
from wsx.studies.export_run import export_run
from wsx.studies.images import ImageChoice
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import ScoringOptions
from wsx.supernets.checkpoint import load_tensors, save_tensors
from wsx.training import DataSpec, RunConfig, train_supernet
from wsx.training.text_recipes import TextRecipe

SPACE = SPACES["darts-ptb"]
WORDS = [f"w{i}" for i in range(30)]
CHOICE = ArchChoice(n=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ptb")
    rng = np.random.default_rng(0)
    for split, n_lines in (("train", 30), ("valid", 12), ("test", 20)):
        lines = [" ".join(rng.choice(WORDS, size=rng.integers(1, 12))) for _ in range(n_lines)]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    recipe = TextRecipe(epochs=1, batch_size=2, supernet={"hidden_size": 8})
    config = RunConfig("darts-ptb", recipe, DataSpec(f"words={folder}"), seed=0)
    made = train_supernet(config, folder / "run")
    # Large weights: the state then matters, and archs differ.
    tensors, facts = load_tensors(made.checkpoint_path())
    draw = np.random.default_rng(1)
    for name in tensors:
        tensors[name].copy_(tensors[name].new_tensor(draw.uniform(-0.8, 0.8, tensors[name].shape)))
    save_tensors(made.checkpoint_path(), tensors, facts)
    return made


@pytest.fixture(scope="module")
def scores(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("scores") / "s.h5"
    key, report = evaluate_run(
        RunSubnets(run, "calibrated:4x256"), out, choice=CHOICE, device="cpu"
    )
    return out, key, report


def read(path, campaign=None):
    with open_store(path, "r") as store:
        return store.read(campaign)


def by_text(path):
    """Return loss and bits of each arch; scores arrive in any order."""
    table = read(path)
    return {str(t): (table.loss_sum[i], bytes(table.bits[i])) for i, t in enumerate(table.text)}


def engine_for(supernet, text, n_streams, kind=DeviceText):
    recorder = SubnetRecorder(supernet, BatchNormMode("none"))
    source = SupernetSource(recorder, "", CPU, None)
    on_device = kind(text, n_streams, supernet.options.hidden_size, CPU)
    return OnnxEngine(source, SessionFactory(recorder.weights, CPU), on_device)


@pytest.mark.parametrize("n_streams", [1, 3, 10])
def test_onnx_and_torch_agree_on_the_whole_text(run, n_streams):
    supernet, _ = run.load()
    text = run.config.data.load_text().test
    oracle, engine = TextOracle(supernet), engine_for(supernet, text, n_streams)
    for arch in SPACE.sample(3, rng=np.random.default_rng(2), measure="encodings"):
        found, _ = engine.score(arch)
        expected, _, _ = oracle.score(text, arch, batch_size=n_streams)
        assert len(found.outcomes) == len(text)
        assert np.array_equal(found.outcomes, expected.outcomes)
        assert found.correct == found.outcomes.sum()
        ratio = math.exp((found.loss_sum - expected.loss_sum) / len(text))
        assert abs(ratio - 1) < 1e-4


def test_one_stream_is_the_text_read_from_its_beginning(run):
    supernet, _ = run.load()
    text = run.config.data.load_text().test
    arch = SPACE.arch_at(12345)
    hidden, loss_sum, hits = supernet.initial_hidden(1), 0.0, []
    with torch.no_grad():
        for token, label in zip(text.tokens[:-1], text.tokens[1:], strict=True):
            logits, hidden = supernet(torch.tensor([[token]]), arch, hidden)
            loss_sum -= float(torch.log_softmax(logits[0, 0].double(), 0)[label])
            hits.append(int(logits[0, 0].argmax()) == label)
    tally, _ = engine_for(supernet, text, 1).score(arch)
    assert tally.loss_sum == pytest.approx(loss_sum, rel=1e-5)
    assert tally.outcomes.tolist() == hits


class Forgetful(DeviceText):
    """A double whose every window starts anew."""

    def score(self, session):
        windows, is_real = self.windows, self._is_real
        loss_sum = 0.0
        for place, window in enumerate(windows):
            self.windows = [window]
            self._is_real = is_real[:, place * 5 : place * 5 + 5]
            loss_sum += super().score(session).loss_sum
        return Tally(0, loss_sum, np.zeros(0, bool))


def test_a_state_that_is_not_carried_on_is_noticed(run, monkeypatch):
    supernet, _ = run.load()
    text = run.config.data.load_text().test
    arch = SPACE.arch_at(999_999)
    right, _, _ = TextOracle(supernet).score(text, arch, batch_size=2)
    monkeypatch.setattr("wsx.evaluators.text.WINDOW", 5)
    ratios = []
    for kind in (DeviceText, Forgetful):
        engine = engine_for(supernet, text, 2, kind)
        tally, _ = engine.score(arch)
        ratios.append(math.exp((tally.loss_sum - right.loss_sum) / len(text)))
    assert abs(ratios[0] - 1) < 1e-5
    assert abs(ratios[1] - 1) > 1e-4


def test_wsx_evaluate_scores_a_run(run, scores):
    out, key, report = scores
    assert (report.n_run, report.n_failed) == (3, 0)
    assert (key.bn, key.bn_images_sha256, key.batch_size) == ("none", "", 10)
    assert key.dataset.startswith("words@vocabulary-")
    table = read(out)
    text = run.config.data.load_text().test
    assert set(table.total) == {len(text)}
    assert np.array_equal(table.outcomes().sum(axis=1), table.correct)
    assert (table.params == table.params[0]).all()
    assert len(set(table.loss_sum)) == 3


def test_the_oracle_scores_alike_and_streams_are_part_of_the_key(run, scores, tmp_path):
    _, key, _ = scores
    subnets = RunSubnets(run, "calibrated:4x256")
    out = tmp_path / "s.h5"
    other, _ = evaluate_run(subnets, out, choice=CHOICE, device="cpu", engine="torch")
    assert key.differences(other) == ["provider: 'CPUExecutionProvider' != 'torch-eager'"]
    mine, theirs = by_text(scores[0]), by_text(out)
    assert mine.keys() == theirs.keys()
    n_tokens = read(out).total[0]
    for text, (loss, bits) in mine.items():
        assert bits == theirs[text][1]
        assert abs(math.exp((loss - theirs[text][0]) / n_tokens) - 1) < 1e-4
    options = ScoringOptions(batch_size=4)
    narrow, _ = evaluate_run(
        subnets,
        tmp_path / "n.h5",
        choice=CHOICE,
        device="cpu",
        options=options,
        images=ImageChoice("valid", 40),
    )
    assert narrow.batch_size == 4
    assert set(read(tmp_path / "n.h5").total) == {40}


def test_exported_subnets_stand_alone_and_score_alike(run, scores, tmp_path):
    result = export_run(RunSubnets(run, "calibrated:4x256"), tmp_path / "e", choice=CHOICE)
    assert (result.report.n_written, result.problems, len(result.agreements)) == (3, [], 3)
    key, report = evaluate_folder(tmp_path / "e", tmp_path / "s.h5", device="cpu")
    assert (key, report.n_run) == (scores[1], 3)
    assert by_text(tmp_path / "s.h5") == by_text(scores[0])
    session = onnxruntime.InferenceSession(tmp_path / "e" / "000000.onnx")
    logits, hidden = session.run(
        None, {"tokens": np.array([[1, 2, 3]]), "hidden": np.zeros((1, 8), np.float32)}
    )
    assert (logits.shape[:2], hidden.shape) == ((1, 3), (1, 8))
    with pytest.raises(OptionError, match="exporter torch"):
        export_run(RunSubnets(run, "running"), tmp_path / "t", choice=CHOICE, exporter="torch")


def test_a_lost_or_foreign_vocabulary_is_an_error(run, tmp_path):
    path = run.path / "vocabulary.txt"
    content = path.read_text()
    first, second, *rest = content.splitlines(keepends=True)
    try:
        path.write_text("".join([second, first, *rest]))
        with pytest.raises(CheckpointError, match="not what the checkpoint was trained with"):
            evaluate_run(RunSubnets(run, "batch"), tmp_path / "s.h5", choice=CHOICE, device="cpu")
        path.unlink()
        with pytest.raises(DataError, match="cannot be read"):
            evaluate_run(RunSubnets(run, "batch"), tmp_path / "s.h5", choice=CHOICE, device="cpu")
    finally:
        path.write_text(content)


def test_wrong_options_are_refused(run, tmp_path):
    with pytest.raises(OptionError, match="is none of"):
        evaluate_run(RunSubnets(run, "odd"), tmp_path / "s.h5", choice=CHOICE, device="cpu")
    text = TextSet("mine", "test", np.arange(9), 9)
    with pytest.raises(OptionError, match="batch size is 0"):
        DeviceText(text, 0, 8, CPU)


def test_a_truth_of_perplexities_ranks_by_loss(scores, tmp_path, capsys):
    table = read(scores[0])
    loss = table.loss_sum / table.total
    # Perplexities in the order of the supernet's own: a perfect ranking, whose best has the lowest loss.
    truth = tmp_path / "t.parquet"
    pq.write_table(pa.table({"arch": list(table.text), "test_ppl": np.exp(loss / 2)}), truth)
    options = SummaryOptions(n_resamples=5)
    comparison = compare(scores[0], truth=f"{truth}:test_ppl", options=options)
    assert comparison.by == "loss"
    assert comparison.summary.metrics["kendall_tau"].value == 1.0
    assert comparison.truth.argmax() == loss.argmin()
    facts = comparison.facts()
    assert not any("%" in str(value) for value in facts.values())
    assert facts["perplexity"] == f"{math.exp(loss.mean()):.2f}"
    assert comparison.as_dict()["accuracy"]["max"] == table.accuracy.max()
    json.dumps(comparison.as_dict(), allow_nan=False)
    files = report_comparison(comparison, tmp_path / "r.html", title="text")
    assert "accuracy (%)" not in files.page.read_text()
    assert compare(scores[0], truth=None).by == "accuracy"
    command = ["analyze", str(scores[0]), "--truth", f"{truth}:test_ppl", "--resamples", "0"]
    app(command, standalone_mode=False)
    assert "perplexity" in capsys.readouterr().out
