"""Planted accuracies and truth for studies of the cell of 64 archs."""

from types import SimpleNamespace

import numpy as np

from wsx.spaces import SPACES
from wsx.studies.papers import STUDIES, settings_of
from wsx.studies.papers.p3.cell64 import Cell64Settings

SPACE = SPACES["cell64"]
TEXTS = tuple(SPACE.format(arch) for arch in SPACE.enumerate())
QUALITY = np.linspace(0.2, 0.8, len(TEXTS))[np.random.default_rng(64).permutation(len(TEXTS))]


def noisy(noise, *shape, rng):
    """Accuracies of that shape and all archs; the noise may differ along the axes before the last."""
    noise = np.broadcast_to(noise, shape)[..., None]
    return QUALITY + noise * rng.normal(size=(*shape, len(TEXTS)))


def small(name, **values):
    return settings_of(STUDIES[name], "small", values)


def plant_truth(monkeypatch, alone=None, *, has_seeds=True):
    """Let truth be the planted quality, or stand-alone accuracies (seed, arch)."""
    accuracy = QUALITY if alone is None else alone.mean(axis=0)
    per_seed = None if alone is None or not has_seeds else alone.T
    truth = SimpleNamespace(texts=TEXTS, accuracy=accuracy, per_seed=per_seed, source="planted")
    monkeypatch.setattr(Cell64Settings, "load_truth", lambda settings, folder: truth)


def verdicts(found):
    return [claim.verdict for claim in found.claims]


def assert_alike_but_for(configs, *names):
    """Check that trainings differ in nothing but these fields."""

    def rest(config):
        return {name: value for name, value in config.as_dict().items() if name not in names}

    assert all(rest(config) == rest(configs[0]) for config in configs)
