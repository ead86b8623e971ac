"""Many campaigns of one score file as one analysis: runs, checkpoints and archs, beside truth if there is some."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import Resampling
from wsx.errors import OptionError, StoreError, TruthError
from wsx.report import ReportFiles
from wsx.report.findings import Part
from wsx.report.write import write_parts
from wsx.store import ScoreKey, ScoreTable, open_store
from wsx.studies.analyze import RANKED_BY, chosen_by
from wsx.studies.panel import FINETUNE, TUNED_BY, Panel, read_panel
from wsx.studies.parts.making import OnPart, make_parts
from wsx.studies.parts.movements import periodicity_part, ranks_part
from wsx.studies.parts.stability import Rankings, stability_part, truth_part
from wsx.studies.parts.variance import variance_part
from wsx.studies.truth_rows import truth_rows
from wsx.truth import TruthTable, load_truth

MAX_OUTCOMES = 200_000_000
"""Outcomes, one byte each, that the noise of the images is measured from; beyond, it is not told apart."""


@dataclass(frozen=True)
class PanelOptions(Resampling):
    """What is analysed and how.

    Attributes:
        by: What archs are ranked by, ``accuracy`` or ``loss``; always loss where the truth is a loss.
        window: How many of the last checkpoints count as the end of a run; None for all.
        period: Period in steps that is looked for; None for the number of archs where steps are consecutive.
        is_finetuned: Read campaigns of fine-tuned subnets, instead of those of checkpoints.

    Raises:
        OptionError: A value is out of range.
    """

    by: str = "accuracy"
    window: int | None = None
    period: int | None = None
    is_finetuned: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by not in RANKED_BY:
            raise OptionError(
                f"archs are ranked by one of {', '.join(RANKED_BY)}, not by {self.by!r}"
            )
        if self.window is not None and self.window < 1:
            raise OptionError(f"a window holds at least 1 checkpoint, got {self.window}")
        if self.period is not None and self.period < 2:
            raise OptionError(f"a period must be at least 2 steps, got {self.period}")


@dataclass(frozen=True, eq=False)
class PanelAnalysis:
    """Everything that many campaigns say together.

    Attributes:
        panel: The scores that every run has at every checkpoint.
        by: What archs are ranked by.
        window: How many of the last checkpoints count as the end of a run.
        left_out: How many archs and checkpoints are left out because some scores of them are missing.
        n_without_truth: Archs that the truth table lacks; None without one.
        truth: Where the truth comes from; None without.
        selection: What chose archs by their scores in some campaign; None where nothing is known to have.
        parts: Tables and figures.
    """

    panel: Panel
    by: str
    window: int
    left_out: Mapping[str, int]
    n_without_truth: int | None
    truth: str | None
    selection: str | None
    parts: tuple[Part, ...]

    def facts(self) -> dict[str, Any]:
        """Return what is analysed."""
        panel = self.panel
        known = {"without truth": self.n_without_truth} if self.truth is not None else {}
        chosen = {} if self.selection is None else {"selection": self.selection}
        return {
            "runs": ", ".join(panel.runs),
            "seeds": ", ".join(map(str, panel.seeds.tolist())),
            "checkpoints": f"{len(panel.checkpoints)}, {panel.checkpoints[0]} to {panel.checkpoints[-1]}",
            "window": self.window,
            "archs": len(panel.archs),
            "images": len(panel.image_ids),
            "ranked by": self.by,
            **{f"{name} left out": n for name, n in self.left_out.items()},
            **known,
            **chosen,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the analysis, JSON-clean."""
        panel = self.panel
        shared = {k: v for k, v in panel.key.as_dict().items() if k != "checkpoint_sha256"}
        return {
            "key": shared,
            "runs": list(panel.runs),
            "seeds": panel.seeds.tolist(),
            "checkpoints": list(panel.checkpoints),
            "steps": panel.steps.tolist(),
            "n_archs": len(panel.archs),
            "n_images": len(panel.image_ids),
            "left_out": dict(self.left_out),
            "truth": self.truth,
            "n_without_truth": self.n_without_truth,
            "selection": self.selection,
            "ranked_by": self.by,
            "window": self.window,
            "parts": {part.key: part.as_dict() for part in self.parts},
        }


