"""A space of one's own: decisions with their options, every combination of which is an arch."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from wsx.errors import ArchError, OptionError
from wsx.registry import unknown_name
from wsx.spaces._base import Arch, Decision, Space

Value = int | float | str | bool

_NAME = re.compile(r"\w[\w.-]{0,99}")
_OPTION = re.compile(r"[^\s=,]{1,100}")


class ProductSpace(Space):
    """All combinations of the options of some decisions.

    **Text.** ``kernel=3,width=16``: every decision once, in any order when read, in the space's own when
    written.

    **Cost.** There is no formula; params and multiply-adds are measured on each recorded subnet.

    Args:
        name: What the space is called in run folders, score files and on the command line.
        decisions: For each decision the values that it may take; numbers, texts or truth values, at least one,
            none twice.
        summary: What the space is, in a line.

    Raises:
        OptionError: A name or value cannot stand in the text form, or a decision has no or equal options.
    """

    def __init__(
        self, name: str, decisions: Mapping[str, Sequence[Value]], *, summary: str = ""
    ) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise OptionError(f"space name {name!r:.120} must be letters, digits, '_', '.' and '-'")
        if not isinstance(decisions, Mapping) or not decisions:
            raise OptionError(f"space {name}: decisions must map at least one name to its options")
        self.name = name
        self._values = {key: _options(name, key, values) for key, values in decisions.items()}
        self.summary = summary or f"all combinations of {', '.join(self._values)}"
        self._decisions = tuple(
            Decision(key, tuple(map(str, values))) for key, values in self._values.items()
        )

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions, in the order in which they were given."""
        return self._decisions

    @property
    def options(self) -> dict[str, list[Value]]:
        """The values that each decision may take; JSON-clean, ``ProductSpace(name, options)`` is the space."""
        return {name: list(values) for name, values in self._values.items()}

    def values(self, arch: Arch) -> dict[str, Any]:
        """Return what an arch chooses, by the names of the decisions."""
        choices = zip(self._values.items(), self.check(arch), strict=True)
        return {name: values[option] for (name, values), option in choices}

    def format(self, arch: Arch) -> str:
        """Return the text of an arch, such as ``kernel=3,width=16``."""
        choices = zip(self._decisions, self.check(arch), strict=True)
        return ",".join(
            f"{decision.name}={decision.options[option]}" for decision, option in choices
        )

    def parse(self, text: str) -> Arch:
        """Return the arch of a text.

        Raises:
            ArchError: A decision is missing or named twice, or a part is no ``name=value``.
            UnknownNameError: There is no such decision, or no such option of it.
        """
        chosen: dict[str, str] = {}
        for part in text.split(","):
            name, separator, value = part.strip().partition("=")
            if not separator:
                raise ArchError(f"arch {text[:200]!r}: {part[:60]!r} must read name=value")
            if name not in self._values:
                raise unknown_name(f"decision of {self.name}", name[:60], list(self._values))
            if name in chosen:
                raise ArchError(f"arch {text[:200]!r} chooses {name} twice")
            chosen[name] = value
        missing = [name for name in self._values if name not in chosen]
        if missing:
            raise ArchError(f"arch {text[:200]!r} does not choose {', '.join(missing)}")
        return tuple(_option(self.name, d, chosen[d.name]) for d in self._decisions)


def _options(space: str, name: object, values: object) -> tuple[Value, ...]:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise OptionError(
            f"space {space}: decision {name!r:.120} must be letters, digits, '_', '.' and '-'"
        )
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise OptionError(f"space {space}: {name} needs a list of at least one option")
    for value in values:
        is_plain = isinstance(value, (int, str)) or (
            isinstance(value, float) and math.isfinite(value)
        )
        if not is_plain or not _OPTION.fullmatch(str(value)):
            raise OptionError(
                f"space {space}: option {value!r:.120} of {name} must be a number, a truth value, or text "
                "without blanks, ',' and '='"
            )
    texts = [str(value) for value in values]
    if len(set(texts)) < len(texts):
        raise OptionError(f"space {space}: {name} has an option twice: {', '.join(texts):.200}")
    return tuple(values)


def _option(space: str, decision: Decision, text: str) -> int:
    if text not in decision.options:
        raise unknown_name(f"{decision.name} of {space}", text[:60], list(decision.options))
    return decision.options.index(text)
