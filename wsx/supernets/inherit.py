"""Weights that a supernet starts from: those of a parent's checkpoint.

Few-shot search (Zhao et al., arXiv 2006.06863) trains one supernet and lets every sub-supernet start from it.
Weights and running averages are inherited, momentum is not: a new optimiser starts from rest.
"""

import re
from pathlib import Path
from typing import Any

from wsx.errors import CheckpointError, WsxError
from wsx.supernets._base import Supernet
from wsx.supernets.checkpoint import file_sha256, load_tensors, read_facts
from wsx.supernets.grouped import GroupedSupernet

_PINNED = re.compile(r"(?P<path>.+)@(?P<sha256>[0-9a-f]{64})", re.DOTALL)


def is_pinned(parent: str) -> bool:
    """Return whether a parent is named as it is stored: by its path and the digest of its bytes."""
    return _PINNED.fullmatch(parent) is not None


def pinned_checkpoint(path: Path) -> str:
    """Return a checkpoint as it is stored, ``PATH@SHA256``.

    Raises:
        CheckpointError: It is missing or no checkpoint.
    """
    read_facts(path)
    return f"{path}@{file_sha256(path)}"


def inherit(supernet: Supernet, parent: str, own: dict[str, Any]) -> None:
    """Give a supernet the weights of a parent's checkpoint; every member of a grouped one all of them.

    Args:
        supernet: The child.
        parent: The checkpoint, ``PATH@SHA256``.
        own: What the child was built from: ``space``, and perhaps ``restriction`` and ``sharing``.

    Raises:
        CheckpointError: The checkpoint is missing or has changed, or is of another space, of other macro options,
            or of a supernet that shares otherwise.
    """
    match = _PINNED.fullmatch(parent)
    if match is None:
        raise CheckpointError(f"{parent!r:.200} is no checkpoint; it must read PATH@SHA256")
    path = Path(match["path"])
    tensors, facts = load_tensors(path)
    if (now := file_sha256(path)) != match["sha256"]:
        raise CheckpointError(
            f"{path} has changed: its digest is {now}, not {match['sha256']}. Put the old file back"
        )
    try:
        for heir in _heirs(supernet, facts, own):
            heir.load_state_dict(tensors)
    except (WsxError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        detail = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{path} cannot be the parent of this run: {detail}") from error


def _heirs(supernet: Supernet, parent: dict[str, Any], own: dict[str, Any]) -> list[Supernet]:
    """Return the parts of a supernet that take all of a parent's weights."""
    options = type(supernet.options).from_dict(parent["supernet"])
    if (parent["space"], options) != (own["space"], supernet.options):
        raise CheckpointError(
            f"it is of {parent['space']} with {options}, not of {own['space']} with {supernet.options}"
        )
    if not parent.get("sharing") and isinstance(supernet, GroupedSupernet):
        return list(supernet.nets)
    # Groups are those of the archs that there are.
    names = ("sharing", "restriction") if own.get("sharing") else ("sharing",)
    if all(parent.get(name) == own.get(name) for name in names):
        return [supernet]
    raise CheckpointError(
        f"it has {', '.join(f'{n} {parent.get(n)}' for n in names)} instead of "
        f"{', '.join(f'{n} {own.get(n)}' for n in names)}; start from a supernet in which all archs share all "
        "weights"
    )