def analyze_panel(
    scores: Path,
    *,
    truth: str | None = None,
    campaign: str | None = None,
    options: PanelOptions | None = None,
    on_part: OnPart | None = None,
) -> PanelAnalysis:
    """Return what the campaigns of a score file say together.

    Archs and checkpoints that lack some scores are left out and counted: every ranking is of the same archs.

    Args:
        scores: The score file.
        truth: What ``load_truth`` takes, such as ``PATH:column``; None measures no agreement with truth.
        campaign: Beginning of a campaign's digest; takes only campaigns of its kind, which differ from it in
            nothing but the checkpoint. Needed where the file holds several kinds.
        options: What is analysed and how.
        on_part: Told of parts done, parts in all, and the part that comes next.

    Raises:
        OptionError: The window is longer than the runs, or a period is asked of steps that are not consecutive.
        StoreError: There is no such file or campaign, or only one campaign, or campaigns have nothing in common.
        StoreKeyError: Campaigns differ in more than the checkpoint.
        TruthError: The truth is unreadable, or knows fewer than two of the archs.
    """
    chosen = options or PanelOptions()
    table = None if truth is None else load_truth(truth)
    by = "loss" if table is not None and table.metric == "loss" else chosen.by
    read, infos = _read(scores, campaign, is_finetuned=chosen.is_finetuned)
    panel, left_out = _complete(read)
    if panel.total.shape[0] * panel.total.shape[1] < 2:
        raise StoreError(_too_few(scores, read, infos, is_finetuned=chosen.is_finetuned))
    rankings, period = _rankings(panel, by, chosen), _period(panel, chosen)

    def variance() -> Part:
        outcomes = None
        if by == "accuracy" and panel.total.size * len(panel.image_ids) <= MAX_OUTCOMES:
            # Only now is it known that they fit into memory.
            full, _ = _read(scores, campaign, is_finetuned=chosen.is_finetuned, has_outcomes=True)
            outcomes = _complete(full)[0].outcomes()
        return variance_part(rankings.scores, outcomes=outcomes, resampling=chosen)

    makers: dict[str, Callable[[], Part]] = {
        "variance": variance,
        "stability": lambda: stability_part(rankings, resampling=chosen),
    }
    n_without = None
    if table is not None:
        known, values = _with_truth(panel, rankings, table, str(truth))
        n_without = len(panel.archs) - len(known.archs)
        makers["truth"] = lambda: truth_part(known, values, resampling=chosen)
    makers["ranks"] = lambda: ranks_part(rankings)
    if period is not None:
        makers["periodicity"] = lambda: periodicity_part(rankings, period, resampling=chosen)
    return PanelAnalysis(
        panel,
        by,
        rankings.window,
        left_out,
        n_without,
        None if table is None else table.source,
        next((said for info in infos if (said := chosen_by(info)) is not None), None),
        tuple(make_parts(makers, on_part)),
    )


def report_panel(analysis: PanelAnalysis, path: Path, *, title: str) -> ReportFiles:
    """Write the HTML page of an analysis of many campaigns, and its pictures beside it.

    Raises:
        OptionError: The path is no HTML file.
    """
    panel = analysis.panel
    n_runs, n_checkpoints, n_archs = panel.total.shape
    lead = (
        f"{n_archs:,} archs at {n_checkpoints:,} checkpoints of {n_runs:,} runs, "
        f"{len(panel.image_ids):,} images, ranked by {analysis.by}."
    )
    truth = {} if analysis.truth is None else {"truth": analysis.truth}
    key = {k: v for k, v in panel.key.as_dict().items() if k != "checkpoint_sha256"}
    provenance = {**analysis.facts(), **key, **truth}
    return write_parts(path, title=title, lead=lead, parts=analysis.parts, provenance=provenance)


def _read(
    scores: Path, campaign: str | None, *, is_finetuned: bool, has_outcomes: bool = False
) -> tuple[Panel, list[Mapping[str, Any]]]:
    """Return the panel with its gaps, and the info of every campaign that was asked for."""
    infos: list[Mapping[str, Any]] = []
    with open_store(scores, "r") as store:
        like = None if campaign is None else store.read(campaign)

        def keeps(key: ScoreKey, info: Mapping[str, Any]) -> bool:
            is_kept = like is None or _is_like(like, key, info)
            if is_kept:
                infos.append(info)
            return is_kept

        panel = read_panel(
            store, keeps=keeps, is_finetuned=is_finetuned, has_gaps=True, has_outcomes=has_outcomes
        )
    return panel, infos


def _is_like(table: ScoreTable, key: ScoreKey, info: Mapping[str, Any]) -> bool:
    """Return whether a campaign differs from another in nothing but the checkpoint and batches of fine-tuning."""
    if replace(key, checkpoint_sha256=table.key.checkpoint_sha256) != table.key:
        return False
    mine, other = info.get(FINETUNE), table.info.get(FINETUNE)
    return mine is None or other is None or all(mine[name] == other[name] for name in TUNED_BY)


