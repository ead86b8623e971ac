"""Weights on disk: one safetensors file per checkpoint, its facts as JSON in the file's own header.

The header makes a checkpoint self-describing: space and macro options are read from it, so a supernet is
rebuilt from the file alone. Files are written beside their final name and moved there, so a name never
stands for half a file.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from wsx.errors import CheckpointError, WsxError
from wsx.supernets._base import Supernet
from wsx.supernets.build import build_supernet

HEADER_KEY = "wsx"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """Where a supernet's weights lie and what they are.

    Attributes:
        path: The safetensors file.
        sha256: Digest of the file.
        facts: The JSON of its header: ``space``, ``supernet`` (macro options), perhaps ``restriction`` and
            ``sharing``, ``step``, ``epoch``, ...
    """

    path: Path
    sha256: str
    facts: Mapping[str, Any]


def file_sha256(path: Path) -> str:
    """Return the hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and facts durably: complete under the final name, or not at all.

    Raises:
        CheckpointError: The disk is full or the folder cannot be written.
    """
    header = {HEADER_KEY: json.dumps({"format_version": FORMAT_VERSION, **facts})}
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: t.detach().cpu().contiguous() for name, t in tensors.items()}, part, header
        )
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise CheckpointError(
            f"cannot write {path}: {error}. Earlier checkpoints are untouched; free space and repeat"
        ) from error


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors and facts of a file that ``save_tensors`` wrote.

    Raises:
        CheckpointError: The file is missing, truncated, foreign, or of a newer format.
    """
    facts = read_facts(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}; use another checkpoint") from error


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts of a checkpoint without its tensors.

    Raises:
        CheckpointError: The file is missing, truncated, foreign, or of a newer format.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is truncated or no safetensors file: {error}; use another checkpoint"
        ) from error
    try:
        facts: dict[str, Any] = json.loads(header[HEADER_KEY])
        version = int(facts["format_version"])
    except (KeyError, ValueError, TypeError, OverflowError):
        raise CheckpointError(f"{path} is a safetensors file that wsx did not write") from None
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint format {version}; this wsx reads up to {FORMAT_VERSION}. Upgrade wsx"
        )
    return facts


def load_supernet(path: Path) -> tuple[Supernet, Checkpoint]:
    """Return the supernet of a checkpoint, in evaluation mode, and the checkpoint.

    Raises:
        CheckpointError: The file is unusable, or its weights do not fit the space that it names.
    """
    tensors, facts = load_tensors(path)
    try:
        supernet = build_supernet(
            facts["space"],
            facts["supernet"],
            seed=0,
            restriction=facts.get("restriction"),
            sharing=facts.get("sharing"),
        )
        supernet.load_state_dict(tensors)
    except (WsxError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        # A WsxError already says in one line what is wrong; torch's lists every tensor.
        detail = str(error) if isinstance(error, WsxError) else str(error).strip().split("\n")[0]
        raise CheckpointError(f"{path} does not hold a supernet of wsx: {detail}") from error
    return supernet.eval(), Checkpoint(path, file_sha256(path), facts)
