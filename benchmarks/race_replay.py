"""Races replayed on the outcomes of an exhaustive campaign: how often they are wrong, and what they save.

    python -m benchmarks.race_replay SCORES.h5 --k 10 --repeats 100 [--functions 2000]

Each repeat has another seed, so other references and another order of the images. A race is wrong if a missed
arch of the exhaustive top is better, or a returned one worse, than the K-th by more than the tolerance.
``--functions`` fills the population up with children: outcomes of one function on half of the images, drawn at
random, and of another on the rest; the parents lie at most ten ranks apart, so accuracies spread as they did.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from wsx.analysis.race import RaceRules, run_race
from wsx.analysis.race_estimate import BoolArray, IntArray
from wsx.exporters.batchnorm import BatchNormMode
from wsx.store import open_store

RANKS_APART = 10


def read_functions(path: Path, campaign: str | None) -> tuple[BoolArray, IntArray, int]:
    """Return outcomes (function, image), archs per function, and the images of a calibration."""
    with open_store(path, "r") as store:
        table = store.read(campaign)
    ok = np.flatnonzero(table.ok)
    _, first, counts = np.unique(
        table.function_key[ok].astype(str), return_index=True, return_counts=True
    )
    return table.outcomes()[ok][first], counts, BatchNormMode.parse(table.key.bn).n_images


def add_children(outcomes: BoolArray, n_functions: int, rng: np.random.Generator) -> BoolArray:
    """Return the functions and enough children of theirs."""
    ranked = outcomes[np.argsort(outcomes.sum(axis=1))]
    n_parents, n_images = outcomes.shape
    children = np.empty((max(0, n_functions - n_parents), n_images), dtype=bool)
    for child in children:
        one = int(rng.integers(n_parents))
        near = one + int(rng.integers(-RANKS_APART, RANKS_APART + 1))
        other = min(max(near, 0), n_parents - 1)
        child[:] = np.where(rng.random(n_images) < 0.5, ranked[one], ranked[other])
    return np.concatenate([outcomes, children])


def replay(outcomes: BoolArray, n_each: IntArray, rules: RaceRules) -> tuple[int, bool, bool]:
    """Race once; return image evaluations, whether the answer was wrong, and whether it was exhaustive's."""
    result = run_race(
        n_each,
        outcomes.shape[1],
        rules,
        lambda archs, images: (outcomes[np.ix_(archs, images)], np.ones(archs.size, dtype=bool)),
    )
    correct = outcomes.sum(axis=1)
    ranked = np.argsort(-correct, kind="stable")
    best = ranked[: int(np.searchsorted(np.cumsum(n_each[ranked]), rules.k)) + 1]
    kth, width = correct[best[-1]], rules.tolerance * outcomes.shape[1]
    missed, extra = np.setdiff1d(best, result.winners), np.setdiff1d(result.winners, best)
    is_wrong = bool((correct[missed] > kth + width).any() or (correct[extra] < kth - width).any())
    return result.n_evaluations, is_wrong, not missed.size


def measure(
    outcomes: BoolArray, n_each: IntArray, rules: list[RaceRules], n_calibration: int
) -> dict[str, Any]:
    """Return error rates and factors over the repeats, with 95 % intervals."""
    rows = [replay(outcomes, n_each, one) for one in rules]
    evaluations, wrong, same = (np.array(column) for column in zip(*rows, strict=True))
    share = evaluations / outcomes.size
    extra = n_calibration / outcomes.shape[1]
    error = stats.binomtest(int(wrong.sum()), len(rules)).proportion_ci(0.95)
    spread = 1.96 * share.std(ddof=1) / np.sqrt(len(rules)) if len(rules) > 1 else np.nan
    mean = float(share.mean())
    return {
        "functions": len(outcomes),
        "archs": int(n_each.sum()),
        "repeats": len(rules),
        "wrong": int(wrong.sum()),
        "error rate interval": [round(error.low, 4), round(error.high, 4)],
        "same top": int(same.sum()),
        "factor": round(1 / mean, 2),
        "factor interval": [round(1 / (mean + spread), 2), round(1 / (mean - spread), 2)],
        "least factor": round(1 / float(share.max()), 2),
        "factor with calibration": round((1 + extra) / (mean + extra), 2),
    }


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--campaign")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--delta", type=float, default=0.05)
    parser.add_argument("--tolerance", type=float, default=0.2, help="percentage points")
    parser.add_argument("--functions", type=int, default=0)
    options = parser.parse_args()
    outcomes, n_each, n_calibration = read_functions(options.scores, options.campaign)
    if options.functions > len(outcomes):
        outcomes = add_children(outcomes, options.functions, np.random.default_rng(0))
        n_each = np.ones(len(outcomes), dtype=np.int64)
    rules = [
        RaceRules(options.k, options.delta, options.tolerance / 100, seed)
        for seed in range(options.repeats)
    ]
    print(json.dumps(measure(outcomes, n_each, rules, n_calibration), indent=2))


if __name__ == "__main__":
    main()
