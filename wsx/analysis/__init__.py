"""What a ranking is worth: arrays in, numbers out.

Every function takes plain vectors over archs in which larger is better. ``summarise`` reports all
of them with intervals; the modules hold one kind of measure each.
"""

from wsx.analysis.baselines import noise_ceiling
from wsx.analysis.ranks import (
    RankTable,
    Ties,
    average_ranks,
    count_ties,
    kendall_tau,
    pearson,
    rank_table,
    spearman,
    undefined_reason,
)
from wsx.analysis.resample import (
    Interval,
    bootstrap,
    draw_archs,
    draw_both,
    draw_images,
    interval,
    resample_correct,
)
from wsx.analysis.sparse import bin_accuracies, sparse_kendall_tau
from wsx.analysis.summary import Estimate, Summary, SummaryOptions, summarise
from wsx.analysis.top import (
    best_rank_at,
    bottom_overlap,
    mean_truth_at,
    precision_at,
    regret_at,
    surpass_random,
    tau_in_top,
    top_overlap,
)

__all__ = [
    "Estimate",
    "Interval",
    "RankTable",
    "Summary",
    "SummaryOptions",
    "Ties",
    "average_ranks",
    "best_rank_at",
    "bin_accuracies",
    "bootstrap",
    "bottom_overlap",
    "count_ties",
    "draw_archs",
    "draw_both",
    "draw_images",
    "interval",
    "kendall_tau",
    "mean_truth_at",
    "noise_ceiling",
    "pearson",
    "precision_at",
    "rank_table",
    "regret_at",
    "resample_correct",
    "sparse_kendall_tau",
    "spearman",
    "summarise",
    "surpass_random",
    "tau_in_top",
    "top_overlap",
    "undefined_reason",
]
