"""Building a supernet: which archs there are, and who shares what.

A supernet is determined by four things, all JSON-clean and all in the header of its checkpoints: the name of its
space, its macro options, a *restriction* (options that decisions may take, see ``wsx.spaces.restricted``) and a
*sharing*:

* ``{}``: all archs share all weights;
* ``{"groups": "random:8:42", "shared": "prefix:2"}``: archs of a group share all weights, those of different
  groups a part of them; see ``wsx.supernets.groupings`` and ``wsx.supernets.parts``;
* ``{"arch": TEXT, "copies": 5}``: one arch, each of whose operations is there in copies, see
  ``wsx.supernets.replicated``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from wsx.errors import OptionError
from wsx.registry import unknown_name
from wsx.spaces import SPACES, Space
from wsx.spaces.restricted import restricted
from wsx.supernets._base import SUPERNETS, Supernet, seeded
from wsx.supernets.grouped import GroupedSupernet
from wsx.supernets.groupings import grouping_of, pinned_grouping
from wsx.supernets.parts import check_parts
from wsx.supernets.replicated import ReplicatedSupernet

_KINDS = {"groups": str, "shared": str, "arch": str, "copies": int}


def pinned_sharing(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sharing in the one form in which it is stored.

    Raises:
        ArchError: A file of groups cannot be read.
        OptionError: A value is malformed, or some are missing.
        UnknownNameError: There is no such key, grouping or part.
    """
    check_sharing(values)
    if "groups" not in values:
        return dict(values)
    return {
        "groups": pinned_grouping(values["groups"]),
        "shared": values.get("shared", "none"),
    }


def check_sharing(values: Mapping[str, Any]) -> None:
    """Refuse a sharing that is malformed, whatever the space.

    Raises:
        OptionError: A value is malformed, or some are missing.
        UnknownNameError: There is no such key or part.
    """
    if not isinstance(values, Mapping):
        raise OptionError(f"sharing {values!r:.120} must give values by name")
    for name, value in values.items():
        if name not in _KINDS:
            raise unknown_name("sharing value", str(name)[:60], list(_KINDS))
        if type(value) is not _KINDS[name]:
            kind = _KINDS[name].__name__
            raise OptionError(f"sharing value {name} is {value!r:.120}; it must be of type {kind}")
    if set(values) not in (set(), {"groups"}, {"groups", "shared"}, {"arch", "copies"}):
        raise OptionError(
            f"a sharing has groups and shared, or arch and copies; not {', '.join(sorted(values))}"
        )
    check_parts(values.get("shared", "none"))


def build_supernet(
    space: str,
    options: Mapping[str, Any],
    *,
    seed: int,
    restriction: Mapping[str, Sequence[str]] | None = None,
    sharing: Mapping[str, Any] | None = None,
) -> Supernet:
    """Return a freshly initialised supernet.

    Its ``space`` has the archs that there are: those of the restriction, or combinations of copies.

    Args:
        space: Name of the space; its ``supernet`` names the module.
        options: Macro options by name; what is missing takes its default.
        seed: Seed of the initialisation.
        restriction: Names of allowed options, by name of the decision; None for all.
        sharing: Who shares what; None where all archs share all weights.

    Raises:
        ArchError: A file of groups cannot be read, or has changed.
        UnknownNameError: The space, an option, a decision or a part does not exist.
        OptionError: A value has the wrong type or range, or the supernet cannot share so.
    """
    whole = SPACES[space]
    kind = SUPERNETS[whole.supernet]
    built_from = kind.options_type.from_dict(options)
    described = restricted(whole, restriction or {})
    sharing = pinned_sharing(sharing or {})

    def make() -> Supernet:
        return kind(whole, built_from)

    with seeded(seed):
        if not sharing:
            supernet = make()
            supernet.space = described
            return supernet
        if kind.reads_text:
            raise OptionError(f"{space} reads text, and all its archs share all weights")
        if "copies" in sharing:
            return _replicated(whole, described, make, sharing)
        grouping = grouping_of(described, sharing["groups"])
        return GroupedSupernet(described, make(), grouping, sharing["shared"])


def _replicated(
    whole: Space, described: Space, make: Any, sharing: Mapping[str, Any]
) -> ReplicatedSupernet:
    if described is not whole:
        raise OptionError("copies of one arch leave nothing to restrict; leave the restriction out")
    return ReplicatedSupernet(whole, make, whole.parse(sharing["arch"]), sharing["copies"])
