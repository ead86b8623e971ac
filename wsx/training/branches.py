"""Fixing a space branch by branch: restrict to the best option, and train on from the weights there are.

The ``focus_branch`` experiment of Zhang et al. (released code of arXiv 2010.08219): every so many epochs archs are
scored with the shared weights, each option of each open decision gets a score, and the best one is fixed. A study
loops: train, score, ``next_config``, train.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from wsx.errors import OptionError
from wsx.training.recipes import Recipe
from wsx.training.run import Run, RunConfig

Branch = tuple[int, int]
"""Number of a decision and of one of its options."""


def best_branch(config: RunConfig, scores: Mapping[Branch, float]) -> Branch:
    """Return the branch to fix: the highest score among options that open decisions may still take.

    Args:
        config: What was trained.
        scores: By branch, higher is better; what is nan or has none is not considered. Equal ones fall to the
            branch that comes first in the space.

    Raises:
        OptionError: A branch is not one of the space, or no open decision has a score.
    """
    space = config.archs
    for place, option in scores:
        if not (0 <= place < len(space.n_options) and 0 <= option < space.n_options[place]):
            raise OptionError(f"({place}, {option}) is no decision and option of {space.name}")
    opened = {p: options for p, options in enumerate(space.allowed_options) if len(options) > 1}
    branches = [(place, option) for place, options in opened.items() for option in options]
    scored = [branch for branch in branches if not math.isnan(scores.get(branch, math.nan))]
    if not scored:
        names = [space.decisions[place].name for place in opened]
        raise OptionError(
            f"none of {len(scores)} scores is of a decision of {space.name} that is still open; "
            f"open are {', '.join(names) or 'none'}"
        )
    return max(scored, key=lambda branch: scores[branch])


def next_config(
    run: Run,
    scores: Mapping[Branch, float],
    *,
    checkpoint: str = "last",
    recipe: Recipe | None = None,
) -> RunConfig:
    """Return what to train next: the best branch fixed, on from a checkpoint's weights, with new momentum.

    Args:
        run: What was trained.
        scores: By branch, as ``wsx.analysis.branches`` gives them; see ``best_branch``.
        checkpoint: Name of the checkpoint to go on from.
        recipe: How to train; None repeats the run's recipe, whose learning rate starts again.

    Raises:
        OptionError: No open decision has a score.
        CheckpointError: The run has no such checkpoint.
    """
    place, option = best_branch(run.config, scores)
    decision = run.config.archs.decisions[place]
    return replace(
        run.config,
        recipe=recipe or run.config.recipe,
        restriction={**run.config.restriction, decision.name: [decision.options[option]]},
        init_from=str(run.checkpoint_path(checkpoint)),
    ).pinned()
