"""Few archs that between them have every option of every decision."""

import numpy as np

from wsx.spaces import Arch, Space

N_DRAWN = 200
MAX_DRAWN = 5_000

Option = tuple[int, int]
"""A decision's place and the option's number."""


class BreachError(Exception):
    """A contract that does not hold.

    Attributes:
        arch: The offending arch, if it is a single one.
    """

    def __init__(self, message: str, arch: Arch | None = None) -> None:
        super().__init__(message)
        self.arch = arch


def covering_archs(space: Space, n_archs: int, rng: np.random.Generator) -> list[Arch]:
    """Return different archs that have every option, at least ``n_archs`` where the space has as many.

    Chosen greedily among some that are drawn, with options put into them that are still missing. A space that
    refuses combinations may refuse all those with some option, as sub-spaces do: such an option is left out.

    Raises:
        BreachError: An option of a space without refusals is in no arch that was found.
    """
    measure = next(iter(space.measures))
    pool = [space.draw(rng=rng, measure=measure) for _ in range(N_DRAWN)]
    missing = {(place, o) for place, options in enumerate(space.allowed_options) for o in options}
    chosen: list[Arch] = []
    while missing:
        best = max(pool, key=lambda arch: len(missing & _options(arch)))
        best = _enriched(space, best, missing)
        if not missing & _options(best):
            wanted = min(missing)
            found = _arch_with(space, wanted, pool, rng)
            if found is None:
                missing.discard(wanted)
                continue
            best = found
        chosen.append(best)
        missing -= _options(best)
    for arch in pool:
        if len(chosen) >= n_archs:
            break
        if arch not in chosen:
            chosen.append(arch)
    return chosen


def _options(arch: Arch) -> set[Option]:
    return set(enumerate(arch))


def _enriched(space: Space, arch: Arch, missing: set[Option]) -> Arch:
    """Return the arch with missing options put in, where it has none and stays valid."""
    for place, option in sorted(missing):
        changed = (*arch[:place], option, *arch[place + 1 :])
        if (place, arch[place]) not in missing and space.is_valid(changed):
            arch = changed
    return arch


def _arch_with(
    space: Space, wanted: Option, pool: list[Arch], rng: np.random.Generator
) -> Arch | None:
    place, option = wanted
    for arch in pool:
        changed = (*arch[:place], option, *arch[place + 1 :])
        if space.is_valid(changed):
            return changed
    measure = next(iter(space.measures))
    for _ in range(MAX_DRAWN):
        arch = space.draw(rng=rng, measure=measure)
        if arch[place] == option:
            return arch
    if not space.is_product:
        return None
    decision = space.decisions[place]
    raise BreachError(
        f"no arch has {decision.options[option]!r} for {decision.name!r}: none of {MAX_DRAWN} that were drawn, "
        f"and none of {len(pool)} with it put in. Leave the option out, or name archs that have it"
    )
