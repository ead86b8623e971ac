"""What must really be run to score a population.

Archs that a campaign holds already are left out, and of archs that compute the same function one is run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from wsx.errors import ExportError
from wsx.spaces import Arch
from wsx.store import Score


@dataclass(frozen=True)
class Group:
    """Archs that compute one function; the first one is run for all."""

    function_key: str
    archs: list[Arch]


@dataclass(frozen=True)
class Bundle:
    """Groups that one model scores; of one group, its subnet alone.

    Attributes:
        groups: At least one.
        cost_apart: Multiply-adds over all images of the subnets one by one; 0 where nothing was planned.
        cost_together: The same in one model.
    """

    groups: list[Group]
    cost_apart: int = 0
    cost_together: int = 0


@dataclass(frozen=True)
class Plan:
    """What to do with every arch of a population; each lands in exactly one place.

    Attributes:
        groups: To be run, in the order of their first archs.
        known: Archs whose function another arch of the campaign was scored with, and that score.
        failures: Archs that cannot be exported, and why.
        n_finished: Archs that the campaign holds already.
        n_repeated: Archs asked for more than once, the first time not counted.
    """

    groups: list[Group]
    known: list[tuple[Arch, Score]]
    failures: dict[Arch, str]
    n_finished: int
    n_repeated: int

    @property
    def n_missing(self) -> int:
        """Archs that get a new row."""
        n_grouped = sum(len(group.archs) for group in self.groups)
        return n_grouped + len(self.known) + len(self.failures)


def make_plan(
    archs: Sequence[Arch],
    *,
    finished: set[Arch],
    known: Mapping[str, Score],
    function_key: Callable[[Arch], str],
    on_arch: Callable[[int, int], None] | None = None,
) -> Plan:
    """Return the plan of a population.

    Args:
        archs: The population, in order; repeats count once.
        finished: Archs that need no scoring.
        known: Scores at hand by function key.
        function_key: Gives the key of an arch; its ExportError makes the arch a failure.
        on_arch: Called with the number of archs looked at and the number in all.
    """
    distinct = list(dict.fromkeys(archs))
    missing = [arch for arch in distinct if arch not in finished]
    groups: dict[str, Group] = {}
    copies: list[tuple[Arch, Score]] = []
    failures: dict[Arch, str] = {}
    for n_done, arch in enumerate(missing, 1):
        try:
            key = function_key(arch)
        except ExportError as error:
            failures[arch] = str(error)
        else:
            if key in known:
                copies.append((arch, known[key]))
            else:
                groups.setdefault(key, Group(key, [])).archs.append(arch)
        if on_arch is not None:
            on_arch(n_done, len(missing))
    return Plan(
        list(groups.values()),
        copies,
        failures,
        len(distinct) - len(missing),
        len(archs) - len(distinct),
    )
