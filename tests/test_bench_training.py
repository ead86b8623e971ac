import copy
import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wsx.bench.interleave import Spread
from wsx.bench.steps import OWN, PLAIN, own_steps, plain_steps
from wsx.bench.training import run_training_bench
from wsx.bench.training_subject import TrainingConditions, TrainingSubject, random_training
from wsx.errors import DataError, DeviceError, OptionError, UnknownNameError
from wsx.training.sampling import ArchSampler

TINY = {"channels": 4, "cells": 1, "image_size": 8}
CONDITIONS = TrainingConditions(batch_size=8, n_workers=1)


@pytest.fixture(scope="module")
def subject():
    return random_training("nasbench201", TINY, CONDITIONS)


class Watched(nn.Module):
    """A supernet that notes the archs that it is trained on; copies note in the same list."""

    def __init__(self, supernet, seen):
        super().__init__()
        self.supernet = supernet
        self.space = supernet.space
        self.seen = seen

    def __deepcopy__(self, memo):
        return Watched(copy.deepcopy(self.supernet), self.seen)

    def forward(self, x, arch):
        assert self.supernet.training
        self.seen.append((arch, tuple(x.shape)))
        return self.supernet(x, arch)


@pytest.mark.parametrize("make", [plain_steps, lambda s: own_steps(s, s.recipe)], ids=[PLAIN, OWN])
def test_a_step_is_one_arch_of_the_sampler_on_one_batch(subject, make):
    seen: list = []
    watched = replace(subject, supernet=Watched(subject.supernet, seen))
    steps = make(watched)
    # More than one pass over the images.
    for n_done in range(1, 12):
        next(steps)
        assert len(seen) == n_done
    sampler = ArchSampler(subject.supernet.space, subject.recipe, seed=0)
    assert seen == [(sampler[i][0], (8, 3, 8, 8)) for i in range(11)]


def test_the_plain_loop_steps_as_sgd_written_by_hand(subject):
    recipe = replace(subject.recipe, crop_padding=0, flips=False, clip=0.0, weight_decay=0.01)
    still = replace(subject, recipe=recipe)
    nets = []
    steps = plain_steps(replace(still, supernet=Remembered(subject.supernet, nets)))
    losses = [next(steps)[0] for _ in range(3)]

    model = copy.deepcopy(subject.supernet).train()
    arch_of = ArchSampler(model.space, recipe, seed=0)
    momenta: dict[str, torch.Tensor] = {}
    order = torch.randperm(64, generator=_loader_order())
    x, labels = torch.from_numpy(subject.images.floats()), torch.from_numpy(subject.images.labels)
    for step in range(3):
        rows = order[8 * step : 8 * step + 8]
        loss = F.cross_entropy(model(x[rows], arch_of[step][0]), labels[rows])
        assert losses[step] == pytest.approx(loss.item(), rel=1e-4)
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.grad is None:
                    continue
                gradient = weight.grad + 0.01 * weight
                old = momenta.get(name)
                momenta[name] = gradient if old is None else 0.9 * old + gradient
                weight -= recipe.lr * (gradient + 0.9 * momenta[name])
    for (name, found), expected in zip(nets[0].named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5, msg=name)


class Remembered(nn.Module):
    """A supernet whose copies can be looked at."""

    def __init__(self, supernet, copies):
        super().__init__()
        self.supernet = supernet
        self.space = supernet.space
        self.copies = copies

    def __deepcopy__(self, memo):
        self.copies.append(copy.deepcopy(self.supernet))
        return self.copies[-1]


def _loader_order():
    """Return the generator in the state in which a loader draws its order: it draws its own seed first."""
    generator = torch.Generator().manual_seed(0)
    torch.empty((), dtype=torch.int64).random_(generator=generator)
    return generator


def test_loops_train_copies(subject):
    before = {name: t.clone() for name, t in subject.supernet.state_dict().items()}
    for steps in (plain_steps(subject), own_steps(subject, subject.recipe)):
        next(steps)
    assert all(torch.equal(before[n], t) for n, t in subject.supernet.state_dict().items())


def test_the_report_is_json_with_wsx_first(subject):
    laps = []
    report = run_training_bench(
        subject, n_steps=2, n_repeats=2, on_lap=lambda *lap: laps.append(lap[:2])
    )
    values = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert (values["format"], values["format_version"]) == ("wsx-bench-training", 1)
    names = [row["name"] for row in values["rows"]]
    assert names == [OWN, "wsx, NCHW", "wsx, autocast bfloat16", PLAIN]
    assert report.rows[0].ratio == Spread(1.0, 1.0, 1.0)
    assert laps == [(i, 8) for i in range(1, 9)]
    for row in report.rows:
        assert len(row.seconds) == 2
        assert row.steps_per_s.high == pytest.approx(2 / min(row.seconds), rel=1e-12)
    own, plain = report.rows[0], report.rows[-1]
    ratios = [mine / its for mine, its in zip(plain.seconds, own.seconds, strict=True)]
    assert (plain.ratio.low, plain.ratio.high) == (min(ratios), max(ratios))
    assert values["conditions"]["recipe"]["batch_size"] == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_paths": 2}, "several paths"),
        ({"sampler": "fair"}, "several paths"),
    ],
)
def test_recipes_of_several_paths_are_refused(subject, changes, message):
    several = replace(subject, recipe=replace(subject.recipe, **changes))
    with pytest.raises(OptionError, match=message):
        run_training_bench(several)


def test_bad_numbers_are_refused(subject):
    with pytest.raises(OptionError, match="--steps is 0"):
        run_training_bench(subject, n_steps=0)
    with pytest.raises(OptionError, match="--repeats is 0"):
        run_training_bench(subject, n_repeats=0)
    with pytest.raises(OptionError, match="--batch-size is 0"):
        TrainingConditions(batch_size=0)
    with pytest.raises(OptionError, match="--workers is -1"):
        TrainingConditions(n_workers=-1)
    too_large = replace(subject, recipe=replace(subject.recipe, batch_size=10_000))
    with pytest.raises(DataError, match="fewer than a batch of 10000"):
        run_training_bench(too_large)


def test_spaces_and_devices_that_cannot_be_are_refused():
    make = partial(random_training, options={}, conditions=CONDITIONS)
    with pytest.raises(UnknownNameError, match="no space named"):
        make("nasbench202")
    with pytest.raises(OptionError, match="reads text"):
        make("darts-ptb")
    with pytest.raises(DeviceError, match="nonsense"):
        random_training("nasbench201", TINY, replace(CONDITIONS, device="nonsense"))


def test_the_subject_is_what_was_asked_for(subject):
    assert isinstance(subject, TrainingSubject)
    assert (len(subject.images), subject.n_cores, subject.device.type) == (64, 1, "cpu")
    assert subject.recipe.batch_size == 8
