"""Which operations a supernet over- or under-values, edge by edge."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import Resampling, option_bias, spread
from wsx.report.findings import Cell, Plot, ResultTable, Series, limits
from wsx.spaces import Decision

N_RESAMPLES = 500


def operation_bias(
    decisions: Sequence[Decision],
    archs: NDArray[np.int16],
    scores: NDArray[np.float64],
    truth: NDArray[np.float64],
) -> tuple[ResultTable, Plot]:
    """Return the bias for or against each operation, and on which edges it stands out.

    Args:
        decisions: Of the space.
        archs: Options, shape (arch, decision).
        scores: Supernet accuracies, shape (seed, arch).
        truth: Stand-alone accuracies, shape (arch,).
    """
    flags = option_bias(
        archs, scores.mean(axis=0), truth, resampling=Resampling(n_resamples=N_RESAMPLES)
    )
    biases = _biases(decisions, archs, scores, truth)
    rows: list[list[Cell]] = []
    for name, table in biases.items():
        found = spread([spread(row, name).mean for row in table], f"bias of {name}")
        stands = [
            (one.bias.value, decisions[one.decision].name)
            for one in flags
            if one.is_flagged and decisions[one.decision].options[one.option] == name
        ]
        over = ", ".join(edge for bias, edge in stands if bias > 0)
        under = ", ".join(edge for bias, edge in stands if bias < 0)
        rows.append([name, found.mean, limits(found.low, found.high), over, under])
    found_table = ResultTable(
        "Operations over- and under-valued",
        ["operation", "bias", "95 % over seeds", "over-valued on", "under-valued on"],
        rows,
        "Mean predicted less true rank fraction of archs with the operation minus that of archs without, "
        "over edges: above 0 the supernet ranks them too high. Edges are named where the bias of the mean "
        "over seeds stands out among all operations and edges together (95 %, archs drawn again). Noise "
        "alone pulls good ones down.",
    )
    return found_table, _plot(decisions, biases)


def _biases(
    decisions: Sequence[Decision],
    archs: NDArray[np.int16],
    scores: NDArray[np.float64],
    truth: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """Return biases (seed, decision) by name of the operation; nan where an operation has too few archs."""
    names = dict.fromkeys(option for decision in decisions for option in decision.options)
    biases = {name: np.full((len(scores), len(decisions)), np.nan) for name in names}
    for seed, row in enumerate(scores):
        for one in option_bias(archs, row, truth, resampling=Resampling(n_resamples=0)):
            name = decisions[one.decision].options[one.option]
            biases[name][seed, one.decision] = one.bias.value
    return biases


def _plot(decisions: Sequence[Decision], biases: dict[str, NDArray[np.float64]]) -> Plot:
    edges = [decision.name for decision in decisions]
    series = [
        Series(name, edges, [spread(column, name).mean for column in table.T])
        for name, table in biases.items()
    ]
    return Plot(
        "bias",
        "Bias by operation and edge",
        "edge",
        "operation",
        "heatmap",
        series,
        "Blue: ranked too high by the supernets; red: too low; mean over seeds.",
    )
