"""The whole loop in about a minute: a supernet on embedded digits, scored and compared with packaged truth."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsx.analysis import SummaryOptions
from wsx.spaces import SPACES
from wsx.spaces.choice import ArchChoice
from wsx.studies.analyze import Comparison, compare, report_comparison
from wsx.studies.evaluate_run import evaluate_run
from wsx.studies.export_run import export_run
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import Listener
from wsx.training import RECIPES, DataSpec, RunConfig, train_supernet
from wsx.training.loop import Progress
from wsx.truth import load_truth

SPACE, TRUTH = "nasbench201", "digits-nasbench201"
DEMO_BN = "calibrated:4x200"
N_EXPORTED = 32
N_RESAMPLES = 200


@dataclass(frozen=True)
class DemoResult:
    """What the demo made."""

    facts: dict[str, Any]
    comparison: Comparison
    page: Path

    @property
    def verdict(self) -> str:
        """Kendall tau with its interval, in one sentence."""
        if self.comparison.summary is None:
            raise ValueError("the demo compares with truth")
        tau = self.comparison.summary.metrics["kendall_tau"]
        interval = tau.intervals["archs"]
        return (
            f"Kendall tau with stand-alone truth over {self.comparison.summary.n_archs} archs: "
            f"{tau.value:.3f}, 95 % interval over archs {interval.low:.3f} to {interval.high:.3f}"
        )


def demo_data() -> DataSpec:
    """Return the digits splits that the packaged truth was made on."""
    return DataSpec("digits", seed=0, n_train=800, n_valid=100, n_test=897)


def run_demo(out: Path, *, start: Callable[[str], Callable[..., None]]) -> DemoResult:
    """Train, export, score, compare and report on digits; what is done already is not repeated.

    Args:
        out: Folder for everything.
        start: Begins a stage and returns its progress callback ``(done, total, note)``.
    """
    space, truth = SPACES[SPACE], load_truth(TRUTH)
    archs_file = out / "archs.txt"
    out.mkdir(parents=True, exist_ok=True)
    archs_file.write_text("\n".join(truth.texts) + "\n")
    update = start("train the supernet")

    def on_progress(progress: Progress) -> None:
        update(progress.step, progress.n_steps, f"loss {progress.loss:.3f}")

    config = RunConfig(SPACE, RECIPES["digits"], demo_data(), seed=0)
    run = train_supernet(config, out / "run", on_progress=on_progress)
    subnets = RunSubnets(run, DEMO_BN)
    on_subnet = start("export subnets")
    exported = export_run(
        subnets,
        out / "subnets",
        choice=ArchChoice(n=N_EXPORTED, measure="reachable"),
        on_subnet=lambda row, done, total: on_subnet(done, total),
    )
    choice = ArchChoice(file=archs_file)
    listener = Listener(start("plan the scoring"), start("score subnets"))
    _, scored = evaluate_run(subnets, out / "scores.h5", choice=choice, listener=listener)
    options = SummaryOptions(n_resamples=N_RESAMPLES)
    comparison = compare(out / "scores.h5", truth=TRUTH, options=options)
    files = report_comparison(
        comparison, out / "report.html", title="wsx demo: NAS-Bench-201 cells on digits"
    )
    agreement = truth.seed_agreement()
    facts = {
        "space": f"{space.name}, {space.n_archs:,} encodings",
        "run": out / "run",
        "exported": f"{len(exported.report.folder.rows)} ONNX files in {out / 'subnets'}, "
        f"{len(exported.agreements)} verified, {len(exported.wrong)} disagreeing",
        "scored": f"{len(comparison.table)} subnets on {comparison.table.total[0]} images "
        f"({scored.n_run} run now) in {out / 'scores.h5'}",
        "agreement of truth's own seeds": f"tau {agreement.kendall:.3f}"
        if agreement
        else "unknown",
    }
    return DemoResult(facts, comparison, files.page)
