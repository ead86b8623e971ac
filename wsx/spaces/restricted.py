"""A space without some options of some decisions: ``0->1=skip_connect|nor_conv_3x3``.

A restriction is a view. Name, decisions, arch tuples and texts are those of the whole space, so that its supernet,
truth tables and score files go on serving; only fewer archs are archs.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from wsx.errors import ArchError, OptionError
from wsx.registry import unknown_name
from wsx.spaces._base import Arch, Cost, Decision, Space
from wsx.spaces.choice import MAX_ENUMERATED

MAX_TRIES = 20_000
"""Draws in vain after which a restriction is given up as too narrow to draw from."""

Restriction = dict[str, list[str]]
"""Allowed options by decision, both in the space's order; decisions that may take all options are left out."""


def restriction_of(space: Space, values: Mapping[str, Sequence[str]]) -> Restriction:
    """Return a restriction in the one form in which it is stored; JSON-clean.

    Args:
        space: What is restricted.
        values: Names of allowed options, by name of the decision.

    Raises:
        UnknownNameError: There is no such decision, or no such option of it.
        OptionError: A decision is left without options, or they are no list of names.
    """
    if not isinstance(values, Mapping):
        raise OptionError(
            f"restriction {values!r:.120} must give options by the name of the decision"
        )
    decisions = {decision.name: decision for decision in space.decisions}
    for name, options in values.items():
        if name not in decisions:
            raise unknown_name(f"decision of {space.name}", str(name)[:60], list(decisions))
        if isinstance(options, str) or not isinstance(options, Sequence) or not options:
            raise OptionError(
                f"the restriction of {name} is {options!r:.120}; it must be a list of at least one option"
            )
        for option in options:
            if option not in decisions[name].options:
                known = list(decisions[name].options)
                raise unknown_name(f"{name} of {space.name}", str(option)[:60], known)
    allowed = {
        name: [option for option in decision.options if option in values[name]]
        for name, decision in decisions.items()
        if name in values
    }
    return {n: kept for n, kept in allowed.items() if len(kept) < len(decisions[n].options)}


def parse_restriction(texts: Iterable[str], space: Space) -> Restriction:
    """Return the restriction of texts such as ``0->1=skip_connect|nor_conv_3x3``, one for a decision.

    Raises:
        UnknownNameError: There is no such decision, or no such option of it.
        OptionError: A text has no ``=``, or two restrict one decision.
    """
    values: dict[str, list[str]] = {}
    known = {decision.name: decision.options for decision in space.decisions}
    for text in texts:
        name, separator, options = text.partition("=")
        if not separator:
            raise OptionError(f"restriction {text!r:.120} must read DECISION=OPTION|OPTION")
        if name in values:
            raise OptionError(f"{name} is restricted twice; name all its options at once")
        # An option's own name may have a bar in it.
        values[name] = [options] if options in known.get(name, ()) else options.split("|")
    return restriction_of(space, values)


def only(space: Space, arch: Arch) -> Restriction:
    """Return the restriction of a space to one arch."""
    pairs = zip(space.decisions, space.check(arch), strict=True)
    return restriction_of(space, {d.name: [d.options[option]] for d, option in pairs})


def restricted(space: Space, values: Mapping[str, Sequence[str]]) -> Space:
    """Return the restriction of a space, or the space itself where nothing is restricted.

    Raises:
        UnknownNameError: There is no such decision, or no such option of it.
        OptionError: A decision is left without options, or they are no list of names.
    """
    restriction = restriction_of(space, values)
    return RestrictedSpace(space, restriction) if restriction else space


