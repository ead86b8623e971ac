"""Scores over time: at many checkpoints, and after fine-tuning each subnet."""

import os
from pathlib import Path
from typing import Annotated

import typer

from wsx import options as o
from wsx.console import print_json, print_rows, progress_bar

Out = Annotated[Path, typer.Option("--out", help="Score file; what it holds is skipped.")]


def timeline(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs of one space.")],
    out: Out,
    checkpoints: Annotated[
        str,
        typer.Option(
            "--checkpoints",
            help="Of each run: all, epochs, steps, last:K, last:K:EVERY, names or globs with commas.",
        ),
    ] = "epochs",
    n: o.N = None,
    archs: o.Archs = None,
    all_: o.All = False,
    seed: o.ArchSeed = 0,
    measure: o.Measure = None,
    bn: o.Bn = "calibrated:4x256",
    images: o.Images = None,
    split: o.Split = "test",
    device: o.Device = "auto",
    batch_size: o.BatchSize = None,
    workers: o.Workers = None,
    data: o.DataNow = None,
    quiet: o.Quiet = False,
    json_: o.Json = False,
) -> None:
    """Score the same archs on the same images at many checkpoints of one or several runs."""
    from wsx.spaces.choice import ArchChoice
    from wsx.studies.images import ImageChoice
    from wsx.studies.scoring import ScoringOptions
    from wsx.studies.timeline import evaluate_checkpoints
    from wsx.training import open_run

    with progress_bar(is_quiet=quiet) as start:
        report = evaluate_checkpoints(
            [open_run(run) for run in runs],
            checkpoints,
            out,
            choice=ArchChoice(n, seed, measure, archs, all_),
            bn=bn,
            images=ImageChoice(split, images),
            device=device,
            options=ScoringOptions(batch_size, workers),
            data=data,
            on_progress=start("score checkpoints"),
        )
    facts = {
        "scores": str(out),
        "checkpoints": report.n_checkpoints,
        "complete before": report.n_there,
        "scored": report.n_scored,
        "there already": report.n_finished,
        "failed": report.n_failed,
        "of no use": "; ".join(f"{path}: {why}" for path, why in report.failures.items()) or "none",
    }
    return print_json(facts) if json_ else print_rows("scored over time", facts)


def finetune(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Out,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate, the same for every batch.")],
    batches: Annotated[
        str, typer.Option("--batches", help="Score after so many batches, such as 0,1,2,4,8.")
    ] = "0,1,2,4,8,16,32,64",
    momentum: Annotated[
        str, typer.Option("--momentum", help="fresh, or supernet to go on with the run's.")
    ] = "fresh",
    tuning_seed: Annotated[
        int, typer.Option("--tuning-seed", help="Seed of the order of images.")
    ] = 0,
    checkpoint: o.Checkpoint = "last",
    n: o.N = None,
    archs: o.Archs = None,
    all_: o.All = False,
    seed: o.ArchSeed = 0,
    measure: o.Measure = None,
    bn: o.Bn = "calibrated:4x256",
    images: o.Images = None,
    split: o.Split = "test",
    batch_size: o.BatchSize = None,
    workers: o.Workers = None,
    data: o.DataNow = None,
    quiet: o.Quiet = False,
    json_: o.Json = False,
) -> None:
    """Train each subnet alone for a few batches from a checkpoint, and score it after each number of them."""
    from wsx.spaces.choice import ArchChoice
    from wsx.studies.finetune import finetune_then_score
    from wsx.studies.images import ImageChoice
    from wsx.studies.processes import training_processes
    from wsx.studies.run_subnets import RunSubnets
    from wsx.training import open_run
    from wsx.training.finetune import Finetuning

    subnets = RunSubnets(open_run(run), bn, checkpoint, data)
    n_workers = (os.cpu_count() or 1) if workers is None else workers
    with (
        progress_bar(is_quiet=quiet) as start,
        training_processes(n_workers, subnets.recorder.space) as executor,
    ):
        report = finetune_then_score(
            subnets,
            out,
            choice=ArchChoice(n, seed, measure, archs, all_),
            settings=Finetuning(lr, tuning_seed, momentum),
            n_batches=o.parse_numbers("--batches", batches),
            executor=executor,
            images=ImageChoice(split, images),
            batch_size=batch_size,
            on_progress=start("fine-tune"),
        )
    facts = {
        "scores": str(out),
        "trained": report.n_trained,
        "scored": report.n_scored,
        "there already": report.n_finished,
        "failed": report.n_failed,
    }
    return print_json(facts) if json_ else print_rows("fine-tuned", facts)
