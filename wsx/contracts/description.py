"""Contracts of a space's description: text, order, sampling, neighbours. They need no supernet."""

import itertools
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wsx.contracts._base import Figures, Subject
from wsx.contracts.cover import BreachError
from wsx.errors import ArchError, OptionError, UnknownNameError
from wsx.spaces import Arch, Space
from wsx.spaces.lists import read_archs

MAX_LISTED = 100_000
N_SAMPLED = 300
MAX_RESPELT = 20_000
GARBAGE = (
    "", " ", "?", ",", "=", "\x00", "nonsense", "-1", "[]", "{}", "None", "(" * 500, "9" * 5000, "é" * 50
)  # fmt: skip


def _more_archs(subject: Subject) -> list[Arch]:
    """Return the covering archs and many more that are drawn, each once."""
    space, rng = subject.space, np.random.default_rng([subject.seed, 1])
    measure = next(iter(space.measures))
    drawn = [space.draw(rng=rng, measure=measure) for _ in range(N_SAMPLED)]
    return list(dict.fromkeys([*subject.archs, *drawn]))


def text(subject: Subject) -> Figures:
    """``parse`` and ``format`` are inverse, survive a file of archs, and garbage is refused."""
    space, archs = subject.space, _more_archs(subject)
    texts: dict[str, Arch] = {}
    for arch in archs:
        with subject.checking(arch):
            form = space.format(arch)
            back = space.parse(form)
        if back != arch:
            raise BreachError(f"its text {form!r} is read as {back}", arch)
        if form in texts:
            raise BreachError(f"it has the text of {texts[form]}", arch)
        if not form.isprintable():
            raise BreachError(f"its text {form!r} is not one plain line", arch)
        texts[form] = arch
    _survives_a_file(space, texts)
    refused = [_refuses(space, garbage) for garbage in GARBAGE]
    damaged = [form[: len(form) // 2] for form in texts] + [form * 2 for form in texts]
    for form in damaged:
        _refuses(space, form)
    if not all(refused):
        raise BreachError(f"the text {GARBAGE[refused.index(False)]!r:.60} is read as an arch")
    return {
        "archs": len(archs),
        "longest text": max(map(len, texts)),
        "damaged texts": len(damaged),
    }


def _survives_a_file(space: Space, texts: dict[str, Arch]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "archs.txt"
        path.write_text("".join(f"{form}\n" for form in texts), encoding="utf-8")
        try:
            back = read_archs(path, space)
        except ArchError as error:
            raise BreachError(f"a file of archs with their texts is refused: {error}") from error
    if len(back) != len(texts):
        raise BreachError(f"a file of {len(texts)} archs is read as {len(back)}")
    for arch, read in zip(texts.values(), back, strict=True):
        if read != arch:
            raise BreachError(f"from a file of archs it comes back as {read}", arch)


def _refuses(space: Space, form: str) -> bool:
    """Return whether a text is refused by the errors that say so; what is accepted must be an arch."""
    try:
        arch = space.parse(form)
    except (ArchError, UnknownNameError):
        return True
    except Exception as error:
        raise BreachError(
            f"the text {form!r:.60} fails with {type(error).__name__} instead of ArchError: {error}"
        ) from error
    space.check(arch)
    return False


def order(subject: Subject) -> Figures:
    """``index`` and ``arch_at`` are inverse on all of ``range(n_archs)``, and what is no arch is refused."""
    space = subject.space
    n_combinations = math.prod(space.n_options)
    if n_combinations <= MAX_LISTED:
        every = itertools.product(*map(range, space.n_options))
        n_valid = sum(map(space.is_valid, every))
        if n_valid != space.n_archs:
            raise BreachError(f"n_archs is {space.n_archs}, and {n_valid} combinations are valid")
    if space.n_archs <= MAX_LISTED:
        archs = list(space.enumerate())
        if len(set(archs)) != space.n_archs:
            raise BreachError(
                f"{len(set(archs))} different archs are listed, and n_archs is {space.n_archs}"
            )
        pairs = list(enumerate(archs))
    else:
        rng = np.random.default_rng([subject.seed, 2])
        drawn = [int(rng.random() * space.n_archs) for _ in range(N_SAMPLED)]
        pairs = [(i, space.arch_at(i)) for i in (0, *drawn, space.n_archs - 1)]
        pairs += [(space.index(arch), arch) for arch in subject.archs]
    for index, arch in pairs:
        with subject.checking(arch):
            back, same = space.index(space.check(arch)), space.arch_at(index)
        if back != index or same != arch:
            raise BreachError(
                f"index {index} gives it, its own index is {back}, which gives {same}", arch
            )
    for outside in (-1, space.n_archs):
        _must_refuse(partial(space.arch_at, outside), f"index {outside}")
    _refuses_what_is_no_arch(subject)
    return {
        "archs": space.n_archs,
        "looked at": len(pairs),
        "is listed": space.n_archs <= MAX_LISTED,
    }


def _refuses_what_is_no_arch(subject: Subject) -> None:
    space, arch = subject.space, subject.archs[0]
    wrong: list[Any] = [(), arch[:-1], (*arch, 0), tuple(float(o) for o in arch)]
    for place, n in enumerate(space.n_options):
        wrong += [(*arch[:place], option, *arch[place + 1 :]) for option in (-1, n)]
    uses: list[Callable[[Arch], Any]] = [
        space.check,
        space.format,
        space.index,
        space.neighbours,
    ]
    for what in wrong:
        for use in uses:
            _must_refuse(partial(use, what), f"{use.__name__}({what})")


def _must_refuse(use: Callable[[], Any], what: str) -> None:
    try:
        use()
    except ArchError:
        return
    except Exception as error:
        raise BreachError(
            f"{what} fails with {type(error).__name__} instead of ArchError"
        ) from error
    raise BreachError(f"{what} is accepted")


def sampling(subject: Subject) -> Figures:
    """Each measure draws valid archs, the same from the same seed, all different unless repeats are allowed."""
    return {measure: _sampling(subject, measure) for measure in subject.space.measures}


def _sampling(subject: Subject, measure: str) -> int:
    space = subject.space
    listed = space.population(measure)
    n_all = space.n_archs if listed is None else len(listed)
    if listed is not None and len(set(listed)) < n_all:
        raise BreachError(f"measure {measure!r} lists an arch twice")
    n = min(n_all, N_SAMPLED)

    def drawn(seed: int, n: int, *, has_repeats: bool = False) -> list[Arch]:
        rng = np.random.default_rng([subject.seed, seed])
        return space.sample(n, rng=rng, measure=measure, has_repeats=has_repeats)

    def single(seed: int) -> list[Arch]:
        rng = np.random.default_rng([subject.seed, seed])
        return [space.draw(rng=rng, measure=measure) for _ in range(n)]

    archs = drawn(3, n)
    if drawn(3, n) != archs or single(4) != single(4):
        raise BreachError(f"measure {measure!r} gives other archs from the same seed")
    if n_all > N_SAMPLED and drawn(5, n) == archs:
        raise BreachError(f"measure {measure!r} gives the same archs from another seed")
    if len(archs) != n or len(set(archs)) != n:
        raise BreachError(
            f"measure {measure!r} gave {len(set(archs))} different archs of {n} asked for"
        )
    # A list may hold one spelling of each net.
    is_short = listed is not None and len(listed) <= MAX_RESPELT
    nets = {space.truth_text(arch) for arch in listed or []} if is_short else None
    for arch in [*archs, *single(4), *drawn(6, 2 * n, has_repeats=True)]:
        with subject.checking(arch):
            space.check(arch)
        if nets is not None and space.truth_text(arch) not in nets:
            raise BreachError(f"measure {measure!r} draws it and does not list it", arch)
    try:
        drawn(7, n_all + 1)
    except OptionError:
        return n_all
    raise BreachError(f"measure {measure!r} gave {n_all + 1} different archs of {n_all}")


def neighbours(subject: Subject) -> Figures:
    """Neighbours are different valid archs, each other's neighbours, and what ``mutate`` gives is one."""
    space, counts = subject.space, []
    rng = np.random.default_rng([subject.seed, 8])
    for arch in subject.archs:
        with subject.checking(arch):
            found = space.neighbours(arch)
            for other in found:
                space.check(other)
        if len(set(found)) < len(found) or arch in found:
            raise BreachError("its neighbours hold an arch twice, or itself", arch)
        counts.append(len(found))
        for i in rng.permutation(len(found))[:5]:
            if arch not in space.neighbours(found[i]):
                raise BreachError(f"its neighbour {found[i]} does not have it as a neighbour", arch)
        if found:
            _mutates_to_neighbours(subject, arch, set(found))
    return {"archs": len(counts), "fewest": min(counts), "most": max(counts)}


def _mutates_to_neighbours(subject: Subject, arch: Arch, found: set[Arch]) -> None:
    def mutant(seed: int) -> Arch:
        rng = np.random.default_rng([subject.seed, 9, seed])
        return subject.space.mutate(arch, rng=rng)

    for seed in range(5):
        with subject.checking(arch):
            other = mutant(seed)
        if other not in found:
            raise BreachError(f"mutate gives {other}, which is no neighbour", arch)
        if mutant(seed) != other:
            raise BreachError("mutate gives another arch from the same seed", arch)
