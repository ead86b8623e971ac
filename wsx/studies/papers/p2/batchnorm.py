"""Which BatchNorm statistics rank? P2's study of tracking and affine parameters on NAS-Bench-201."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis.uncertainty import spread
from wsx.errors import StudyError
from wsx.report.findings import Cell, Claim, Findings, Plot, ResultTable, judged, limits
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.nasbench201 import P2, nasbench201_settings
from wsx.studies.papers.p2.curves import Curves, curve_plots, curves_of, logged, n_kept
from wsx.studies.papers.seeds import claim_over_seeds, curve
from wsx.studies.papers.variants import (
    RankedSettings,
    Variant,
    columns_heads,
    columns_of,
    columns_table_row,
    variant_steps,
)

SHOWN = ("accuracy", "sparse_tau", "spearman", "surpass_random", "final")
INTRODUCTION = f"{P2}, introduction"
POURCHOT = "arXiv 2002.04289, recomputed from its published scores of 1,000 archs"
# Spearman on all of NAS-Bench-101, mean and deviation over 5 seeds, in POURCHOT.
PUBLISHED = {"running": (0.227, 0.055), "calibrated": (0.551, 0.050)}
Array = NDArray[np.float64]
KINDS = {
    (True, True): "tracked-affine",
    (True, False): "tracked-plain",
    (False, True): "untracked-affine",
    (False, False): "untracked-plain",
}


@dataclass(frozen=True)
class BatchNormSettings(RankedSettings):
    """Numbers of the study.

    Attributes:
        eval_batch: Images per batch of scores in BatchNorm mode ``batch``.
    """

    eval_batch: int = 256


class BatchNorm(Study):
    """Trainings with and without tracked statistics and affine parameters, scored with each kind of statistics."""

    paper = f"{P2}, its study of BatchNorm"
    summary = "which BatchNorm statistics can a supernet be scored with?"
    starts_from = "p2-nasbench201"

    def settings(self, scale: str) -> BatchNormSettings:
        """Return the numbers of a scale."""
        values = nasbench201_settings(scale, self.starts_from)
        if scale == "paper":
            return BatchNormSettings(**values)
        every = 1 if scale == "tiny" else 4
        values["recipe"] = replace(values["recipe"], checkpoint_epochs=every)
        return BatchNormSettings(**{**values, "n_archs": 8 if scale == "tiny" else 100})

    def steps(self, settings: BatchNormSettings, folder: Path) -> Sequence[Step]:
        """Train the four kinds, and score the same archs with each statistics they have."""
        texts, _ = settings.archs()
        return variant_steps(list(_variants(settings).values()), settings, texts)

    def findings(self, settings: BatchNormSettings, folder: Path) -> Findings:
        """Compare the statistics with each other, and with what affine parameters change."""
        texts, truth = settings.archs()
        variants = _variants(settings)
        found = {
            name: curves_of(variant, settings, folder, texts) for name, variant in variants.items()
        }
        losses = {
            kind: logged(variants[f"{kind}-calibrated"], settings, folder, "loss")
            for kind in KINDS.values()
        }
        return Findings(
            "Which BatchNorm statistics can a supernet be scored with?",
            f"{len(settings.seeds)} seeds of each kind of training, {len(texts)} archs of {settings.space}, "
            f"{settings.data.spec}.",
            _claims(found, truth),
            [_table(variants, found, truth, settings), _published(found, truth, settings)],
            _plots(variants, found, truth, losses),
            {**settings.as_dict(), "published": f"{P2}; {POURCHOT}"},
        )


def _variants(settings: BatchNormSettings) -> dict[str, Variant]:
    """Return what is scored, by kind of training and of statistics; untracked ones cannot be run on.

    Raises:
        StudyError: The BatchNorm mode of the settings is not calibrated.
    """
    if not settings.bn.startswith("calibrated"):
        raise StudyError(
            f"bn is {settings.bn!r}; this study compares a calibrated mode with others"
        )
    found = {}
    for (is_tracked, is_affine), kind in KINDS.items():
        macro = {
            **settings.recipe.supernet,
            "tracks_statistics": is_tracked,
            "is_affine": is_affine,
        }
        config = settings.run_config(replace(settings.recipe, supernet=macro), settings.seeds[0])
        label = f"{'tracked' if is_tracked else 'not tracked'}, {'affine' if is_affine else 'not affine'}"
        modes = {"calibrated": settings.bn, "batch": "batch", "running": "running"}
        for mode in list(modes)[: 3 if is_tracked else 2]:
            found[f"{kind}-{mode}"] = Variant(
                f"{kind}-{mode}",
                f"{label}: {mode}",
                config,
                modes[mode],
                batch_size=settings.eval_batch if mode == "batch" else None,
                trained_as=kind,
                checkpoints="epochs",
                n_checkpoints=n_kept(settings.recipe),
            )
    return found


def _claims(found: Mapping[str, Curves], truth: Array) -> list[Claim]:
    taus = {name: curves.taus(truth)[:, -1] for name, curves in found.items()}
    accuracies = {name: curves.accuracy[:, -1].mean(axis=-1) for name, curves in found.items()}
    return [
        _collapses("the ranking", "sparse tau", taus),
        _collapses("the accuracy", "accuracy", accuracies),
        _largest(taus),
    ]


def _collapses(what: str, name: str, values: Mapping[str, Array]) -> Claim:
    calibrated, running = (values[f"tracked-affine-{mode}"] for mode in ("calibrated", "running"))
    return claim_over_seeds(
        f"With the statistics that training tracked {what} collapses to less than half.",
        INTRODUCTION,
        spread(calibrated / 2 - running, "half less what is left"),
        f"{name} {calibrated.mean():.3f} calibrated, {running.mean():.3f} with tracked statistics; half of "
        "the former less the latter",
    )


def _largest(taus: Mapping[str, Array]) -> Claim:
    calibrated = taus["tracked-affine-calibrated"]
    gain = calibrated - taus["tracked-affine-running"]
    others = {
        "affine parameters": calibrated - taus["tracked-plain-calibrated"],
        "statistics of the batch": calibrated - taus["tracked-affine-batch"],
    }
    rest = ", ".join(f"{change.mean():+.3f} by {name}" for name, change in others.items())
    # Not the sizes seed by seed, which noise makes larger: the gain must exceed each change and its opposite.
    changes = [sign * change for change in others.values() for sign in (1, -1)]
    leads = [spread(gain - change, "larger change") for change in changes]
    # Only the upper limit picks one of several that could be low by chance.
    sure = 1 - (1 - leads[0].level) / len(leads)
    upper = [spread(gain - change, "larger change", level=sure) for change in changes]
    low, high = min(one.low for one in leads), min(one.high for one in upper)
    lead = gain.mean() - max(abs(change.mean()) for change in others.values())
    return judged(
        "Measuring statistics anew for each subnet is the largest single effect of BatchNorm.",
        POURCHOT,
        low,
        high,
        f"sparse tau rises by {gain.mean():.3f} with calibration and changes by {rest}: more than the largest by "
        f"{lead:+.3f} {limits(low, high)} (95 % over {gain.size} seeds)",
    )


def _table(
    variants: Mapping[str, Variant],
    found: Mapping[str, Curves],
    truth: Array,
    settings: BatchNormSettings,
) -> ResultTable:
    rows = [
        columns_table_row(
            variants[name].label, columns_of(curves.accuracy[:, -1], truth, settings.top_k), SHOWN
        )
        for name, curves in found.items()
    ]
    is_same = all(
        np.array_equal(found[f"tracked-{one}"].accuracy, found[f"untracked-{one}"].accuracy)
        for one in ("affine-calibrated", "affine-batch", "plain-calibrated", "plain-batch")
    )
    same = "the same, bit for bit" if is_same else "not the same"
    return ResultTable(
        "Training, and statistics of its scores",
        columns_heads("training: statistics", SHOWN),
        rows,
        f"Scores of trainings with and without tracking are {same}: tracking keeps averages, and changes no "
        "weight. The paper's own figures are not known to us; its code tracks nothing, and learns scale and "
        "shift on this space.",
    )


def _published(
    found: Mapping[str, Curves], truth: Array, settings: BatchNormSettings
) -> ResultTable:
    rows: list[list[Cell]] = []
    for mode, (rho, std) in PUBLISHED.items():
        last = found[f"tracked-affine-{mode}"].accuracy[:, -1]
        ours = columns_of(last, truth, settings.top_k)
        rows.append([*columns_table_row(mode, ours, ("spearman",)), rho, std])
    return ResultTable(
        "Calibration, beside figures of another space",
        [
            *columns_heads("statistics", ("spearman",)),
            "published Spearman",
            "deviation over 5 seeds",
        ],
        rows,
        f"Published: all of NAS-Bench-101, statistics from 4 batches, {POURCHOT}.",
    )


def _plots(
    variants: Mapping[str, Variant],
    found: Mapping[str, Curves],
    truth: Array,
    losses: Mapping[str, Array],
) -> list[Plot]:
    # Those without tracking are the same once more.
    shown = {variants[name].label: c for name, c in found.items() if name.startswith("tracked")}
    lines = [curve(kind, range(1, v.shape[1] + 1), v) for kind, v in losses.items()]
    training = Plot(
        "training", "Training loss, over epochs", "epochs", "training loss, nats", "lines", lines
    )
    return [*curve_plots(shown, truth), training]


STUDIES.register("batchnorm")(BatchNorm())