class RestrictedSpace(Space):
    """The archs of a space whose decisions take allowed options only.

    What is drawn is uniform over the archs of a measure that remain. Where every combination is an arch they are
    counted and drawn directly; other spaces are listed up to a million encodings, and beyond that drawn from by
    rejection. What else the whole space offers, this one does too.

    Args:
        base: The whole space.
        restriction: Names of allowed options, by name of the decision.

    Raises:
        UnknownNameError: There is no such decision, or no such option of it.
        OptionError: A decision is left without options.
    """

    def __init__(self, base: Space, restriction: Mapping[str, Sequence[str]]) -> None:
        self.base = base
        self.restriction = restriction_of(base, restriction)
        self.name = base.name
        listed = ", ".join(f"{name}={'|'.join(o)}" for name, o in self.restriction.items())
        self.summary = f"{base.summary}; only {listed}" if listed else base.summary
        for decision, options in zip(base.decisions, self.allowed_options, strict=True):
            if not options:
                raise OptionError(f"{decision.name} is left without options by two restrictions")

    def __getattr__(self, name: str) -> Any:
        if name == "base":
            # Not there yet: while an instance is being copied or unpickled.
            raise AttributeError(name)
        return getattr(self.base, name)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions of the whole space, with all options, so that archs keep their numbers."""
        return self.base.decisions

    @cached_property
    def allowed_options(self) -> tuple[tuple[int, ...], ...]:
        """Of each decision the options that archs may take, ascending."""
        return tuple(
            tuple(
                option
                for option in options
                if decision.options[option] in self.restriction.get(decision.name, decision.options)
            )
            for decision, options in zip(self.decisions, self.base.allowed_options, strict=True)
        )

    @property
    def whole(self) -> Space:
        """The whole space."""
        return self.base.whole

    @property
    def supernet(self) -> str:
        """The supernet of the whole space."""
        return self.base.supernet

    @property
    def reference_macro(self) -> Mapping[str, int]:
        """Macro options of the benchmark's own networks."""
        return self.base.reference_macro

    def _admits(self, arch: Arch) -> bool:
        return all(o in allowed for o, allowed in zip(arch, self.allowed_options, strict=True))

    def is_valid(self, arch: Arch) -> bool:
        """Return whether a combination of options is an arch whose options are all allowed."""
        return self._admits(arch) and self.base.is_valid(arch)

    def check(self, arch: Arch) -> Arch:
        """Return the arch as a tuple of ints.

        Raises:
            ArchError: It is no arch of the whole space, or has an option that is not allowed.
        """
        arch = self.base.check(arch)
        for decision, option, allowed in zip(
            self.decisions, arch, self.allowed_options, strict=True
        ):
            if option not in allowed:
                raise ArchError(
                    f"arch {self.base.format(arch)} has {decision.options[option]!r} for {decision.name}; this "
                    f"restriction of {self.name} allows {', '.join(decision.options[o] for o in allowed)}"
                )
        return arch

    @property
    def is_product(self) -> bool:
        """Whether every combination of allowed options is an arch, as it is where the whole space is one."""
        return self.base.is_product

    @cached_property
    def _listed_archs(self) -> list[Arch]:
        """All encodings of a space that refuses some, in its order."""
        if self.base.n_archs > MAX_ENUMERATED:
            raise OptionError(
                f"a restriction of {self.name} cannot be counted: it has {self.base.n_archs} encodings. Draw "
                f"from it, or use another measure than encodings"
            )
        return self._remaining(self.base.enumerate(), "encodings")

    @cached_property
    def _listed_index(self) -> dict[Arch, int]:
        return {arch: index for index, arch in enumerate(self._listed_archs)}

    @cached_property
    def n_archs(self) -> int:
        """How many encodings remain.

        Raises:
            OptionError: The space refuses combinations and has too many encodings to count those that remain.
        """
        return super().n_archs if self.is_product else len(self._listed_archs)

    def arch_at(self, index: int) -> Arch:
        """Return the arch with an index, among those that remain.

        Raises:
            ArchError: The index lies outside ``range(n_archs)``.
            OptionError: As for ``n_archs``.
        """
        if self.is_product:
            return super().arch_at(index)
        if not 0 <= index < self.n_archs:
            raise ArchError(f"index {index} lies outside 0..{self.n_archs - 1} of {self.name}")
        return self._listed_archs[index]

    def index(self, arch: Arch) -> int:
        """Return the index of an arch among those that remain."""
        return super().index(arch) if self.is_product else self._listed_index[self.check(arch)]

    @property
    def measures(self) -> Mapping[str, Callable[[], list[Arch] | None]]:
        """Those of the whole space, each over the archs that remain."""
        return {measure: partial(self._listed, measure) for measure in self.base.measures}

    def _listed(self, measure: str) -> list[Arch] | None:
        listed = self.base.population(measure)
        if listed is not None:
            return self._remaining(listed, measure)
        is_listed = not self.is_product and self.base.n_archs <= MAX_ENUMERATED
        return self._listed_archs if is_listed else None

    def _remaining(self, archs: Iterable[Arch], measure: str) -> list[Arch]:
        kept = [arch for arch in archs if self._admits(arch)]
        if not kept:
            raise OptionError(f"no arch of {self.name} under {measure!r} remains: {self.summary}")
        return kept

    def draw(self, *, rng: np.random.Generator, measure: str) -> Arch:
        """Return one arch drawn uniformly under a measure, independently of all others.

        Raises:
            OptionError: None was found in ``MAX_TRIES`` draws from the whole space.
            UnknownNameError: The space has no such measure.
        """
        if self.is_product or self.population(measure) is not None:
            return super().draw(rng=rng, measure=measure)
        for _ in range(MAX_TRIES):
            arch = self.base.draw(rng=rng, measure=measure)
            if self._admits(arch):
                return arch
        raise OptionError(
            f"none of {MAX_TRIES} archs of {self.name} drawn under {measure!r} remains: {self.summary}. "
            "Restrict less, or draw under a measure that is a list"
        )

    def sample(
        self, n: int, *, rng: np.random.Generator, measure: str, has_repeats: bool = False
    ) -> list[Arch]:
        """Return n archs drawn uniformly under a measure, as ``Space.sample`` does.

        Raises:
            OptionError: More distinct archs are asked for than there are, or were found in ``MAX_TRIES`` draws
                since the last.
            UnknownNameError: The space has no such measure.
        """
        if self.is_product or self.population(measure) is not None:
            return super().sample(n, rng=rng, measure=measure, has_repeats=has_repeats)
        if n < 1:
            raise OptionError(f"cannot draw {n} archs; draw at least 1")
        if has_repeats:
            return [self.draw(rng=rng, measure=measure) for _ in range(n)]
        found: dict[Arch, None] = {}
        n_vain = 0
        while len(found) < n:
            arch = self.draw(rng=rng, measure=measure)
            n_vain = n_vain + 1 if arch in found else 0
            if n_vain == MAX_TRIES:
                raise OptionError(f"cannot draw {n} archs: {len(found)} of {self.name} were found")
            found[arch] = None
        return list(found)

    def neighbours(self, arch: Arch) -> list[Arch]:
        """Return the neighbours in the whole space that remain."""
        return [other for other in self.base.neighbours(self.check(arch)) if self._admits(other)]

    def format(self, arch: Arch) -> str:
        """Return the text form of an arch."""
        return self.base.format(arch)

    def parse(self, text: str) -> Arch:
        """Return the arch of a text form.

        Raises:
            ArchError: The text is malformed, or its arch has an option that is not allowed.
        """
        return self.check(self.base.parse(text))

    def cost(self, arch: Arch, macro: Mapping[str, int]) -> Cost | None:
        """Return params and multiply-adds of a subnet under a supernet's macro options."""
        return self.base.cost(arch, macro)

    def depth(self, arch: Arch) -> int | None:
        """Return how many operations follow one another on the longest path."""
        return self.base.depth(arch)

    def is_cost_exact(self, arch: Arch) -> bool:
        """Return whether the cost counts just what reaches the output."""
        return self.base.is_cost_exact(arch)

    def function_key(self, arch: Arch) -> Hashable:
        """Return a key that is equal for archs that compute the same function with shared weights."""
        return self.base.function_key(arch)

    def truth_text(self, arch: Arch) -> str:
        """Return what truth tables call an arch."""
        return self.base.truth_text(arch)

    def is_reachable(self, arch: Arch) -> bool:
        """Return whether the output of the arch depends on its input."""
        return self.base.is_reachable(arch)
