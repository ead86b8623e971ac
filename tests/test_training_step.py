import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from wsx.data import ImageSet
from wsx.errors import CheckpointError, TrainingError
from wsx.supernets import build_supernet
from wsx.training.augment import Batches
from wsx.training.loop import Trainer
from wsx.training.recipes import Recipe

N_CLASSES, SIDE = 3, 4


def make_images(n=32):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, 1, SIDE, SIDE)).astype(np.uint8)
    labels = rng.integers(0, N_CLASSES, n)
    return ImageSet(
        "noise", "train", pixels, labels, np.arange(n), "all", ("a", "b", "c"), (0.5,), (0.3,)
    )


def linear_trainer(**recipe):
    values = {"crop_padding": 0, "flips": False, "channels_last": False, "batch_size": 8, **recipe}
    chosen = Recipe(**values)
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, N_CLASSES))
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(size=parameter.shape)))
    batches = Batches(make_images(), chosen, seed=0, device=torch.device("cpu"))
    return Trainer(model, lambda step: [model], batches, chosen, seed=0), batches


def formula_lr(step, *, n_per_epoch, epochs, lr, lr_min, warmup):
    n_steps, n_warmup = n_per_epoch * epochs, n_per_epoch * warmup
    if step < n_warmup:
        return lr * (step + 1) / n_warmup
    angle = math.pi * (step - n_warmup) / (n_steps - n_warmup)
    return lr_min + 0.5 * (lr - lr_min) * (1 + math.cos(angle))


@pytest.mark.parametrize("warmup", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("lr_min", [0.0, 0.01])
def test_learning_rates_follow_the_formula(warmup, lr_min):
    trainer, batches = linear_trainer(epochs=5, lr=0.4, lr_min=lr_min, warmup_epochs=warmup)
    assert batches.n_steps_per_epoch == 4
    rates = [progress.lr for progress in trainer.run()]
    expected = [
        formula_lr(step, n_per_epoch=4, epochs=5, lr=0.4, lr_min=lr_min, warmup=warmup)
        for step in range(20)
    ]
    np.testing.assert_allclose(rates, expected, rtol=1e-12, atol=0)
    n_warmup = int(4 * warmup)
    assert rates[n_warmup] == 0.4
    assert max(rates) == 0.4
    assert trainer.lr_at(20) == pytest.approx(lr_min, abs=1e-15)
    assert all(a > b for a, b in itertools.pairwise(rates[n_warmup:]))
    assert all(a < b for a, b in itertools.pairwise(rates[:n_warmup]))


def test_warmup_as_long_as_the_training_ends_at_lr():
    trainer, _ = linear_trainer(epochs=2, lr=0.4, warmup_epochs=2.0)
    rates = [progress.lr for progress in trainer.run()]
    np.testing.assert_allclose(rates, 0.4 * np.arange(1, 9) / 8, rtol=1e-12, atol=0)


def hand_step(weights, momenta, x, labels, recipe, lr):
    """One step of SGD on a linear softmax classifier in float64; returns the loss."""
    w, b = weights
    logits = x @ w.T + b
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    target = np.eye(N_CLASSES)[labels] * (1 - recipe.label_smoothing)
    target += recipe.label_smoothing / N_CLASSES
    loss = -(target * log_p).sum(axis=1).mean()
    d_logits = (np.exp(log_p) - target) / len(labels)
    grads = [d_logits.T @ x, d_logits.sum(axis=0)]
    norm = math.sqrt(sum((g**2).sum() for g in grads))
    if recipe.clip and norm > recipe.clip:
        grads = [g * recipe.clip / norm for g in grads]
    for place, gradient in enumerate(grads):
        d = gradient + recipe.weight_decay * weights[place]
        momenta[place] = recipe.momentum * momenta[place] + d
        ahead = d + recipe.momentum * momenta[place]
        weights[place] = weights[place] - lr * (ahead if recipe.nesterov else momenta[place])
    return loss, norm


@pytest.mark.parametrize("clip", [0.0, 0.2, 1e6])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, True), (0.9, True), (0.9, False)])
def test_steps_equal_hand_written_ones(clip, label_smoothing, momentum, nesterov):
    trainer, batches = linear_trainer(
        epochs=1,
        lr=0.3,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=0.05,
        clip=clip,
        label_smoothing=label_smoothing,
    )
    layer = trainer.model[1]
    weights = [p.detach().numpy().astype(np.float64) for p in (layer.weight, layer.bias)]
    momenta, losses, norms, n_correct = [0.0, 0.0], [], [], 0
    for step, progress in enumerate(trainer.run()):
        x, labels = batches[step]
        flat = x.flatten(1).numpy().astype(np.float64)
        n_correct += int(((flat @ weights[0].T + weights[1]).argmax(1) == labels.numpy()).sum())
        loss, norm = hand_step(
            weights, momenta, flat, labels.numpy(), trainer.recipe, trainer.lr_at(step)
        )
        losses.append(loss)
        norms.append(norm)
        np.testing.assert_allclose(layer.weight.detach().numpy(), weights[0], rtol=0, atol=2e-6)
        np.testing.assert_allclose(layer.bias.detach().numpy(), weights[1], rtol=0, atol=2e-6)
        assert progress.loss == pytest.approx(np.mean(losses), abs=1e-6)
        assert progress.accuracy == pytest.approx(n_correct / (8 * (step + 1)), abs=1e-12)
    assert len(losses) == 4
    assert min(norms) > 0.2, "the smaller clip must bite"


