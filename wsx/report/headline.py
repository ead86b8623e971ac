"""The numbers to read first."""

from wsx.analysis import Estimate
from wsx.report._base import ReportData, Section
from wsx.report._html import note, text
from wsx.report._numbers import estimate_text, interval_text, is_accuracy, score_text

_SOURCES = {"archs": "archs", "images": "images", "both": "archs and images"}
_FIRST = (
    "kendall_tau",
    "spearman",
    "tau_in_top@0.1",
    "top_overlap@0.1",
    "regret@10",
    "best_rank@10",
)


def build(data: ReportData) -> str:
    """Return the counts in a sentence and the main measures as cards."""
    return f"{_counts(data)}{_cards(data)}"


def _counts(data: ReportData) -> str:
    n_failed = len(data.failures)
    parts = [f"{data.n_archs:,} archs scored"]
    if n_failed:
        parts.append(f"{n_failed:,} failed")
    if data.n_archs:
        as_percent = is_accuracy(data.predicted)
        low, mean, high = (
            score_text(float(value), as_percent=as_percent)
            for value in (data.predicted.min(), data.predicted.mean(), data.predicted.max())
        )
        unit = "accuracy" if as_percent else "score"
        parts.append(f"supernet {unit} {low} to {high}, mean {mean}")
    if data.truth is None:
        parts.append("no truth to compare with")
    return f'<p class="lead">{text("; ".join(parts))}.</p>'


def _cards(data: ReportData) -> str:
    if data.summary is None:
        return ""
    as_percent = is_accuracy(data.truth)
    metrics = data.summary.metrics
    chosen = {name: metrics[name] for name in _FIRST if name in metrics}
    cards = "".join(_card(name, metric, as_percent=as_percent) for name, metric in chosen.items())
    level = f"{100 * data.summary.options.level:.4g}"
    explanation = (
        f"Ranges are {level} % bootstrap intervals over what is named beside them. None contains "
        "the chance of training: another seed of the supernet gives another ranking."
    )
    if data.summary.n_images is not None:
        explanation += (
            f" Noise from having only {data.summary.n_images:,} images lowers a correlation; its "
            "ranges over images are for the value without that noise and may lie above the number."
        )
    return f'<dl class="cards">{cards}</dl>{note(explanation)}'


def _card(name: str, metric: Estimate, *, as_percent: bool) -> str:
    limits = [
        f"{interval_text(metric, interval, as_percent=as_percent)} over {_SOURCES[source]}"
        for source, interval in metric.intervals.items()
    ]
    if metric.reason is not None:
        limits = [metric.reason]
    value = estimate_text(metric, as_percent=as_percent)
    lines = "".join(f'<dd class="limits">{text(line)}</dd>' for line in limits)
    return (
        f'<div class="card"><dt>{text(metric.label)}</dt>'
        f'<dd class="value" data-metric="{text(name)}">{text(value)}</dd>{lines}</div>'
    )


SECTION = Section("headline", "In short", build)
