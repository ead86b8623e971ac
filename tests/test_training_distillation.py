"""In-place distillation: the step's first pass learns from labels, the others from its predictions."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from wsx.data import ImageSet
from wsx.errors import OptionError
from wsx.spaces import Cost
from wsx.spaces.nasbench201 import NASBENCH201
from wsx.training.augment import Batches
from wsx.training.loop import MOMENTUM_PREFIX, Trainer
from wsx.training.passes import Teacher, arch_passes
from wsx.training.recipes import Recipe
from wsx.training.sampling import ArchSampler

N_CLASSES, SIDE, BATCH = 3, 4, 8
VALUES = {
    "batch_size": BATCH,
    "lr": 0.1,
    "weight_decay": 0.0,
    "clip": 0.0,
    "crop_padding": 0,
    "flips": False,
    "channels_last": False,
}


def make_images(n=BATCH):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, 1, SIDE, SIDE)).astype(np.uint8)
    labels = rng.integers(0, N_CLASSES, n)
    return ImageSet(
        "noise", "train", pixels, labels, np.arange(n), "all", ("a", "b", "c"), (0.5,), (0.3,)
    )


class Classifiers(nn.Module):
    """Linear classifiers, one for each pass; the last is another's auxiliary head."""

    def __init__(self, n):
        super().__init__()
        rng = np.random.default_rng(1)
        values = rng.normal(size=(n, N_CLASSES, SIDE * SIDE)) * 0.3
        self.weights = nn.ParameterList(nn.Parameter(torch.from_numpy(v)) for v in values)

    def of(self, *places):
        """A pass through a classifier, perhaps with an auxiliary one."""

        def forward(x):
            logits = tuple(x.flatten(1).double() @ self.weights[place].T for place in places)
            return logits if len(logits) > 1 else logits[0]

        return forward


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def one_step(model, passes, **recipe):
    """Gradients of the classifiers after a step, its progress, and its images and labels in numpy."""
    chosen = Recipe(**VALUES, **recipe)
    batches = Batches(make_images(), chosen, seed=0, device=torch.device("cpu"))
    trainer = Trainer(model, lambda step: passes, batches, chosen, seed=0)
    progress = next(trainer.run())
    state = trainer.state()
    gradients = [state[f"{MOMENTUM_PREFIX}weights.{i}"].numpy() for i in range(len(model.weights))]
    x, labels = batches[0]
    return gradients, progress, x.flatten(1).double().numpy(), labels.numpy()


def slope(weight, x, target):
    """The gradient of the mean cross-entropy of a linear classifier to target shares."""
    return (softmax(x @ weight.T) - target).T @ x / len(x)


def one_hot(labels, smoothing=0.0):
    return np.eye(N_CLASSES)[labels] * (1 - smoothing) + smoothing / N_CLASSES


@pytest.mark.parametrize(("kind", "n"), [("mean", 3), ("sum", 1)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_teacher_learns_from_labels_and_the_students_from_it(kind, n, smoothing):
    model = Classifiers(3)
    weights = [w.detach().numpy().copy() for w in model.weights]
    passes = [Teacher(model.of(0)), model.of(1), model.of(2)]
    gradients, progress, x, labels = one_step(
        model, passes, gradients=kind, label_smoothing=smoothing
    )
    shares = softmax(x @ weights[0].T)
    targets = [one_hot(labels, smoothing), shares, shares]
    losses = []
    for gradient, weight, target in zip(gradients, weights, targets, strict=True):
        np.testing.assert_allclose(gradient, slope(weight, x, target) / n, rtol=0, atol=1e-6)
        losses.append(-(target * np.log(softmax(x @ weight.T))).sum(axis=1).mean())
    assert progress.loss == pytest.approx(np.mean(losses), abs=1e-5)
    # Had students had labels, or their targets been smoothed, it would show.
    assert np.abs(slope(weights[1], x, one_hot(labels, smoothing)) / n - gradients[1]).max() > 0.01
    smoothed = shares * 0.8 + 0.2 / N_CLASSES
    assert np.abs(slope(weights[1], x, smoothed) / n - gradients[1]).max() > 1e-4


def test_no_gradient_of_a_student_reaches_the_teacher():
    # The gradient of the soft targets themselves is not small; it must not be there.
    model = Classifiers(2)
    passes = [Teacher(model.of(0)), model.of(1)]
    with_student, _, _, _ = one_step(model, passes, gradients="sum")
    alone = Classifiers(2)
    unused = alone.of(1)
    without, _, _, _ = one_step(alone, [alone.of(0), lambda x: unused(x) * 1.0], gradients="sum")
    assert np.array_equal(with_student[0], without[0])
    leaky = Classifiers(2)
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(BATCH, 1, SIDE, SIDE)))
    targets = leaky.of(0)(x).softmax(1)
    nn.functional.cross_entropy(leaky.of(1)(x), targets).backward()
    assert leaky.weights[0].grad.abs().max() > 0.01


