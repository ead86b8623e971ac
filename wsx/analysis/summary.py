"""All measures of one ranking, with their intervals and baselines, as one record.

summary = summarise(accuracies, truth, outcomes=bits, params=params, flops=flops)
summary.metrics["kendall_tau"].value
summary.metrics["kendall_tau"].intervals["archs"].low
json.dumps(summary.as_dict())
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt

from wsx.analysis._vectors import FloatArray, as_pair
from wsx.analysis.baselines import (
    CORRELATIONS,
    SeedMeasure,
    as_truth_runs,
    seed_against_others,
    seed_against_seed,
)
from wsx.analysis.metrics import (
    Metric,
    MetricKind,
    correlation_metrics,
    fraction_metrics,
    pick_metrics,
    relevance_metrics,
)
from wsx.analysis.ranks import Ties, count_ties, undefined_reason
from wsx.analysis.resample import (
    Draw,
    Interval,
    IntervalKind,
    as_outcomes,
    bootstrap,
    draw_archs,
    draw_both,
    draw_images,
    interval,
)
from wsx.analysis.uncertainty import Resampling
from wsx.errors import OptionError, ShapeError

OnDraw = Callable[[], object]


@dataclass(frozen=True)
class SummaryOptions(Resampling):
    """What a summary reports and how.

    Attributes:
        top_fractions: Fractions in (0, 1] for the overlaps and for tau inside the true top.
        top_ks: Numbers of picked archs for P@k, regret, best rank and the like.
        good_fraction: Which true top fraction counts as good in P@k.
        sparse_width: Bin width of sparse tau, as a fraction of accuracy 1.

    Raises:
        OptionError: A value is out of range.
    """

    top_fractions: tuple[float, ...] = (0.01, 0.05, 0.1, 0.25, 0.5)
    top_ks: tuple[int, ...] = (1, 5, 10, 50)
    good_fraction: float = 0.1
    sparse_width: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        for fraction in (*self.top_fractions, self.good_fraction, self.sparse_width):
            if not 0 < fraction <= 1:
                raise OptionError(f"fractions and widths must lie in (0, 1], got {fraction}")
        for k in self.top_ks:
            if k < 1:
                raise OptionError(f"top_ks must be 1 or more, got {k}")


@dataclass(frozen=True)
class Estimate:
    """One number with its uncertainty.

    Attributes:
        label: The measure in words.
        kind: How the number is to be read: correlation, share, accuracy or rank.
        value: The number; nan where it has none.
        reason: Why it has none, else None.
        intervals: Bootstrap intervals by what was drawn again: ``archs``, ``images``, ``both``.
    """

    label: str
    kind: MetricKind
    value: float
    reason: str | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """Everything measured about one ranking.

    Attributes:
        n_archs: How many archs were compared.
        n_images: How many images the outcomes cover; None without outcomes.
        metrics: Estimates by name, in the order of reporting.
        baselines: For ``params`` and ``flops``: correlations with truth by name.
        seed_against_others: Every measure with one training of the truth as the prediction and the mean
            of the others as truth, by name; empty where single trainings are unknown.
        seed_against_seed: Correlations of one training of the truth with another, by name; likewise.
        predicted_ties: Ties among the predictions.
        truth_ties: Ties in the truth.
        options: What was asked for.
    """

    n_archs: int
    n_images: int | None
    metrics: Mapping[str, Estimate]
    baselines: Mapping[str, Mapping[str, Estimate]]
    seed_against_others: Mapping[str, SeedMeasure]
    seed_against_seed: Mapping[str, SeedMeasure]
    predicted_ties: Ties
    truth_ties: Ties
    options: SummaryOptions

    def as_dict(self) -> dict[str, object]:
        """Return values that JSON can hold; a number without a value is None, beside its reason."""
        return {name: _without_nan(value) for name, value in asdict(self).items()}


def summarise(
    predicted: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    outcomes: npt.ArrayLike | None = None,
    params: npt.ArrayLike | None = None,
    flops: npt.ArrayLike | None = None,
    truth_runs: npt.ArrayLike | None = None,
    options: SummaryOptions | None = None,
    on_resample: Callable[[int, int], None] | None = None,
) -> Summary:
    """Return all measures of predictions against truth.

    Args:
        predicted: Supernet accuracies in [0, 1] or other scores, shape (arch,); larger is better.
        truth: Stand-alone accuracies in [0, 1] or other scores, shape (arch,); larger is better.
        outcomes: True where an arch classifies an image correctly, shape (arch, image); gives
            intervals over images. Its row means must be the predictions.
        params: Parameter counts, shape (arch,).
        flops: Operation counts, shape (arch,).
        truth_runs: Truth of independent trainings of the same archs, shape (run, arch), 2 or more runs;
            nan where there was no such training.
        options: What to report; the defaults of ``SummaryOptions`` where None.
        on_resample: Called after each resample with how many are done, and of how many.

    Raises:
        ShapeError: Shapes do not fit together.
        OptionError: Values are not finite, or the outcomes belong to other predictions.
    """
    chosen = options or SummaryOptions()
    scores, values = as_pair(predicted, truth)
    is_correct = None if outcomes is None else _matching_outcomes(outcomes, scores)
    sizes = {
        name: as_pair(size, values, (name, "truth"))[0]
        for name, size in (("params", params), ("flops", flops))
        if size is not None
    }
    metrics = _metrics(chosen)
    runs = None if truth_runs is None else _matching_runs(truth_runs, values)
    n_sources = len(sizes) + (1 if is_correct is None else 3)
    on_draw = _counter(on_resample, chosen.n_resamples * n_sources)
    return Summary(
        n_archs=scores.size,
        n_images=None if is_correct is None else is_correct.shape[1],
        metrics=estimate_metrics(metrics, scores, values, chosen, is_correct, on_draw=on_draw),
        baselines={
            name: _baseline(size, values, name, chosen, on_draw) for name, size in sizes.items()
        },
        seed_against_others={}
        if runs is None
        else {metric.name: seed_against_others(metric, runs) for metric in metrics},
        seed_against_seed={}
        if runs is None
        else {m.name: seed_against_seed(m, runs) for m in metrics if m.name in CORRELATIONS},
        predicted_ties=count_ties(scores),
        truth_ties=count_ties(values),
        options=chosen,
    )


def _metrics(options: SummaryOptions) -> list[Metric]:
    metrics = correlation_metrics(options.sparse_width) + relevance_metrics()
    for fraction in options.top_fractions:
        metrics += fraction_metrics(fraction)
    for k in options.top_ks:
        metrics += pick_metrics(k, options.good_fraction)
    return metrics


def _counter(on_resample: Callable[[int, int], None] | None, total: int) -> OnDraw | None:
    if on_resample is None:
        return None
    done = itertools.count(1)
    return lambda: on_resample(next(done), total)


def _baseline(
    size: FloatArray, truth: FloatArray, name: str, options: SummaryOptions, on_draw: OnDraw | None
) -> dict[str, Estimate]:
    labels = {metric.name: metric.label for metric in correlation_metrics(options.sparse_width)}
    metrics = [
        Metric(key, labels[key], "correlation", value, lambda p, t: _named_reason(p, t, name))
        for key, value in CORRELATIONS.items()
    ]
    return estimate_metrics(metrics, size, truth, options, on_draw=on_draw)


def _named_reason(size: FloatArray, truth: FloatArray, name: str) -> str | None:
    return undefined_reason(size, truth, (name, "truth"))


def estimate_metrics(
    metrics: Sequence[Metric],
    scores: FloatArray,
    truth: FloatArray,
    options: Resampling,
    outcomes: npt.NDArray[np.bool_] | None = None,
    *,
    on_draw: OnDraw | None = None,
) -> dict[str, Estimate]:
    """Return measures of scores against truth by name, with intervals over archs and over images.

    Args:
        metrics: What is measured.
        scores: Scores, shape (arch,).
        truth: Scores of the same archs, shape (arch,).
        options: How things are drawn again.
        outcomes: True where an arch classifies an image correctly, shape (arch, image).
        on_draw: Called after each draw.
    """
    reasons = {metric.name: metric.reason(scores, truth) for metric in metrics}
    defined = [metric for metric in metrics if reasons[metric.name] is None]
    values = {metric.name: metric.value(scores, truth) for metric in defined}
    intervals = _intervals(defined, values, scores, truth, options, outcomes, on_draw)
    return {
        metric.name: Estimate(
            metric.label,
            metric.kind,
            values.get(metric.name, math.nan),
            reasons[metric.name],
            intervals.get(metric.name, {}),
        )
        for metric in metrics
    }


def _intervals(
    metrics: Sequence[Metric],
    values: Mapping[str, float],
    scores: FloatArray,
    truth: FloatArray,
    options: Resampling,
    outcomes: npt.NDArray[np.bool_] | None,
    on_draw: OnDraw | None,
) -> dict[str, dict[str, Interval]]:
    """Return for each metric its intervals by source of chance."""
    intervals: dict[str, dict[str, Interval]] = {metric.name: {} for metric in metrics}
    if not metrics or not options.n_resamples or scores.size < 2:
        return intervals

    def statistics(predicted: FloatArray, true: FloatArray) -> FloatArray:
        return np.array([metric.value(predicted, true) for metric in metrics])

    # Independent streams: asking for images does not change the numbers over archs.
    rngs = options.rngs(3)
    n = options.n_resamples
    sources = {"archs": draw_archs(scores, truth, n_resamples=n, rng=rngs[0])}
    if outcomes is not None:
        sources["images"] = draw_images(outcomes, truth, n_resamples=n, rng=rngs[1])
        sources["both"] = draw_both(outcomes, truth, n_resamples=n, rng=rngs[2])
    for source, draws in sources.items():
        samples = bootstrap(statistics, _told(draws, on_draw))
        for column, metric in enumerate(metrics):
            intervals[metric.name][source] = interval(
                samples[:, column],
                level=options.level,
                value=values[metric.name],
                kind=_interval_kind(metric, source),
                bounds=(-1, 1) if metric.kind == "correlation" else (-np.inf, np.inf),
            )
    return intervals


def _told(draws: Iterable[Draw], on_draw: OnDraw | None) -> Iterator[Draw]:
    for draw in draws:
        yield draw
        if on_draw is not None:
            on_draw()


def _interval_kind(metric: Metric, source: str) -> IntervalKind:
    """Return the kind of interval that fits: docs/statistics.md has the simulations behind it."""
    # Drawing images again adds their noise a second time, which shrinks every correlation.
    is_shifted = metric.kind == "correlation" and source != "archs"
    return "basic" if is_shifted else "percentile"


def _matching_outcomes(outcomes: npt.ArrayLike, predicted: FloatArray) -> npt.NDArray[np.bool_]:
    """Return the outcomes after checking that they are the ones behind the predictions."""
    is_correct = as_outcomes(outcomes, n_archs=predicted.size)
    gaps = np.abs(is_correct.mean(axis=1) - predicted)
    # Less than half an image apart: a different count, not a rounded accuracy.
    wrong = np.flatnonzero(gaps * is_correct.shape[1] >= 0.5)
    if wrong.size:
        first = wrong[0]
        raise OptionError(
            f"outcomes of {wrong.size} archs do not give their predicted accuracy; arch {first} "
            f"has {predicted[first]:g} but its outcomes give {is_correct[first].mean():g}"
        )
    return is_correct


def _matching_runs(truth_runs: npt.ArrayLike, truth: FloatArray) -> FloatArray:
    runs = as_truth_runs(truth_runs)
    if runs.shape[1] != truth.size:
        raise ShapeError(
            f"truth_runs has {runs.shape[1]} archs and truth has {truth.size}; "
            "both must list the same archs in the same order"
        )
    return runs


def _without_nan(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
