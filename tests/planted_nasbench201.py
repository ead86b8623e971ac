"""Studies of NAS-Bench-201 on planted truth."""

import numpy as np

from wsx.spaces import SPACES
from wsx.studies.papers.steps import TrainSupernets
from wsx.studies.papers.variants import RankedSettings
from wsx.truth import TruthTable

SPACE = SPACES["nasbench201"]


def plant_truth(monkeypatch, n_archs=300):
    """Give every study a truth of some archs, evenly spread and free of any structure."""
    archs = SPACE.sample(n_archs, rng=np.random.default_rng(0), measure="reachable")
    texts = tuple(SPACE.format(arch) for arch in archs)
    accuracy = np.linspace(0.3, 0.9, n_archs)
    truth = TruthTable(SPACE.name, "planted", "test", "planted", texts, accuracy)
    monkeypatch.setattr(RankedSettings, "load_truth", lambda settings: truth)
    return truth


def noisy(truth, noise, rng, n_seeds=8):
    """Return truth with noise of its own for each seed, (seed, checkpoint, arch)."""
    return truth + noise * rng.normal(size=(n_seeds, 1, truth.size))


def verdicts(found):
    return [claim.verdict for claim in found.claims]


def trainings(steps):
    """Return what a study trains, by the name of the run."""
    (step,) = (step for step in steps if isinstance(step, TrainSupernets))
    return step.configs


def differing(one, other):
    """Return the names of values in which two recipes differ."""
    a, b = one.as_dict(), other.as_dict()
    return {name for name in a if a[name] != b[name]}