def _complete(panel: Panel) -> tuple[Panel, dict[str, int]]:
    """Return the archs and checkpoints of which every score is there, and how many are left out.

    Raises:
        StoreError: Nothing is left, or one arch.
    """
    has = panel.total > 0
    checkpoints = np.flatnonzero(has.any(axis=2).all(axis=0))
    if not len(checkpoints):
        raise StoreError(
            f"runs {', '.join(panel.runs)} have no scored checkpoint in common; score the same ones of each"
        )
    archs = np.flatnonzero(has[:, checkpoints].all(axis=(0, 1)))
    if len(archs) < 2:
        raise StoreError(
            f"campaigns have {len(archs)} of {len(panel.archs)} archs in common, and a ranking needs 2; "
            "score the same archs at every checkpoint"
        )
    left_out = {
        "archs": len(panel.archs) - len(archs),
        "checkpoints": len(panel.checkpoints) - len(checkpoints),
    }
    cut = np.ix_(np.arange(len(panel.runs)), checkpoints, archs)
    return (
        replace(
            panel,
            checkpoints=tuple(panel.checkpoints[c] for c in checkpoints),
            steps=panel.steps[:, checkpoints],
            epochs=panel.epochs[:, checkpoints],
            n_batches=panel.n_batches[checkpoints],
            archs=tuple(panel.archs[a] for a in archs),
            decisions=panel.decisions[archs],
            correct=panel.correct[cut],
            total=panel.total[cut],
            loss_sum=panel.loss_sum[cut],
            params=panel.params[archs],
            flops=panel.flops[archs],
            bits=None if panel.bits is None else panel.bits[cut],
        ),
        left_out,
    )


def _too_few(
    scores: Path, panel: Panel, infos: list[Mapping[str, Any]], *, is_finetuned: bool
) -> str:
    found = f"{scores} has one campaign to analyse, {panel.runs[0]} {panel.checkpoints[0]}"
    if not is_finetuned and any(FINETUNE in info for info in infos):
        return f"{found}; its others are of fine-tuned subnets: add --finetuned"
    return f"{found}: analyse it without --panel, or score more checkpoints or runs into the file"


def _rankings(panel: Panel, by: str, options: PanelOptions) -> Rankings:
    n_checkpoints = len(panel.checkpoints)
    window = n_checkpoints if options.window is None else options.window
    if window > n_checkpoints:
        raise OptionError(f"a window of {window} checkpoints is more than the {n_checkpoints}")
    is_timed = not options.is_finetuned
    places: list[list[float | str]] = [
        [float(step) for step in row] if is_timed else list(panel.checkpoints)
        for row in panel.steps
    ]
    return Rankings(
        panel.accuracy if by == "accuracy" else -panel.loss,
        panel.archs,
        _distinct(panel),
        panel.checkpoints,
        places,
        "step" if is_timed else "checkpoint + batches of fine-tuning",
        window,
    )


def _distinct(panel: Panel) -> list[str]:
    """Return names of runs that are all different; folders may be called alike."""
    if len(set(panel.runs)) == len(panel.runs):
        return list(panel.runs)
    return [f"{name} ({number})" for number, name in enumerate(panel.runs)]


def _with_truth(
    panel: Panel, rankings: Rankings, table: TruthTable, truth: str
) -> tuple[Rankings, NDArray[np.float64]]:
    """Return the rankings of the archs that the truth knows, and what it says of them."""
    rows = truth_rows(panel.key.space, panel.decisions, panel.archs, table)
    is_known = rows >= 0
    if is_known.sum() < 2:
        raise TruthError(
            f"truth {truth} knows {int(is_known.sum())} of the {len(rows)} archs, such as {panel.archs[0]!r}; "
            "is it of the same space and spelling?"
        )
    archs = [text for text, has in zip(panel.archs, is_known, strict=True) if has]
    known = replace(rankings, scores=rankings.scores[..., is_known], archs=archs)
    return known, table.goodness[rows[is_known]]


def _period(panel: Panel, options: PanelOptions) -> int | None:
    """Return the period to look for; None where steps are not consecutive and none was asked for."""
    gaps = np.diff(panel.steps, axis=1)
    is_consecutive = bool(gaps.size) and not options.is_finetuned and bool((gaps == 1).all())
    if not is_consecutive and options.period is not None:
        raise OptionError(
            f"a period of {options.period} steps needs checkpoints of consecutive steps; train with "
            "checkpoint_last_steps and score those"
        )
    if not is_consecutive:
        return None
    return len(panel.archs) if options.period is None else options.period
