"""The real experiment: a supernet on CIFAR-10 in half an hour on two cores, 1,000 archs, the true ranking.

    python -m benchmarks.nasbench201_cifar10 --data cifar10=PATH --truth PATH:cifar10_test --out DIR

Trains with the recipe ``cifar10-two-cores``, scores 1,000 reachable archs on the 10,000 test images, and
compares with NAS-Bench-201's stand-alone test accuracies. A repeated command goes on where it stopped.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from wsx.analysis import Summary, SummaryOptions
from wsx.spaces.choice import ArchChoice
from wsx.studies.analyze import compare, report_comparison
from wsx.studies.evaluate_run import evaluate_run
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import Listener
from wsx.training import RECIPES, DataSpec, RunConfig, train_supernet
from wsx.training.loop import Progress

RECIPE = "cifar10-two-cores"
IMAGE_SIZE = 16
MEASURES = ("spearman", "kendall_tau", "pearson", "tau_in_top@0.5", "bottom_overlap@0.1")


def print_progress(progress: Progress) -> None:
    """Print a line at the end of every tenth epoch."""
    if progress.is_epoch_end and progress.epoch % 10 == 0:
        print(
            f"epoch {progress.epoch} loss {progress.loss:.3f} accuracy {progress.accuracy:.3f} "
            f"{progress.images_per_s:,.0f} images/s",
            file=sys.stderr,
        )


def print_summary(by: str, summary: Summary) -> None:
    """Print the correlations with their intervals over archs, beside the baselines."""
    for name in MEASURES:
        if name in summary.metrics:
            estimate = summary.metrics[name]
            interval = estimate.intervals["archs"]
            print(
                f"{by:<9} {name:<20} {estimate.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
            )
    for size, estimates in summary.baselines.items():
        print(f"{by:<9} {size + ' spearman':<20} {estimates['spearman'].value:.3f}")


def main() -> None:
    """Train, score, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bn", default="calibrated:4x256")
    options = parser.parse_args()
    data = DataSpec(options.data, n_valid=1000, image_size=IMAGE_SIZE)
    config = RunConfig("nasbench201", RECIPES[RECIPE], data, options.seed)
    start_s = time.perf_counter()
    run = train_supernet(config, options.out / "run", on_progress=print_progress)
    trained_s = time.perf_counter()
    choice = ArchChoice(n=options.n, seed=0, measure="reachable")
    scores = options.out / "scores.h5"
    subnets = RunSubnets(run, options.bn)
    key, counts = evaluate_run(subnets, scores, choice=choice, listener=Listener())
    scored_s = time.perf_counter()
    print(
        f"training {(trained_s - start_s) / 60:.1f} min, scoring {(scored_s - trained_s) / 60:.1f} min"
    )
    print(f"campaign {key.digest()[:16]}, {counts}")
    results = {}
    for by in ("accuracy", "loss"):
        comparison = compare(
            scores,
            truth=options.truth,
            campaign=key.digest(),
            by=by,
            options=SummaryOptions(n_resamples=200),
        )
        if comparison.summary is not None:
            print_summary(by, comparison.summary)
        results[by] = comparison.as_dict()
        report_comparison(
            comparison, options.out / f"report-{by}.html", title=f"CIFAR-10, ranked by {by}"
        )
    print(f"mean supernet accuracy {np.mean(compare(scores, truth=None).predicted):.3f}")
    (options.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
