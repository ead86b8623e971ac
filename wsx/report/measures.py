"""All measures with their intervals, and what ranking by size alone would reach."""

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
    rows = [
        [
            metric.label if metric.reason is None else f"{metric.label} ({metric.reason})",
            estimate_text(metric, as_percent=as_percent),
            *(
                interval_text(metric, metric.intervals.get(source), as_percent=as_percent)
                for source in sources
            ),
        ]
        for metric in metrics.values()
    ]
    ties = data.summary.predicted_ties
    return table(["measure", "value", *(_SOURCES[s] for s in sources)], rows) + note(
        f"The {data.summary.n_archs:,} predictions take {ties.n_distinct:,} different values; "
        f"{ties.n_tied_pairs:,} pairs of archs are tied. Measures of the top are means over all "
        "ways to break ties. Correlations over images use basic bootstrap intervals, the rest "
        "percentiles."
    )


def build_baselines(data: ReportData) -> str:
    """Return correlations of size with truth beside the supernet's, or nothing without them."""
    summary = data.summary
    if summary is None or not (summary.baselines or summary.noise_ceiling):
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
    if summary.noise_ceiling:
        ceiling = summary.noise_ceiling
        cells = (cell for name in names for cell in (f"{ceiling[name]:.3f}", NONE))
        rows.append(["two seeds of the truth", *cells])
    heads = [head for name in names for head in (summary.metrics[name].label, "over archs")]
    return table(["ranking by", *heads], rows)


SECTION = Section("measures", "All measures", build)
BASELINES = Section("baselines", "Baselines", build_baselines)
