"""How ranks of single archs move: their distributions, and periods over consecutive steps."""

import numpy as np

from wsx.analysis import Resampling, periodicity, rank_distributions
from wsx.report.findings import Cell, Part, Plot, ResultTable, Series
from wsx.studies.parts.cells import ends, number
from wsx.studies.parts.stability import Rankings

MAX_ARCHS = 100


def ranks_part(rankings: Rankings) -> Part:
    """Return where each arch ranks over the runs and the last checkpoints, the best first."""
    found = rank_distributions(rankings.last.reshape(-1, len(rankings.archs)))
    order = np.argsort(found.mean, kind="stable")
    best, low, median, high, worst = found.quantiles
    rows: list[list[Cell]] = [
        [
            rankings.archs[a],
            *(number(x) for x in (found.mean[a], best[a], low[a], median[a], high[a], worst[a])),
        ]
        for a in order[:MAX_ARCHS]
    ]
    many = len(order) > MAX_ARCHS
    which = f"The {MAX_ARCHS} of {len(order)} archs that rank highest on the mean. " if many else ""
    table = ResultTable(
        "Ranks of archs",
        ["arch", "mean rank", "best", "25 %", "median", "75 %", "worst"],
        rows,
        f"{which}Ranks in {found.n_rankings} rankings: {len(rankings.runs)} runs, the last "
        f"{rankings.window} checkpoints of each; 1 is best.",
    )
    names = [str(row[0]) for row in rows]
    shown = order[:MAX_ARCHS]
    series = [
        Series(
            "median, 25 to 75 %",
            names,
            median[shown].tolist(),
            low[shown].tolist(),
            high[shown].tolist(),
        ),
        Series("best", names, best[shown].tolist()),
        Series("worst", names, worst[shown].tolist()),
    ]
    plot = Plot("ranks", "Ranks of archs", "arch", "rank", "marks", series, which.strip())
    return Part("ranks", [table], [plot])


def periodicity_part(rankings: Rankings, period: int, *, resampling: Resampling) -> Part:
    """Return how much of each run's variance over its steps repeats with a period.

    Args:
        rankings: At consecutive steps.
        period: The period in steps, at least 2: the number of archs for round-robin training.
        resampling: How many rotations, and the level of the interval by chance.

    Raises:
        OptionError: The period is below 2.
    """
    rows: list[list[Cell]] = []
    series = []
    for name, scores in zip(rankings.runs, rankings.scores, strict=True):
        found = periodicity(scores, period, resampling=resampling)
        label = name if found.reason is None else f"{name} ({found.reason})"
        near = max(found.neighbours.values(), default=float("nan"))
        rows.append(
            [
                label,
                found.period,
                found.n_cycles,
                number(found.share, scale=100),
                *ends(found.by_chance, scale=100),
                number(found.p_value),
                number(near, scale=100),
            ]
        )
        if found.reason is None:
            shares = {**found.neighbours, period: found.share}
            x = sorted(shares)
            series.append(Series(name, [float(p) for p in x], [100 * shares[p] for p in x]))
    table = ResultTable(
        "Periodicity",
        [
            *("run", "period, steps", "cycles", "share, %", "by chance low", "by chance high", "p"),
            "largest of the periods beside it, %",
        ],
        rows,
        "Share of the variance over steps that repeats with the period, and what it is when every cycle is "
        "rotated by a random number of steps. Memory alone makes it positive at every long period: compare those "
        "beside it.",
    )
    title = "Share that repeats, by period"
    plot = Plot("periodicity", title, "period, steps", "share, %", "lines", series)
    return Part("periodicity", [table], [plot] if series else [])
