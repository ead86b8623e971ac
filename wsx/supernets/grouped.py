"""Weights shared inside groups of archs only: a supernet of supernets.

Zhang et al., "Deeper Insights into Weight Sharing in Neural Architecture Search" (arXiv 2001.01431): groups of
archs share nothing with each other, or just a part such as the stem and the first cells. With one group per option
of a decision these are the sub-supernets of few-shot search (Zhao et al., arXiv 2006.06863).
"""

from copy import deepcopy
from typing import Any

import torch

from wsx.spaces import Arch, Space
from wsx.supernets._base import Supernet
from wsx.supernets.groupings import Grouping
from wsx.supernets.parts import parts_of, share


class GroupedSupernet(Supernet):
    """One member per group of archs; shared parts are one object in all of them.

    All members start from the same weights, as in the public code of arXiv 2001.01431, so that archs differ in
    what they are and how they were trained alone. A weight that a step does not use has no gradient, so the
    optimiser leaves it and its momentum alone: those of a group stand still while another one trains.

    Args:
        space: The archs, all in groups.
        first: The member of the first group, which the others start as copies of.
        grouping: Which group an arch is in.
        shared: What all members share, see ``wsx.supernets.parts``.

    Attributes:
        members: The supernets, by the number of the group.
        grouping: Which group an arch is in.
        aliases: Names of shared tensors in later members, and the names that they are stored under.

    Raises:
        OptionError: What is shared is not there.
    """

    def __init__(self, space: Space, first: Supernet, grouping: Grouping, shared: str) -> None:
        members = [first, *(deepcopy(first) for _ in range(grouping.n_groups - 1))]
        super().__init__(space, first.options)
        share(members, parts_of(first, shared))
        self.members = torch.nn.ModuleList(members)
        self.grouping = grouping
        self.aliases = _aliases(self)
        self.register_state_dict_post_hook(_drop_aliases)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_fill_aliases)  # type: ignore[no-untyped-call]

    @property
    def nets(self) -> list[Supernet]:
        """The members, by the number of the group."""
        return [member for member in self.members if isinstance(member, Supernet)]

    def forward(self, x: torch.Tensor, arch: Arch) -> Any:
        """Return what the member of the arch's group computes."""
        return self.members[self.grouping.of(arch)](x, arch)

    def macro(self) -> dict[str, int]:
        """Return the options that a subnet's cost depends on."""
        return self.nets[0].macro()


def _aliases(supernet: GroupedSupernet) -> dict[str, str]:
    """Return the names under which tensors are found again in later members, and their first names."""
    first: dict[int, str] = {}
    aliases = {}
    for named in (supernet.named_parameters, supernet.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            kept = first.setdefault(id(tensor), name)
            if kept != name:
                aliases[name] = kept
    return aliases


def _drop_aliases(
    supernet: GroupedSupernet, state: dict[str, torch.Tensor], prefix: str, _: Any
) -> None:
    """Keep each shared tensor once in a state: files refuse tensors that are one and the same."""
    for alias in supernet.aliases:
        state.pop(prefix + alias, None)


def _fill_aliases(
    supernet: GroupedSupernet, state: dict[str, torch.Tensor], prefix: str, *others: Any
) -> None:
    *_, errors = others
    for alias, kept in supernet.aliases.items():
        if prefix + alias in state:
            errors.append(f"{alias} is stored, and {kept} is shared in its place")
        if prefix + kept in state:
            state[prefix + alias] = state[prefix + kept]
