"""How fast this machine trains and scores, measured on a few steps: what plans are estimated with."""

import json
import time
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import islice

import numpy as np
import torch

from wsx.evaluators.devices import CPU
from wsx.evaluators.sources import SupernetSource
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES
from wsx.spaces.lists import LIST
from wsx.studies.scoring import ScoringOptions, onnx_engine
from wsx.training.run import DataSpec, RunConfig
from wsx.training.supernet import image_training, supernet_options

N_STEPS = 5
N_SUBNETS = 2
N_IMAGES = 128


@dataclass(frozen=True)
class ScoreRate:
    """Seconds of one core: per subnet, and per image of it."""

    per_subnet_s: float
    per_image_s: float


_load = lru_cache(maxsize=1)(DataSpec.load)


@cache
def split_sizes(data: DataSpec) -> dict[str, int]:
    """Return how many images each split has."""
    dataset = _load(data)
    return {name: len(getattr(dataset, name)) for name in ("train", "valid", "test")}


def n_trained_images(config: RunConfig) -> int:
    """Return how many images a training goes through, over all epochs."""
    recipe = config.recipe
    n_steps = split_sizes(config.data)["train"] // recipe.batch_size
    return n_steps * recipe.batch_size * recipe.epochs


def train_rate(config: RunConfig) -> float:
    """Return the seconds that an image takes in a training step, all archs of the step together.

    Trainings that differ in what costs no time are measured once.
    """
    config = _measurable(config)
    recipe = replace(config.recipe, epochs=1, lr=0.1, order_seed=0)
    return _train_rate(json.dumps(replace(config, recipe=recipe).as_dict()))


def _measurable(config: RunConfig) -> RunConfig:
    """Return a training that needs no file: lists and parents may not have been made when a plan is."""
    recipe = config.recipe
    if recipe.measure.startswith(LIST):
        recipe = replace(recipe, measure=next(iter(SPACES[config.space].measures)))
    return replace(config, recipe=recipe, seed=0, init_from=None)


@cache
def _train_rate(config: str) -> float:
    values = RunConfig.from_dict(json.loads(config))
    trainer = image_training(values, torch.device("cpu"), _load).trainer
    n_threads = torch.get_num_threads()
    # Like the trainings themselves, which go on side by side.
    torch.set_num_threads(1)
    try:
        times_s = [time.perf_counter() for _ in islice(trainer.run(), 1 + N_STEPS)]
    finally:
        torch.set_num_threads(n_threads)
    # Of the first step alone there is no duration. A median: a hiccup of the machine is not its rate.
    durations_s = np.diff(times_s) if len(times_s) > 1 else np.zeros(1)
    return float(np.median(durations_s)) / trainer.recipe.batch_size


def score_rate(config: RunConfig) -> ScoreRate:
    """Return what scoring costs: two random subnets of a fresh supernet, with running statistics."""
    return _score_rate(json.dumps(_measurable(config).as_dict()))


@cache
def _score_rate(values: str) -> ScoreRate:
    config = RunConfig.from_dict(json.loads(values))
    dataset = _load(config.data)
    macro = supernet_options(config.recipe, dataset.train.pixels.shape, dataset.train.n_classes)
    if "tracks_statistics" in macro:
        # Costs no time, and a supernet without them has nothing to run on.
        macro["tracks_statistics"] = True
    net = config.build(macro).eval()
    source = SupernetSource(SubnetRecorder(net, BatchNormMode("running")), "probe", CPU, None)
    images = dataset.test.take(min(N_IMAGES, len(dataset.test)))
    engine = onnx_engine(source, images, CPU, ScoringOptions(n_workers=1))
    rng = np.random.default_rng(0)
    archs = [net.space.draw(rng=rng, measure=config.recipe.measure) for _ in range(N_SUBNETS)]
    timings = [engine.score(arch)[1] for arch in archs]
    return ScoreRate(
        float(np.mean([t["record"] + t["build"] for t in timings])),
        float(np.mean([t["run"] for t in timings])) / len(images),
    )
