"""How a plan is cut into what workers take at a time."""

from collections.abc import Iterator, Sequence

from wsx.evaluators.plan import Bundle

MAX_CHUNK = 16
"""Groups per chunk at most, but for larger bundles: a crash loses no more than the chunks in flight."""

N_SHARES = 4
"""Chunks that each worker would still take if they all were as large as the next one."""


def chunks_of(bundles: Sequence[Bundle], n_workers: int) -> Iterator[list[Bundle]]:
    """Yield all bundles in chunks, in order but for the last ones.

    Chunks get smaller towards the end, where bundles come one by one and those that cost most come first, so that
    workers end together.
    """
    n_last = N_SHARES * n_workers
    last = sorted(bundles[-n_last:], key=lambda bundle: -bundle.cost_together)
    row = [*bundles[:-n_last], *last]
    n_left = sum(len(bundle.groups) for bundle in row)
    while row:
        n_free = min(MAX_CHUNK, max(1, n_left // n_last))
        n_taken = 1
        n_groups = len(row[0].groups)
        while n_taken < len(row) and n_groups + len(row[n_taken].groups) <= n_free:
            n_groups += len(row[n_taken].groups)
            n_taken += 1
        yield row[:n_taken]
        del row[:n_taken]
        n_left -= n_groups
