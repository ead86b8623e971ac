"""Truth: archs trained alone, each from a fresh initialisation, by the same loop as the supernet.

Results are appended to ``OUT.rows.jsonl`` as they come, one line per (arch, seed), so a repeated command does only
what is missing; the table itself is written at the end.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsx.data import Dataset, ImageSet
from wsx.errors import TrainingError, TruthError, WsxError
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.cost import subnet_cost
from wsx.exporters.extract import extract
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES, Arch
from wsx.supernets import build_supernet, reset_parameters
from wsx.training.augment import Batches
from wsx.training.loop import Trainer
from wsx.training.run import DataSpec, RunConfig
from wsx.training.supernet import supernet_options
from wsx.truth import TruthTable


@dataclass(frozen=True)
class StandaloneScore:
    """What one subnet reached alone.

    Attributes:
        text: The arch.
        seed: Seed of initialisation and of the order of images.
        correct: Right answers, by split (``valid``, ``test``).
        total: Images, by split.
    """

    text: str
    seed: int
    correct: dict[str, int]
    total: dict[str, int]


def train_alone(config: RunConfig, arch: Arch, seed: int) -> StandaloneScore:
    """Train one subnet alone and count what it gets right with its own running statistics.

    Raises:
        TrainingError: The loss or a logit is not finite.
    """
    dataset = _load(config.data)
    recipe = config.recipe
    macro = supernet_options(recipe, dataset.train.pixels.shape, dataset.train.n_classes)
    model = extract(build_supernet(config.space, macro, seed=seed), arch)
    reset_parameters(model, seed=seed)
    batches = Batches(dataset.train, recipe, seed=seed, device=torch.device("cpu"))
    trainer = Trainer(model, lambda step: [model] * recipe.n_ranks, batches, recipe, seed=seed)
    for _ in trainer.run():
        pass
    model.eval()
    splits = {"valid": dataset.valid, "test": dataset.test}
    return StandaloneScore(
        SPACES[config.space].format(arch),
        seed,
        {name: _count_correct(model, images) for name, images in splits.items()},
        {name: len(images) for name, images in splits.items()},
    )


def train_standalone(
    config: RunConfig,
    archs: Sequence[Arch],
    seeds: Sequence[int],
    out: Path,
    *,
    executor: Executor,
    on_score: Callable[[StandaloneScore, int, int], None] | None = None,
) -> dict[str, TruthTable]:
    """Train archs alone and return their truth, by split.

    Args:
        config: Space, recipe and data; its own seed is not used.
        archs: Which archs; repeats are trained once.
        seeds: One training each per arch.
        out: The table's path; rows are kept beside it until all are there.
        executor: Where trainings run; processes with one torch thread each suit small nets.
        on_score: Called with each score, the number done and the number in all.

    Raises:
        TrainingError: A training diverged; the others are kept.
        TruthError: The rows beside ``out`` belong to another configuration, or are damaged.
    """
    space = SPACES[config.space]
    rows_path = out.with_name(out.name + ".rows.jsonl")
    scores = {(score.text, score.seed): score for score in _read_rows(rows_path, config)}
    wanted = [(arch, seed) for arch in dict.fromkeys(archs) for seed in seeds]
    missing = [pair for pair in wanted if (space.format(pair[0]), pair[1]) not in scores]
    futures = {
        executor.submit(train_alone, config, arch, seed): (arch, seed) for arch, seed in missing
    }
    failures = []
    with rows_path.open("a") as file:
        for n_done, future in enumerate(as_completed(futures), 1):
            try:
                score = future.result()
            except TrainingError as error:
                failures.append(
                    f"{space.format(futures[future][0])} seed {futures[future][1]}: {error}"
                )
                continue
            scores[score.text, score.seed] = score
            file.write(json.dumps(vars(score)) + "\n")
            file.flush()
            os.fsync(file.fileno())
            if on_score is not None:
                on_score(score, len(wanted) - len(futures) + n_done, len(wanted))
    if failures:
        raise TrainingError(f"{len(failures)} trainings diverged, first {failures[0]}")
    return {split: _table(config, wanted, scores, seeds, split) for split in ("valid", "test")}


def _table(
    config: RunConfig,
    wanted: Iterable[tuple[Arch, int]],
    scores: dict[tuple[str, int], StandaloneScore],
    seeds: Sequence[int],
    split: str,
) -> TruthTable:
    space = SPACES[config.space]
    dataset = _load(config.data)
    macro: dict[str, Any] = supernet_options(
        config.recipe, dataset.train.pixels.shape, dataset.train.n_classes
    )
    archs = list(dict.fromkeys(arch for arch, _ in wanted))
    texts = tuple(space.format(arch) for arch in archs)
    accuracy = np.array(
        [[scores[t, s].correct[split] / scores[t, s].total[split] for s in seeds] for t in texts]
    )
    supernet = build_supernet(config.space, macro, seed=0).eval()
    recorder = SubnetRecorder(supernet, BatchNormMode("batch"))
    costs = [subnet_cost(recorder, arch) for arch in archs]
    return TruthTable(
        space=config.space,
        dataset=dataset.name,
        split=split,
        source="wsx train-standalone",
        texts=texts,
        accuracy=accuracy.mean(axis=1),
        per_seed=accuracy,
        params=np.array([cost.params for cost in costs]),
        flops=np.array([cost.flops for cost in costs]),
        info={**config.as_dict(), "seeds": list(seeds), "n_images": len(getattr(dataset, split))},
    )


def _header(config: RunConfig) -> dict[str, Any]:
    header = {"space": config.space, "recipe": config.recipe.as_dict(), "data": vars(config.data)}
    # What goes through JSON and back compares equal to what was read.
    return dict(json.loads(json.dumps(header)))


def _read_rows(path: Path, config: RunConfig) -> Iterator[StandaloneScore]:
    """Yield the finished rows of a file, after checking that they belong to this configuration."""
    content = path.read_bytes() if path.exists() else b""
    # What a crash cut short ends in no newline: that training is done again.
    complete = content[: content.rfind(b"\n") + 1]
    first, *lines = complete.splitlines() or [b""]
    if not lines:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_header(config)) + "\n")
        return
    try:
        # Read as a configuration: options that came after the file was begun have their defaults.
        found = RunConfig.from_dict({**json.loads(first), "seed": config.seed})
        scores = [StandaloneScore(**json.loads(line)) for line in lines]
    except (WsxError, ValueError, TypeError, KeyError) as error:
        raise TruthError(f"{path} is damaged: {error}; move it away") from error
    if _header(found) != _header(config):
        raise TruthError(f"{path} belongs to another recipe, space or data; choose another --out")
    os.truncate(path, len(complete))
    yield from scores


@lru_cache(maxsize=2)
def _load(data: DataSpec) -> Dataset:
    return data.load()


def _count_correct(model: torch.nn.Module, images: ImageSet) -> int:
    n_correct = 0
    with torch.inference_mode():
        for start in range(0, len(images), 256):
            x = torch.from_numpy(images.floats(start, start + 256))
            labels = torch.from_numpy(images.labels[start : start + 256])
            logits = model(x)
            if not bool(torch.isfinite(logits).all()):
                raise TrainingError(
                    f"logits of the trained net are not finite on {images.split}; lower lr or clip"
                )
            n_correct += int((logits.argmax(1) == labels).sum())
    return n_correct
