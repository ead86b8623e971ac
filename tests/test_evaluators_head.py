import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from wsx.data import ImageSet
from wsx.errors import ExportError, OptionError
from wsx.evaluators.batches import DeviceImages
from wsx.evaluators.devices import CPU, SessionFactory
from wsx.evaluators.eager import tally
from wsx.exporters.emit import (
    CORRECT,
    INPUT,
    LABELS,
    LOGITS,
    LOSS_SUM,
    OUTCOMES,
    attach_scoring_head,
)
from wsx.exporters.weights import WeightFile

N_CLASSES = 5


def logits_model(n_classes=N_CLASSES):
    """Return a model whose images are its logits: (image, 1, 1, class) reshaped."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, N_CLASSES])
    graph = helper.make_graph(
        [helper.make_node("Reshape", [INPUT, "shape"], [LOGITS])],
        "logits",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 1, 1, N_CLASSES])],
        [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", n_classes])],
        [shape],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


@pytest.fixture(scope="module")
def session():
    model = logits_model()
    attach_scoring_head(model)
    onnx.checker.check_model(model, full_check=True)
    return SessionFactory(WeightFile({}), CPU).session(model.SerializeToString())


def run(session, logits, labels):
    feeds = {
        INPUT: np.asarray(logits, np.float32).reshape(-1, 1, 1, N_CLASSES),
        LABELS: np.asarray(labels, np.int64),
    }
    correct, loss_sum, outcomes = session.run([CORRECT, LOSS_SUM, OUTCOMES], feeds)
    return int(correct), float(loss_sum), outcomes


def test_the_head_equals_torch(session):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (64, N_CLASSES)).astype(np.float32)
    labels = rng.integers(0, N_CLASSES, 64)
    correct, loss_sum, outcomes = run(session, logits, labels)
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(labels), reduction="sum"
    )
    assert loss_sum == pytest.approx(float(expected), rel=1e-6)
    assert np.array_equal(outcomes.astype(bool), logits.argmax(axis=1) == labels)
    assert correct == int(outcomes.sum())
    assert 0 < correct < 64
    oracle = tally(logits, labels)
    assert (oracle.correct, oracle.outcomes.tolist()) == (correct, outcomes.astype(bool).tolist())
    assert oracle.loss_sum == pytest.approx(loss_sum, rel=1e-6)


@pytest.mark.parametrize("label", range(N_CLASSES))
def test_the_first_of_equal_logits_wins(session, label):
    # Classes 1, 2 and 4 tie: only class 1 counts. All equal: class 0.
    correct, _, outcomes = run(session, [[0, 7, 7, 1, 7], [2, 2, 2, 2, 2]], [label, label])
    assert outcomes.tolist() == [label == 1, label == 0]
    assert correct == (label == 1) + (label == 0)
    both = tally(np.array([[0, 7, 7, 1, 7], [2, 2, 2, 2, 2]], np.float32), np.array([label] * 2))
    assert both.outcomes.tolist() == outcomes.astype(bool).tolist()


def test_padding_counts_nowhere(session):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(6, N_CLASSES)).astype(np.float32)
    labels = rng.integers(0, N_CLASSES, 6)
    labels[:3] = logits[:3].argmax(axis=1)
    alone = run(session, logits[:4], labels[:4])
    padded = run(session, logits, [*labels[:4], -1, -1])
    assert padded[0] == alone[0] >= 3
    assert padded[1] == pytest.approx(alone[1], rel=1e-6)
    assert padded[2].tolist() == [*alone[2].tolist(), 0, 0]
    assert run(session, logits, [-1] * 6)[:2] == (0, 0.0)


def test_huge_logits_do_not_overflow(session):
    _, loss_sum, _ = run(session, [[1e30, 0, 0, 0, 0], [-1e30, 0, 0, 0, 0]], [0, 1])
    assert loss_sum == pytest.approx(np.log(4), rel=1e-6)


def test_nan_logits_give_a_loss_that_is_not_finite(session):
    assert not np.isfinite(run(session, [[np.nan, 0, 0, 0, 0]], [0])[1])


def test_a_model_without_a_number_of_classes_is_refused():
    with pytest.raises(ExportError, match="number of classes"):
        attach_scoring_head(logits_model("classes"))


def logit_images(n, *, seed=0):
    """Return images whose pixels are logits, most of them right."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, 1, 1, N_CLASSES), dtype=np.uint8)
    labels = rng.integers(0, N_CLASSES, n).astype(np.int64)
    labels[: n // 2] = pixels[: n // 2, 0, 0].argmax(axis=1)
    names = tuple("abcde")
    return ImageSet("logits", "test", pixels, labels, np.arange(n), "all", names, (0.5,), (0.25,))


@pytest.mark.parametrize("n_images", [1, 7, 8, 32, 33])
@pytest.mark.parametrize("batch_size", [1, 7, 8, 40])
@pytest.mark.parametrize("pads", [True, False])
def test_bound_batches_equal_one_plain_run(session, n_images, batch_size, pads):
    images = logit_images(n_images)
    bound = DeviceImages(images, batch_size, CPU, pads=pads)
    found = bound.score(session)
    correct, loss_sum, outcomes = run(session, images.floats(), images.labels)
    assert found.correct == correct
    assert found.outcomes.tolist() == outcomes.astype(bool).tolist()
    assert found.loss_sum == pytest.approx(loss_sum, rel=1e-5)
    shapes = {tuple(batch.images.shape()) for batch in bound.batches}
    assert len(shapes) == (1 if pads or n_images % batch_size == 0 or n_images < batch_size else 2)
    assert sum(batch.n_images for batch in bound.batches) == n_images


def test_bound_images_are_scored_again_alike(session):
    bound = DeviceImages(logit_images(33), 8, CPU, pads=True)
    first, second = bound.score(session), bound.score(session)
    assert (first.correct, first.loss_sum) == (second.correct, second.loss_sum)


def test_a_batch_of_none_is_refused():
    with pytest.raises(OptionError, match="batch size is 0"):
        DeviceImages(logit_images(3), 0, CPU, pads=True)