def test_auxiliary_heads_of_students_learn_from_the_teacher_too():
    model = Classifiers(4)
    weights = [w.detach().numpy().copy() for w in model.weights]
    passes = [Teacher(model.of(0, 1)), model.of(2, 3)]
    gradients, _, x, labels = one_step(model, passes, gradients="sum", auxiliary_weight=0.3)
    shares = softmax(x @ weights[0].T)
    targets = [one_hot(labels), one_hot(labels), shares, shares]
    for place, factor in enumerate((1, 0.3, 1, 0.3)):
        expected = factor * slope(weights[place], x, targets[place])
        np.testing.assert_allclose(gradients[place], expected, rtol=0, atol=1e-6)


def test_each_rank_has_a_teacher_for_its_own_images():
    model = Classifiers(4)
    weights = [w.detach().numpy().copy() for w in model.weights]
    passes = [Teacher(model.of(0)), model.of(1), Teacher(model.of(2)), model.of(3)]
    gradients, _, x, labels = one_step(model, passes, n_ranks=2)
    for rank, part in enumerate((slice(0, 4), slice(4, 8))):
        teacher, student = weights[2 * rank], weights[2 * rank + 1]
        shares = softmax(x[part] @ teacher.T)
        expected = (slope(teacher, x[part], one_hot(labels[part])), slope(student, x[part], shares))
        for gradient, slow in zip(gradients[2 * rank : 2 * rank + 2], expected, strict=True):
            np.testing.assert_allclose(gradient, slow / 4, rtol=0, atol=1e-6)


def test_passes_before_a_teacher_learn_from_labels():
    model = Classifiers(2)
    weights = [w.detach().numpy().copy() for w in model.weights]
    gradients, _, x, labels = one_step(model, [model.of(0), Teacher(model.of(1))], gradients="sum")
    for gradient, weight in zip(gradients, weights, strict=True):
        np.testing.assert_allclose(gradient, slope(weight, x, one_hot(labels)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("distills", [False, True])
def test_the_largest_arch_of_each_rank_is_the_teacher(distills):
    recipe = Recipe(
        sampler="sandwich", distills=distills, n_paths=2, n_ranks=2, parallel_sampling=True
    )
    cost_of = lambda arch: Cost(sum(arch), 0)  # noqa: E731
    sampler = ArchSampler(NASBENCH201, recipe, seed=0, cost_of=cost_of)
    seen = []
    supernet = lambda x, arch: seen.append(arch)  # noqa: E731
    passes = arch_passes(supernet, sampler)(5)
    for forward in passes:
        forward(SimpleNamespace())
    assert seen == sampler[5]
    assert seen[0] == seen[4] == (4,) * 6
    is_teacher = [isinstance(forward, Teacher) for forward in passes]
    assert is_teacher == [distills, False, False, False] * 2


@pytest.mark.parametrize("sampler", ["uniform", "fair", "round-robin", "gradual"])
def test_only_sandwich_has_a_teacher(sampler):
    with pytest.raises(OptionError, match=f"distills needs a largest arch.*sampler {sampler}"):
        Recipe(sampler=sampler, distills=True)
