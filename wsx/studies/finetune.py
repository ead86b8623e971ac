"""Scoring subnets after each was trained alone for a few batches, starting from one checkpoint of a supernet.

After every number of batches there is one campaign. Its subnets have weights of their own, so its key carries, in
the place of the checkpoint's digest, a digest of all that these weights follow from, see ``finetuned_sha256``.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from wsx.data import ImageSet
from wsx.errors import OptionError, WsxError
from wsx.evaluators.devices import CPU
from wsx.evaluators.plan import Plan, make_plan
from wsx.spaces import Arch
from wsx.spaces.choice import ArchChoice
from wsx.store import Campaign, Score, open_store
from wsx.studies.evaluate_run import campaign_info
from wsx.studies.finetune_task import (
    FinetuneTask,
    NoEngine,
    add_scores,
    finetuned_scores,
    image_data,
    run_recipe,
)
from wsx.studies.images import ImageChoice
from wsx.studies.panel import FINETUNE
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import ScoringOptions, versions
from wsx.studies.timeline import OnProgress
from wsx.training.finetune import Finetuning, supernet_momentum
from wsx.training.recipes import Recipe


@dataclass(frozen=True)
class FinetuneReport:
    """What fine-tuning did; scores are counted per arch and number of batches.

    Attributes:
        n_trained: Subnets trained now.
        n_scored: Scores written now, those of failed archs included.
        n_finished: Scores that were there already.
        n_failed: Scores written now that hold an error or no finite loss.
    """

    n_trained: int
    n_scored: int
    n_finished: int
    n_failed: int


def finetune_then_score(
    subnets: RunSubnets,
    out: Path,
    *,
    choice: ArchChoice,
    settings: Finetuning,
    n_batches: Sequence[int],
    executor: Executor,
    images: ImageChoice | None = None,
    batch_size: int | None = None,
    on_progress: OnProgress | None = None,
) -> FinetuneReport:
    """Train subnets one by one from a checkpoint, and score each after some numbers of batches.

    All subnets see the same batches. One that is scored after 64 batches is the one scored after 4, trained on.
    With statistics ``running`` BatchNorm has the averages that fine-tuning left. Results do not depend on the
    number of workers. What the file holds is not done again, arch by arch.

    Args:
        subnets: The checkpoint and the BatchNorm mode.
        out: The score file.
        choice: Which archs.
        settings: How they are trained.
        n_batches: After how many batches they are scored; 0 is the score of the checkpoint itself.
        executor: Where subnets are trained, see ``finetuning_processes``.
        images: Which images are scored; None takes the whole test split.
        batch_size: Images per batch of scoring; needed in BatchNorm mode ``batch``.
        on_progress: Told of scores done, of scores to do, and of the subnet that came last.

    Raises:
        OptionError: A number of batches is negative, or the run is of text.
        CheckpointError: The checkpoint is of no use, or has no momentum to go on with.
        DataError: The run's data is missing.
        StoreError: The score file cannot be used.
    """
    wanted = sorted(set(n_batches))
    if not wanted or wanted[0] < 0:
        raise OptionError(f"batches {list(n_batches)} must be one or several numbers of at least 0")
    dataset, images = image_data(subnets), images or ImageChoice()
    image_set = images.images(dataset)
    batch_size = ScoringOptions(batch_size).batch_size_on(CPU, subnets.mode)
    key = subnets.score_key(image_set, batch_size=batch_size, provider=CPU.provider)
    if settings.momentum == "supernet":
        supernet_momentum(subnets.run, subnets.found)
    task = FinetuneTask(
        subnets.run.path,
        subnets.bn,
        subnets.found.path.stem,
        subnets.data,
        key,
        settings,
        images,
        batch_size,
    )
    info = {**versions(), **campaign_info(subnets, image_set, choice)}
    with open_store(out, "a") as store:
        campaigns = {}
        for n in wanted:
            told = {
                FINETUNE: {
                    "n_batches": n,
                    "checkpoint_sha256": key.checkpoint_sha256,
                    **asdict(settings),
                }
            }
            digest = finetuned_sha256(
                key.checkpoint_sha256, settings, run_recipe(subnets), dataset.train, n
            )
            campaigns[n] = store.campaign(
                replace(key, checkpoint_sha256=digest),
                image_ids=image_set.ids,
                info={**info, **(told if n else {})},
            )
        archs = choice.archs(subnets.recorder.space)
        return _run(task, subnets, archs, campaigns, executor, on_progress or (lambda *_: None))


def finetuned_sha256(
    checkpoint_sha256: str, settings: Finetuning, recipe: Recipe, train: ImageSet, n_batches: int
) -> str:
    """Return the digest that stands for the weights of all subnets fine-tuned in one way.

    It covers the checkpoint, which images are trained on, every number of the recipe and of the settings, and the
    number of batches. After no batches it is the checkpoint's own.
    """
    if not n_batches:
        return checkpoint_sha256
    facts = {
        "checkpoint_sha256": checkpoint_sha256,
        "settings": asdict(settings),
        "recipe": settings.recipe(recipe).as_dict(),
        "train": [train.dataset, train.source, list(train.pixels.shape)],
        "n_batches": n_batches,
    }
    state = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    # Not the pixels: photographs would all have to be decoded for it.
    for array in (train.ids, train.labels):
        state.update(array.astype("<i8").data)
    return state.hexdigest()


def _run(
    task: FinetuneTask,
    subnets: RunSubnets,
    archs: Sequence[Arch],
    campaigns: Mapping[int, Campaign],
    executor: Executor,
    on_progress: OnProgress,
) -> FinetuneReport:
    function_key = cache(lambda arch: subnets.recorder.record(arch).function_key)
    plans = {n: _plan(archs, campaign, function_key) for n, campaign in campaigns.items()}
    n_all, n_done, n_failed = sum(plan.n_missing for plan in plans.values()), 0, 0
    for n, plan in plans.items():
        rest = [*(arch for arch, _ in plan.known), *plan.failures]
        # Copies, and rows that say why an arch cannot be recorded: nothing is run for them.
        never = NoEngine(WsxError("nothing is run"), len(campaigns[n].image_ids))
        add_scores(rest, campaigns[n], never, subnets)
        n_done, n_failed = n_done + len(rest), n_failed + len(plan.failures)
    tasks = _by_function(plans)
    futures: dict[Future[dict[int, list[Score]]], str] = {}
    try:
        for wanted in tasks:
            first = wanted[min(wanted)][0]
            future = executor.submit(finetuned_scores, task, first, wanted)
            futures[future] = subnets.recorder.space.format(first)
        on_progress(n_done, n_all, "")
        for future in as_completed(futures):
            for n, scores in future.result().items():
                campaigns[n].append(scores)
                n_done += len(scores)
                n_failed += sum(score.status != "ok" for score in scores)
            on_progress(n_done, n_all, futures[future])
    finally:
        for future in futures:
            future.cancel()
    n_finished = sum(plan.n_finished for plan in plans.values())
    return FinetuneReport(len(tasks), n_all, n_finished, n_failed)


def _plan(archs: Sequence[Arch], campaign: Campaign, function_key: Callable[[Arch], str]) -> Plan:
    finished, known = campaign.finished(), campaign.known_functions()
    return make_plan(archs, finished=finished, known=known, function_key=function_key)


def _by_function(plans: Mapping[int, Plan]) -> list[dict[int, list[Arch]]]:
    """Return of every subnet to be trained, by number of batches, the archs that take its scores."""
    tasks: dict[str, dict[int, list[Arch]]] = {}
    for n, plan in plans.items():
        for group in plan.groups:
            tasks.setdefault(group.function_key, {})[n] = group.archs
    return list(tasks.values())
