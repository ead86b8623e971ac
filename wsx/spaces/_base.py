"""What an architecture is: decisions, text form, order, sampling, neighbours, cost.

A space is pure description: it imports no torch, holds no weights and keeps no state. An arch is a tuple
of small ints, one per decision, and every function that takes one returns what depends on it alone.
"""

import abc
import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from wsx.errors import ArchError, OptionError
from wsx.registry import Registry, unknown_name
from wsx.spaces.lists import LIST, archs_of_list, pinned

Arch = tuple[int, ...]


@dataclass(frozen=True)
class Decision:
    """One choice that an arch makes: a name and the names of its options."""

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """What a subnet costs: trainable parameters, and multiply-adds for one image.

    Multiply-adds count convolutions, linear layers and matrix products; whether a bias adds one per output is
    as in the space's table of truth. Normalisation, activations, pooling and sums are free.
    """

    params: int
    flops: int


class Space(abc.ABC):
    """A set of architectures.

    **Purity.** Methods depend on their arguments alone; randomness comes from the generator passed in.

    **Order.** ``index`` and ``arch_at`` are inverse bijections between the encodings and
    ``range(n_archs)``; where a benchmark fixed an official order, it is that one.

    **Text.** ``parse(format(arch)) == arch`` for every arch, and ``format(parse(text)) == text`` for every
    text in normal form.
    """

    name: str
    summary: str

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the space itself: it never changes, and copies of a supernet need no copies of its lists."""
        return self

    @property
    @abc.abstractmethod
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions that an arch makes, in order."""

    @abc.abstractmethod
    def format(self, arch: Arch) -> str:
        """Return the text form of an arch."""

    @abc.abstractmethod
    def parse(self, text: str) -> Arch:
        """Return the arch of a text form.

        Raises:
            ArchError: The text is malformed or names what the space does not have.
        """

    def cost(self, arch: Arch, macro: Mapping[str, int]) -> Cost | None:
        """Return params and multiply-adds of a subnet under a supernet's macro options.

        ``None`` says that the space has no formula; then they are measured on the recorded subnet.
        """
        return None

    def depth(self, arch: Arch) -> int | None:
        """Return how many operations follow one another on the longest path; None where the space does not say.

        Skips and identities count as none. For spaces of cells it is the path through one (normal) cell.
        """
        return None

    def is_cost_exact(self, arch: Arch) -> bool:
        """Return whether the cost counts just what reaches the output; a benchmark's table may count more."""
        return bool(self.check(arch))

    @property
    def reference_macro(self) -> Mapping[str, int]:
        """Macro options of the benchmark's own networks, for which listings give costs; empty for none."""
        return {}

    @cached_property
    def n_options(self) -> tuple[int, ...]:
        """How many options each decision has."""
        return tuple(len(decision.options) for decision in self.decisions)

    @cached_property
    def allowed_options(self) -> tuple[tuple[int, ...], ...]:
        """Of each decision the options that archs may take, ascending; all, unless the space is restricted."""
        return tuple(tuple(range(n)) for n in self.n_options)

    @property
    def whole(self) -> "Space":
        """The space that this one is a restriction of, or itself: indices in files are the whole space's."""
        return self

    @property
    def supernet(self) -> str:
        """Name of the supernet that holds the space's weights; spaces of one family share one."""
        return self.name

    @cached_property
    def n_archs(self) -> int:
        """How many encodings the space has."""
        return math.prod(map(len, self.allowed_options))

    @property
    def is_product(self) -> bool:
        """Whether every combination of allowed options is an arch."""
        return self.n_archs == math.prod(map(len, self.allowed_options))

    def is_valid(self, arch: Arch) -> bool:
        """Return whether a combination of options, each within range, is an arch of the space.

        A space that refuses some overrides this, ``n_archs``, ``arch_at``, ``index`` and ``draw``.
        """
        return True

    @property
    def measures(self) -> Mapping[str, Callable[[], "list[Arch] | None"]]:
        """The sampling measures by name; each gives the archs it is uniform over.

        ``None`` stands for all encodings, which need no list.
        """
        return {"encodings": lambda: None}

    def check(self, arch: Arch) -> Arch:
        """Return the arch as a tuple of ints.

        Raises:
            ArchError: It has the wrong length, an option out of range, or is not valid.
        """
        if len(arch) != len(self.n_options):
            raise ArchError(
                f"arch {tuple(arch)} has {len(arch)} decisions; {self.name} has {len(self.n_options)}"
            )
        if not all(isinstance(option, (int, np.integer)) for option in arch):
            raise ArchError(f"arch {tuple(arch)} has options that are no integers")
        for decision, option in zip(self.decisions, arch, strict=True):
            if not 0 <= option < len(decision.options):
                raise ArchError(
                    f"arch {tuple(arch)}: {decision.name} is {option}; "
                    f"it must lie in 0..{len(decision.options) - 1}"
                )
        arch = tuple(int(option) for option in arch)
        if not self.is_valid(arch):
            raise ArchError(f"arch {arch} is no arch of {self.name}: {self.summary}")
        return arch

    def arch_at(self, index: int) -> Arch:
        """Return the arch with an index.

        Raises:
            ArchError: The index lies outside ``range(n_archs)``.
        """
        if not 0 <= index < self.n_archs:
            raise ArchError(f"index {index} lies outside 0..{self.n_archs - 1} of {self.name}")
        arch = []
        for options in reversed(self.allowed_options):
            index, place = divmod(index, len(options))
            arch.append(options[place])
        return tuple(reversed(arch))

    def index(self, arch: Arch) -> int:
        """Return the index of an arch; inverse of ``arch_at``."""
        index = 0
        for option, options in zip(self.check(arch), self.allowed_options, strict=True):
            index = index * len(options) + options.index(option)
        return index

    def enumerate(self) -> Iterator[Arch]:
        """Yield every encoding in index order."""
        return (self.arch_at(index) for index in range(self.n_archs))

    def function_key(self, arch: Arch) -> Hashable:
        """Return a key that is equal for archs that compute the same function with shared weights."""
        return self.check(arch)

    def truth_text(self, arch: Arch) -> str:
        """Return what truth tables call an arch: equal for archs that are the same net when trained alone."""
        return self.format(arch)

    def is_reachable(self, arch: Arch) -> bool:
        """Return whether the output of the arch depends on its input."""
        return bool(self.check(arch))

    def neighbours(self, arch: Arch) -> list[Arch]:
        """Return every arch that differs in exactly one decision."""
        arch = self.check(arch)
        changed = [
            (*arch[:place], option, *arch[place + 1 :])
            for place, n in enumerate(self.n_options)
            for option in range(n)
            if option != arch[place]
        ]
        return [other for other in changed if self.is_valid(other)]

    def mutate(self, arch: Arch, *, rng: np.random.Generator) -> Arch:
        """Return the arch with one decision, drawn uniformly, set to another option.

        Raises:
            ArchError: The arch has no neighbour.
        """
        arch = self.check(arch)
        if not self.is_product:
            return self._mutate_among_neighbours(arch, rng)
        allowed = self.allowed_options
        places = [place for place, options in enumerate(allowed) if len(options) > 1]
        if not places:
            raise ArchError(f"arch {arch} of {self.name} has no neighbour")
        place = places[int(rng.integers(len(places)))]
        others = [option for option in allowed[place] if option != arch[place]]
        return (*arch[:place], others[int(rng.integers(len(others)))], *arch[place + 1 :])

    def _mutate_among_neighbours(self, arch: Arch, rng: np.random.Generator) -> Arch:
        neighbours = self.neighbours(arch)
        if not neighbours:
            raise ArchError(f"arch {arch} of {self.name} has no neighbour")
        return neighbours[int(rng.integers(len(neighbours)))]

    @cached_property
    def _populations(self) -> "dict[str, list[Arch] | None]":
        # Asked for at every draw, so that a list must not be made anew each time.
        return {}

    def population(self, measure: str) -> "list[Arch] | None":
        """Return the archs that a measure is uniform over, ``None`` for all encodings.

        Args:
            measure: One of ``measures``, or ``list:PATH`` for the archs of a file, see ``wsx.spaces.lists``.

        Raises:
            ArchError: The file of a list is missing, has changed, or has lines that are no archs.
            UnknownNameError: The space has no such measure.
        """
        measure = pinned(measure)
        if measure not in self._populations:
            self._populations[measure] = self._listed(measure)
        return self._populations[measure]

    def _listed(self, measure: str) -> "list[Arch] | None":
        if measure.startswith(LIST):
            return archs_of_list(measure, self)
        if measure not in self.measures:
            known = [*self.measures, f"{LIST}PATH"]
            raise unknown_name(f"sampling measure of {self.name}", measure, known)
        return self.measures[measure]()

    def draw(self, *, rng: np.random.Generator, measure: str) -> Arch:
        """Return one arch drawn uniformly under a measure, independently of all others.

        Raises:
            UnknownNameError: The space has no such measure.
        """
        listed = self.population(measure)
        if listed is None:
            return self.arch_at(_draw_index(self.n_archs, rng))
        return listed[int(rng.integers(len(listed)))]

    def sample(
        self, n: int, *, rng: np.random.Generator, measure: str, has_repeats: bool = False
    ) -> list[Arch]:
        """Return n archs drawn uniformly under a measure.

        Args:
            n: How many.
            rng: Where the randomness comes from.
            measure: What the draw is uniform over, as for ``population``.
            has_repeats: Draw with replacement; without, all archs differ.

        Raises:
            OptionError: More distinct archs are asked for than there are.
            UnknownNameError: The space has no such measure.
        """
        listed = self.population(measure)
        n_all = self.n_archs if listed is None else len(listed)
        if n < 1 or (n > n_all and not has_repeats):
            raise OptionError(f"cannot draw {n} archs: {self.name} has {n_all} under {measure!r}")
        indices = draw_indices(n, n_all, rng=rng, has_repeats=has_repeats)
        return [self.arch_at(i) if listed is None else listed[i] for i in indices]


def draw_indices(n: int, n_all: int, *, rng: np.random.Generator, has_repeats: bool) -> list[int]:
    """Return n uniform indices below n_all, which may exceed 64 bits; distinct unless repeats are allowed."""
    if has_repeats:
        return [_draw_index(n_all, rng) for _ in range(n)]
    if n_all <= 10_000_000:
        return [int(i) for i in rng.permutation(n_all)[:n]]
    seen: dict[int, None] = {}
    while len(seen) < n:
        seen.setdefault(_draw_index(n_all, rng))
    return list(seen)


def _draw_index(n_all: int, rng: np.random.Generator) -> int:
    if n_all < 2**63:
        return int(rng.integers(n_all))
    n_bits = n_all.bit_length()
    while True:
        index = int.from_bytes(rng.bytes((n_bits + 7) // 8)) >> (-n_bits % 8)
        if index < n_all:
            return index


SPACES: Registry[Space] = Registry("space", group="wsx.spaces", base=Space)
