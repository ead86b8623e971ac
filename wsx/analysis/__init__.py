"""What a ranking is worth: arrays in, numbers out.

Larger is better everywhere; axes come in the order run, checkpoint, arch, image. ``summarise`` reports all
measures of one ranking against truth with intervals; the other modules hold one question each.
"""

from wsx.analysis.baselines import SeedMeasure, seed_against_others, seed_against_seed
from wsx.analysis.bias import (
    OptionBias,
    OptionMean,
    explained_share,
    option_bias,
    option_means,
    quantile_bins,
    rank_residuals,
)
from wsx.analysis.branches import BRANCH_SCORES, branch_scores
from wsx.analysis.final import (
    MetricCorrelations,
    final_performance,
    metric_correlations,
    rank_percentiles,
    subset_tau,
)
from wsx.analysis.gradients import (
    GradientCosines,
    WeightGradients,
    gradient_cosines,
    mean_over_pairs,
    means_by_shared,
)
from wsx.analysis.groups import Effect, between_over_within, contrast, squared_effects
from wsx.analysis.interference import (
    Interference,
    PairRelation,
    interference_effects,
    relate_pairs,
    shared_decisions,
    without_recency,
)
from wsx.analysis.pruning import Pruned, pruning_value
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
from wsx.analysis.relevance import ndcg, weighted_tau
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
from wsx.analysis.stability import (
    Stability,
    TauWindow,
    gt_tau,
    gt_tau_window,
    random_s_tau,
    s_tau,
    tau_matrix,
    truth_stability,
)
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
from wsx.analysis.trajectories import (
    Periodicity,
    RankDistribution,
    periodicity,
    rank_distributions,
    rank_trajectories,
    recency,
)
from wsx.analysis.uncertainty import Resampling, Spread, spread
from wsx.analysis.variance import Component, VarianceSplit, split_variance

__all__ = [
    "BRANCH_SCORES",
    "Component",
    "Effect",
    "Estimate",
    "GradientCosines",
    "Interference",
    "Interval",
    "MetricCorrelations",
    "OptionBias",
    "OptionMean",
    "PairRelation",
    "Periodicity",
    "Pruned",
    "RankDistribution",
    "RankTable",
    "Resampling",
    "SeedMeasure",
    "Spread",
    "Stability",
    "Summary",
    "SummaryOptions",
    "TauWindow",
    "Ties",
    "VarianceSplit",
    "WeightGradients",
    "average_ranks",
    "best_rank_at",
    "between_over_within",
    "bin_accuracies",
    "bootstrap",
    "bottom_overlap",
    "branch_scores",
    "contrast",
    "count_ties",
    "draw_archs",
    "draw_both",
    "draw_images",
    "explained_share",
    "final_performance",
    "gradient_cosines",
    "gt_tau",
    "gt_tau_window",
    "interference_effects",
    "interval",
    "kendall_tau",
    "mean_over_pairs",
    "mean_truth_at",
    "means_by_shared",
    "metric_correlations",
    "ndcg",
    "option_bias",
    "option_means",
    "pearson",
    "periodicity",
    "precision_at",
    "pruning_value",
    "quantile_bins",
    "random_s_tau",
    "rank_distributions",
    "rank_percentiles",
    "rank_residuals",
    "rank_table",
    "rank_trajectories",
    "recency",
    "regret_at",
    "relate_pairs",
    "resample_correct",
    "s_tau",
    "seed_against_others",
    "seed_against_seed",
    "shared_decisions",
    "sparse_kendall_tau",
    "spearman",
    "split_variance",
    "spread",
    "squared_effects",
    "subset_tau",
    "summarise",
    "surpass_random",
    "tau_in_top",
    "tau_matrix",
    "top_overlap",
    "truth_stability",
    "undefined_reason",
    "weighted_tau",
    "without_recency",
]
