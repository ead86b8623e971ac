"""Who shares: which group an arch belongs to.

==========================  =================================================================================
``random:M`` or             M random groups of equal size, by numpy's ``RandomState(SEED)``; the seed is 42 unless
``random:M:SEED``           told, which gives the groups of arXiv 2001.01431
``consecutive:M``           M equal slices of the lexicographic list, so that similar archs are together
``by:DECISION,DECISION``    one group for every combination of options of these decisions (few-shot)
``list:FILE``               a text and the number of its group on every line
==========================  =================================================================================
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from wsx.errors import ArchError, OptionError, WsxError
from wsx.registry import unknown_name
from wsx.spaces import Arch, Space
from wsx.spaces.choice import MAX_ENUMERATED
from wsx.spaces.folds import consecutive_folds, random_folds
from wsx.spaces.lists import LIST, pinned

PUBLISHED_SEED = 42
MAX_GROUPS = 1024
KINDS = ("random", "consecutive", "by", "list")


@dataclass(frozen=True, eq=False)
class Grouping:
    """A partition of archs.

    Attributes:
        n_groups: How many groups there are.
        of: Gives the number of an arch's group, from 0; raises ArchError for an arch that is in none.
    """

    n_groups: int
    of: Callable[[Arch], int]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the grouping itself: it never changes, and copies of a supernet need no copies of its lists."""
        return self


def pinned_grouping(text: str) -> str:
    """Return a grouping as it is stored: with its seed, or with the digest of its file.

    Raises:
        ArchError: The file of a list cannot be read.
        OptionError: The text has another form.
        UnknownNameError: There is no such kind of grouping.
    """
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        raise unknown_name("grouping", kind[:60], [f"{name}:" for name in KINDS])
    if not rest:
        raise OptionError(
            f"grouping {text!r} ends after {kind}; see docs/sharing.md for what follows"
        )
    if kind == "random":
        n, *seed = _integers(text, rest, 2)
        return f"random:{n}:{seed[0] if seed else PUBLISHED_SEED}"
    if kind == "consecutive":
        (n,) = _integers(text, rest, 1)
        return f"consecutive:{n}"
    return pinned(text)


def grouping_of(space: Space, text: str) -> Grouping:
    """Return the grouping of a space's archs that a text names.

    Raises:
        ArchError: The file of a list cannot be read, has changed, or has bad lines.
        OptionError: The text has another form, or the space is too large to be listed for it.
        UnknownNameError: There is no such kind of grouping, or no such decision.
    """
    text = pinned_grouping(text)
    kind, _, rest = text.partition(":")
    if kind == "by":
        return _by_decisions(space, rest.split(","))
    if kind == "list":
        return _from_file(space, text)
    n, *seed = _integers(text, rest, 2)
    _check_number(text, n)
    if space.n_archs > MAX_ENUMERATED:
        raise OptionError(
            f"{space.name} has {space.n_archs} archs, too many to list for {text!r}; group by:DECISION"
        )
    archs = sorted(space.enumerate())
    folds = random_folds(archs, n, seed=seed[0]) if seed else consecutive_folds(archs, n)
    return _listed(space, dict(_numbered(folds)), "")


def _integers(text: str, rest: str, most: int) -> list[int]:
    parts = rest.split(":")
    if len(parts) > most or not all(p.isascii() and p.isdecimal() and len(p) < 12 for p in parts):
        raise OptionError(
            f"grouping {text[:120]!r} must have numbers after its name, such as random:8:42"
        )
    return [int(part) for part in parts]


def _check_number(text: str, n: int) -> None:
    if not 1 <= n <= MAX_GROUPS:
        raise OptionError(f"grouping {text[:120]!r} has {n} groups; there may be 1 to {MAX_GROUPS}")


def _numbered(folds: Sequence[Sequence[Arch]]) -> list[tuple[Arch, int]]:
    return [(arch, number) for number, fold in enumerate(folds) for arch in fold]


def _listed(space: Space, groups: Mapping[Arch, int], where: str) -> Grouping:
    def of(arch: Arch) -> int:
        group = groups.get(tuple(arch))
        if group is None:
            # What is no arch at all is refused as such.
            text = space.format(space.check(arch))
            raise ArchError(f"arch {text} is in no group{where}; draw from archs that are")
        return group

    return Grouping(max(groups.values()) + 1, of)


def _by_decisions(space: Space, names: Sequence[str]) -> Grouping:
    known = [decision.name for decision in space.decisions]
    for name in names:
        if name not in known:
            raise unknown_name(f"decision of {space.name}", name[:60], known)
    if len(set(names)) < len(names):
        raise OptionError(f"grouping by:{','.join(names)} names a decision twice")
    places = [known.index(name) for name in names]
    allowed = [space.allowed_options[place] for place in places]
    n_groups = math.prod(map(len, allowed))
    _check_number(f"by:{','.join(names)}", n_groups)

    def of(arch: Arch) -> int:
        group = 0
        for place, options in zip(places, allowed, strict=True):
            if arch[place] not in options:
                space.check(arch)
            group = group * len(options) + options.index(arch[place])
        return group

    return Grouping(n_groups, of)


def _from_file(space: Space, text: str) -> Grouping:
    path = Path(text.removeprefix(LIST).rpartition("@")[0])
    if (now := pinned(f"{LIST}{path}")) != text:
        raise ArchError(
            f"the groups have changed: they are {now}, not {text}. Put the old file back"
        )
    groups: dict[Arch, int] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ArchError(f"group file {path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            arch, group = _line(space, line)
        except WsxError as error:
            raise ArchError(f"group file {path}, line {number}: {error}") from error
        if groups.setdefault(arch, group) != group:
            raise ArchError(
                f"group file {path}, line {number}: {line.strip()[:200]!r} is in two groups"
            )
    numbers = set(groups.values())
    if numbers != set(range(len(numbers))) or not numbers:
        raise ArchError(
            f"group file {path} has the groups {sorted(numbers)[:20]}; they must be 0, 1, 2, ... without a gap"
        )
    _check_number(text, len(numbers))
    return _listed(space, groups, f" of {path}")


def _line(space: Space, line: str) -> tuple[Arch, int]:
    text, _, group = line.rstrip().replace("\t", " ").rpartition(" ")
    if not (text.strip() and group.isascii() and group.isdecimal() and len(group) < 12):
        raise ArchError(f"{line.strip()[:200]!r} must end in the number of a group")
    return space.parse(text), int(group)
