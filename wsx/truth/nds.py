"""The files of "On Network Design Spaces for Visual Recognition" (NDS), DARTS family.

Written from the description of the format (facebookresearch/nds and two public readers of it); it has not been run
on an original file.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.errors import TruthError
from wsx.truth.table import TruthTable

N_NODES = 4
_CONCAT = [2, 3, 4, 5]

Pair = tuple[str, int]


def genotype_text(normal: Sequence[Pair], reduce: Sequence[Pair]) -> str:
    """Return the genotype of two cells, the two pairs of each node sorted by source, then by operation.

    The order of a node's pairs makes no difference to a network that is trained alone. This is the
    ``truth_text`` of the spaces ``darts`` and ``darts-nds``.

    Args:
        normal: Eight pairs (operation, source), two for each node.
        reduce: Those of the reduction cell.

    Raises:
        TruthError: There are more or fewer pairs, or one is no name and earlier value.
    """
    return (
        f"Genotype(normal={_sorted(normal)}, normal_concat=range(2, 6), "
        f"reduce={_sorted(reduce)}, reduce_concat=range(2, 6))"
    )


def read_nds(
    path: Path, *, width: int | None = None, depth: int | None = None, dataset: str = "cifar10"
) -> TruthTable:
    """Read a sweep such as ``DARTS.json`` or ``DARTS_fix-w-d.json``: one JSON list, one entry a training.

    Accuracy is that of the last epoch. Trainings of one genotype become its runs, whatever their width and
    depth, as Yu et al. (arXiv 2110.01154) do: in ``DARTS.json`` both vary and are confounded with the
    cell, so ``info`` has their ranges and ``width`` and ``depth`` select.

    Source: I. Radosavovic et al., ICCV 2019, arXiv 1905.13214. Of an entry are read ``net.genotype``,
    ``net.width``, ``net.depth``, ``test_ep_top1`` (error in percent after each epoch), ``params`` and
    ``flops``. Written from the format's description; not run on an original file.

    Args:
        path: The JSON file.
        width: Only networks of so many channels.
        depth: Only networks of so many cells.
        dataset: ``cifar10``, or ``imagenet`` for the files whose names end in ``_in``.

    Raises:
        TruthError: The file is damaged, of another family, or has no such network.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TruthError(f"{path} is no readable JSON ({type(error).__name__}: {error})") from error
    if not isinstance(entries, list):
        raise TruthError(f"{path} holds a {type(entries).__name__}, not an NDS list of trainings")
    trainings = [_training(path, number, entry) for number, entry in enumerate(entries)]
    trainings = [
        training
        for training in trainings
        if width in (None, training["width"]) and depth in (None, training["depth"])
    ]
    if not trainings:
        raise TruthError(
            f"{path} holds no training of width {width or 'any'}, depth {depth or 'any'}"
        )
    return _table(path, dataset, trainings)


def _sorted(pairs: Sequence[Pair]) -> list[Pair]:
    if len(pairs) != 2 * N_NODES:
        raise TruthError(f"a cell has {len(pairs)} pairs; {2 * N_NODES} are needed")
    for place, (operation, source) in enumerate(pairs):
        is_name = isinstance(operation, str) and operation.isidentifier()
        if not is_name or type(source) is not int or not 0 <= source < 2 + place // 2:
            raise TruthError(f"pair {place} of a cell is {(operation, source)}")
    return [
        pair
        for place in range(0, len(pairs), 2)
        for pair in sorted(pairs[place : place + 2], key=lambda pair: (pair[1], pair[0]))
    ]


def _training(path: Path, number: int, entry: Any) -> dict[str, Any]:
    try:
        net = entry["net"]
        return {
            "text": genotype_text(_pairs(net, "normal"), _pairs(net, "reduce")),
            "accuracy": _accuracy(entry["test_ep_top1"][-1]),
            "epochs": len(entry["test_ep_top1"]),
            **{name: _count(net[name]) for name in ("width", "depth")},
            **{name: _count(entry[name]) for name in ("params", "flops")},
        }
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise TruthError(
            f"{path}, entry {number}, is not laid out like a training of NDS' DARTS family "
            f"({type(error).__name__}: {str(error)[:200]})"
        ) from error


def _accuracy(error: Any) -> float:
    if not 0 <= error <= 100:
        raise ValueError(f"not an error in percent: {error!r}")
    return 1 - float(error) / 100


def _count(value: Any) -> int:
    if isinstance(value, bool) or not 0 <= value < 2**63 or value != int(value):
        raise ValueError(f"not a count: {value!r}")
    return int(value)


def _pairs(net: Any, kind: str) -> list[Pair]:
    pairs = [(operation, source) for operation, source in net["genotype"][kind]]
    concat = net["genotype"][f"{kind}_concat"]
    if concat != _CONCAT:
        raise ValueError(
            f"a {kind} cell that gives its nodes {concat}; only DARTS' {_CONCAT} is read"
        )
    return pairs


def _table(path: Path, dataset: str, trainings: list[dict[str, Any]]) -> TruthTable:
    runs: dict[str, list[dict[str, Any]]] = {}
    for training in trainings:
        runs.setdefault(training["text"], []).append(training)
    per_seed = np.full((len(runs), max(map(len, runs.values()))), np.nan)
    for row, group in enumerate(runs.values()):
        per_seed[row, : len(group)] = [training["accuracy"] for training in group]
    ranges = {
        name: [limit(training[name] for training in trainings) for limit in (min, max)]
        for name in ("width", "depth", "epochs")
    }
    return TruthTable(
        space="darts-nds",
        dataset=dataset,
        split="test",
        source=path.name,
        texts=tuple(runs),
        accuracy=np.nanmean(per_seed, axis=1),
        per_seed=per_seed if per_seed.shape[1] > 1 else None,
        params=_sizes(runs, "params"),
        flops=_sizes(runs, "flops"),
        info={**ranges, "n_trainings": len(trainings)},
    )


def _sizes(runs: dict[str, list[dict[str, Any]]], name: str) -> NDArray[np.int64] | None:
    """Return params or flops by arch, ``None`` where the networks of one arch differ in them."""
    sizes = [{training[name] for training in group} for group in runs.values()]
    if any(len(values) > 1 for values in sizes):
        return None
    return np.array([values.pop() for values in sizes], np.int64)
