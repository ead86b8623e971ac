"""Searching on a truth table, to study searches themselves; needs no torch."""

from itertools import islice

from wsx.errors import OptionError
from wsx.evaluators.population import UNKNOWN_COST
from wsx.search import Candidates, OnProgress, TruthLookup, best_trials, run_search
from wsx.spaces import Arch, Cost, Space
from wsx.studies.search.report import SearchReport, Winner, judged, known_cost
from wsx.studies.search.settings import SearchSettings
from wsx.truth import load_truth


def search_table(
    space: Space, settings: SearchSettings, on_progress: OnProgress | None = None
) -> SearchReport:
    """Search on a truth table, to study the search itself: an arch is worth what the table says.

    Args:
        space: Of the archs.
        settings: What to look for, and how; draws are uniform over the table.
        on_progress: Called as trials end.

    Raises:
        OptionError: There is no table, a setting is out of range, or too few archs are allowed.
        TruthError: The table cannot be read.
    """
    if settings.truth is None:
        raise OptionError(
            "a search without a run needs the truth to search on; name it with --truth"
        )
    lookup = TruthLookup(load_truth(settings.truth), space)

    def cost(arch: Arch) -> Cost:
        return _table_cost(arch, space, lookup)

    # Otherwise every arch would be refused, one by one.
    if not settings.limits.is_free and UNKNOWN_COST in map(cost, islice(lookup.archs, 1)):
        raise OptionError(
            f"the limits need costs, but {space.name} has no formula and the table "
            f"{lookup.table.source} has no columns of them"
        )
    candidates = Candidates(
        space,
        measure=settings.measure,
        # A table under names of its own, such as hashes, is drawn from the space instead.
        only=list(lookup.archs) or None,
        contains=lambda arch: lookup.row(arch) is not None,
        limits=settings.limits,
        cost=cost,
    )
    trials = run_search(
        settings.algorithm, candidates, lookup, seed=settings.seed, on_progress=on_progress
    )
    winners = [
        Winner(trial.arch, space.format(trial.arch), trial.value, known_cost(cost(trial.arch)))
        for trial in best_trials(trials, settings.top, lookup.identity)
    ]
    facts = {**settings.facts(candidates), "by": f"true {lookup.table.metric}"}
    placed = judged(winners, lookup, candidates)
    return SearchReport(space, facts, trials, placed, truth=lookup.table)


def _table_cost(arch: Arch, space: Space, lookup: TruthLookup) -> Cost:
    """Return the cost of the benchmark's own network, from the space or else from the table."""
    cost = space.cost(arch, space.reference_macro) if space.reference_macro else None
    if cost is not None:
        return cost
    row, table = lookup.row(arch), lookup.table
    if row is None or table.params is None or table.flops is None:
        return UNKNOWN_COST
    return Cost(int(table.params[row]), int(table.flops[row]))
