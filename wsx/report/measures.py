"""All measures with their intervals, and what ranking by size alone would reach."""

from dataclasses import replace

from wsx.analysis import Summary
from wsx.report._base import ReportData, Section
from wsx.report._html import note, table
from wsx.report._numbers import NONE, estimate_text, interval_text, is_accuracy

_SOURCES = {"archs": "over archs", "images": "over images", "both": "over both"}


def build(data: ReportData) -> str:
    """Return the table of all measures, or nothing without a summary."""
    if data.summary is None:
        return ""
    as_percent = is_accuracy(data.truth)
    metrics = data.summary.metrics
    sources = [s for s in _SOURCES if any(s in metric.intervals for metric in metrics.values())]
    has_alone = bool(data.summary.seed_against_others)
    rows = [
        [
            metric.label if metric.reason is None else f"{metric.label} ({metric.reason})",
            estimate_text(metric, as_percent=as_percent),
            *(
                interval_text(metric, metric.intervals.get(source), as_percent=as_percent)
                for source in sources
            ),
            *([_alone_text(data.summary, name, as_percent=as_percent)] if has_alone else []),
        ]
        for name, metric in metrics.items()
    ]
    ties = data.summary.predicted_ties
    heads = ["measure", "value", *(_SOURCES[s] for s in sources)]
    alone = ["one training alone"] if has_alone else []
    return table(heads + alone, rows) + note(
        f"The {data.summary.n_archs:,} predictions take {ties.n_distinct:,} different values; "
        f"{ties.n_tied_pairs:,} pairs of archs are tied. Measures of the top are means over all "
        "ways to break ties. Correlations over images use basic bootstrap intervals, the rest "
        "percentiles." + _alone_note(data.summary)
    )


def _alone_text(summary: Summary, name: str, *, as_percent: bool) -> str:
    alone = replace(summary.metrics[name], value=summary.seed_against_others[name].value)
    return estimate_text(alone, as_percent=as_percent)


def _alone_note(summary: Summary) -> str:
    if not summary.seed_against_others:
        return ""
    n_archs = max(measure.n_archs for measure in summary.seed_against_others.values())
    return (
        " One training alone: one training seed of the truth in the place of the supernet, against the "
        f"mean of the other seeds, averaged over seeds, over the {n_archs:,} of {summary.n_archs:,} "
        "archs that have two or more. A prediction of the expected truth would reach more."
    )


def build_baselines(data: ReportData) -> str:
    """Return correlations of size with truth beside the supernet's, or nothing without them."""
    summary = data.summary
    if summary is None or not (summary.baselines or summary.seed_against_seed):
        return ""
    names = ("kendall_tau", "spearman", "pearson")
    rankings = {"supernet": summary.metrics, **summary.baselines}
    rows = [
        [
            ranking,
            *(
                cell
                for name in names
                for cell in (
                    estimate_text(metrics[name], as_percent=False),
                    interval_text(
                        metrics[name], metrics[name].intervals.get("archs"), as_percent=False
                    ),
                )
            ),
        ]
        for ranking, metrics in rankings.items()
    ]
    seeds = {
        "one training, against the mean of the others": summary.seed_against_others,
        "one training, against another": summary.seed_against_seed,
    }
    for label, found in seeds.items():
        if found:
            values = (replace(summary.metrics[name], value=found[name].value) for name in names)
            cells = ((estimate_text(value, as_percent=False), NONE) for value in values)
            rows.append([label, *(cell for pair in cells for cell in pair)])
    heads = [head for name in names for head in (summary.metrics[name].label, "over archs")]
    return table(["ranking by", *heads], rows)


SECTION = Section("measures", "All measures", build)
BASELINES = Section("baselines", "Baselines", build_baselines)