def test_progress_counts_epochs_and_steps():
    trainer, _ = linear_trainer(epochs=2)
    seen = [(p.step, p.n_steps, p.epoch, p.is_epoch_end) for p in trainer.run()]
    assert seen == [(s, 8, 1 + (s > 4), s in (4, 8)) for s in range(1, 9)]


def test_running_sums_start_afresh_each_epoch():
    trainer, _ = linear_trainer(epochs=2, lr=0.0, weight_decay=0.0, momentum=0.0)
    losses = [progress.loss for progress in trainer.run()]
    # Nothing is learnt, and an epoch holds every image once.
    assert losses[3] == pytest.approx(losses[7], abs=1e-6)
    assert losses[4] != pytest.approx(losses[3], abs=1e-3)


def supernet_steps(n_steps, **recipe):
    values = {"batch_size": 8, "lr": 0.1, "crop_padding": 0, "epochs": 1, **recipe}
    chosen = Recipe(**values)
    macro = {"channels": 4, "cells": 1, "in_channels": 1, "image_size": SIDE, "n_classes": 3}
    model = build_supernet("nasbench201", macro, seed=1)
    batches = Batches(make_images(), chosen, seed=0, device=torch.device("cpu"))
    seen = []

    def forward(x):
        seen.append(model(x, (3, 2, 3, 1, 4, 2)))
        return seen[-1]

    trainer = Trainer(model, lambda step: [forward], batches, chosen, seed=0)
    for progress in trainer.run():
        if progress.step == n_steps:
            break
    return trainer, seen


def test_bfloat16_forward_keeps_float32_weights():
    trainer, (logits,) = supernet_steps(1, autocast="bfloat16")
    _, (exact,) = supernet_steps(1)
    assert logits.dtype == torch.bfloat16
    assert exact.dtype == torch.float32
    assert 0 < (logits - exact).abs().max() < 0.1
    for name, tensor in trainer.state().items():
        if tensor.is_floating_point() and name != "sums":
            assert tensor.dtype == torch.float32, name
            assert torch.isfinite(tensor).all(), name


def test_a_loss_that_is_not_finite_names_the_step():
    trainer, _ = linear_trainer(epochs=1)
    trainer._passes = lambda step: [
        lambda x: trainer.model(x) * (float("nan") if step == 2 else 1.0)
    ]
    steps = []
    with pytest.raises(TrainingError, match=r"loss is nan at step 3 of 4 \(lr .*lower lr or clip"):
        steps.extend(progress.step for progress in trainer.run())
    assert steps == [1, 2]
    assert trainer.step == 2
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_check_finite_names_the_tensor(bad):
    trainer, _ = linear_trainer(epochs=1)
    next(trainer.run())
    trainer.check_finite()
    buffer = trainer._optimizer.state[trainer.model[1].bias]["momentum_buffer"]
    buffer[1] = bad
    with pytest.raises(TrainingError, match=r"momentum\.1\.bias is not finite after step 1 of 4"):
        trainer.check_finite()
    buffer[1] = 0.0
    trainer.model[1].weight.data[0, 0] = bad
    with pytest.raises(TrainingError, match=r"weight\.1\.weight is not finite"):
        trainer.check_finite()


def test_a_state_of_another_model_is_refused():
    trainer, _ = linear_trainer(epochs=1)
    state = trainer.state()
    for broken in (
        {name: t for name, t in state.items() if name != "weight.1.bias"},
        {**state, "weight.1.bias": torch.zeros(5)},
        {**state, "weight.2.bias": torch.zeros(5)},
        {name: t for name, t in state.items() if name != "sums"},
        {},
    ):
        with pytest.raises(CheckpointError, match="state is of another training"):
            linear_trainer(epochs=1)[0].restore(broken, {"step": 1})
    with pytest.raises(CheckpointError, match="state is of another training"):
        linear_trainer(epochs=1)[0].restore(state, {})
