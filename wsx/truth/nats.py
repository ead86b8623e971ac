"""NATS-Bench's own files: one bz2-compressed pickle per arch of the topology space."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.errors import TruthError
from wsx.registry import unknown_name
from wsx.truth.pickles import read_pickle
from wsx.truth.table import TruthTable

# The evaluation that NATS-Bench's own API reports as each split. Networks under `cifar10` were
# trained on training and validation images together, so they have no validation accuracy.
_EVALUATIONS = {
    ("cifar10", "test"): "ori-test",
    ("cifar10-valid", "valid"): "x-valid",
    ("cifar10-valid", "test"): "ori-test",
    ("cifar100", "valid"): "x-valid",
    ("cifar100", "test"): "x-test",
    ("ImageNet16-120", "valid"): "x-valid",
    ("ImageNet16-120", "test"): "x-test",
}


def read_nats(
    folder: Path, dataset: str = "cifar10", split: str = "test", epochs: int = 200
) -> TruthTable:
    """Read the records of a NATS-Bench topology folder, however many it holds.

    The folder is that of ``NATS-tss-v1_0-3ffb9-simple``: files such as ``000011.pickle.pbz2``.
    Accuracies are those after the last epoch, parameters and FLOPs those of C=16, N=5. ``info`` has
    the seeds and, in seconds per image batch as measured there, the latencies.

    Source: X. Dong, L. Liu, K. Musial, B. Gabrys, NATS-Bench, TPAMI 2021; arXiv 2009.00437.

    Args:
        folder: Where the records lie.
        dataset: ``cifar10``, ``cifar10-valid``, ``cifar100`` or ``ImageNet16-120``.
        split: ``test`` or ``valid``.
        epochs: The training schedule, 12 or 200.

    Raises:
        UnknownNameError: There is no such dataset and split.
        TruthError: There is no record, or one is damaged, hostile or lacks the numbers.
    """
    if (dataset, split) not in _EVALUATIONS:
        known = [" ".join(key) for key in _EVALUATIONS]
        raise unknown_name("NATS-Bench dataset and split", f"{dataset} {split}", known)
    paths = sorted(folder.glob("[0-9]" * 6 + ".pickle.pbz2"))
    if not paths:
        raise TruthError(f"{folder} holds no NATS-Bench record such as 000000.pickle.pbz2")
    records = [_read_record(path, dataset, split, epochs) for path in paths]
    seeds = sorted({seed for record in records for seed in record["accuracies"]})
    per_seed = np.array(
        [[record["accuracies"].get(seed, np.nan) for seed in seeds] for record in records]
    )
    return TruthTable(
        space="nasbench201",
        dataset=dataset,
        split=split,
        source=folder.name,
        texts=tuple(record["text"] for record in records),
        accuracy=np.nanmean(per_seed, axis=1),
        per_seed=per_seed,
        params=_column(records, "params"),
        flops=_column(records, "flops"),
        info={
            "epochs": epochs,
            "seeds": seeds,
            "latency_s": [record["latency_s"] for record in records],
        },
    )


def _column(records: list[dict[str, Any]], name: str) -> NDArray[np.int64]:
    return np.array([record[name] for record in records], np.int64)


def _read_record(path: Path, dataset: str, split: str, epochs: int) -> dict[str, Any]:
    try:
        record = read_pickle(path)[f"{epochs:02d}"]
        if record["arch_index"] != int(path.name[:6]):
            raise TruthError(f"{path} holds arch {record['arch_index']}; was it renamed?")
        results = {
            int(seed): result
            for (name, seed), result in record["all_results"].items()
            if name == dataset
        }
        if not results:
            raise TruthError(f"{path} has no training on {dataset} for {epochs} epochs")
        return _summary(record["arch_str"], results, f"{_EVALUATIONS[dataset, split]}@{epochs - 1}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TruthError(
            f"{path} is not laid out like a NATS-Bench topology record of {epochs} epochs "
            f"({type(error).__name__}: {error})"
        ) from error


def _summary(
    text: str, results: Mapping[int, Mapping[str, Any]], evaluation: str
) -> dict[str, Any]:
    first = results[min(results)]
    percents = {seed: float(result["eval_acc1es"][evaluation]) for seed, result in results.items()}
    if not all(0 <= percent <= 100 for percent in percents.values()):
        raise ValueError(f"accuracies by seed {percents}, outside 0 to 100")
    latencies = [float(value) for result in results.values() for value in result["latency"]]
    return {
        "text": str(text),
        "accuracies": {seed: percent / 100 for seed, percent in percents.items()},
        # Both are given in millions.
        "params": round(first["params"] * 1e6),
        "flops": round(first["flop"] * 1e6),
        "latency_s": float(np.mean(latencies)) if latencies else None,
    }
