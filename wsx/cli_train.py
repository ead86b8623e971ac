"""The commands that train: a supernet, or archs alone."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from wsx import options as o
from wsx.console import print_json, print_rows, progress_bar
from wsx.errors import OptionError


def train(
    space: o.Space,
    data: o.Data,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the run; an interrupted run goes on.")
    ],
    recipe: o.RecipeName = "default",
    set_: o.Set = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the training.")] = 0,
    data_seed: o.DataSeed = 0,
    n_train: o.NTrain = None,
    n_valid: o.NValid = None,
    n_test: o.NTest = None,
    image_size: o.ImageSize = None,
    restrict: Annotated[
        list[str] | None,
        typer.Option("--restrict", help="Options that a decision may take, NAME=A|B; repeatable."),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            "--groups", help="Who shares: random:M, consecutive:M, by:DECISION, list:FILE."
        ),
    ] = None,
    shared: Annotated[
        str | None,
        typer.Option("--shared", help="What all groups share: none, prefix:K or kinds of weights."),
    ] = None,
    copies: Annotated[
        str | None,
        typer.Option(
            "--copies", help="K:ARCH, copies of the operations of one arch instead of a space."
        ),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option("--init-from", help="Run or checkpoint whose weights are taken over."),
    ] = None,
    device: o.TorchDevice = "cpu",
    quiet: o.Quiet = False,
    json_: o.Json = False,
) -> None:
    """Train a supernet, with checkpoints and a log; a repeated command goes on where it stopped."""
    from wsx.spaces import load_space
    from wsx.spaces.restricted import parse_restriction
    from wsx.training import RECIPES, DataSpec, RunConfig, train_supernet

    described = load_space(space)
    config = RunConfig(
        described.name,
        RECIPES[recipe].override(o.parse_settings(set_)),
        DataSpec(data, data_seed, n_train, n_valid, n_test, image_size),
        seed,
        parse_restriction(restrict or [], described),
        _sharing(groups, shared, copies),
        init_from,
    )
    with progress_bar(is_quiet=quiet) as start:
        update = start(f"train {space}")
        n_steps = 0

        def on_progress(progress: Any) -> None:
            nonlocal n_steps
            n_steps += 1
            update(progress.step, progress.n_steps, progress.note)

        run = train_supernet(config, out, device=device, on_progress=on_progress)
    facts = {"run": str(out), "steps done now": n_steps, **run.facts()}
    return print_json(facts) if json_ else print_rows("trained", facts)


def train_standalone(
    space: o.Space,
    data: o.Data,
    out: Annotated[Path, typer.Option("--out", help="Truth table to write, .parquet or .csv.")],
    recipe: o.RecipeName = "default",
    set_: o.Set = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Training seeds, such as 0,1,2.")] = "0",
    n: o.N = None,
    archs: o.Archs = None,
    all_: o.All = False,
    seed: o.ArchSeed = 0,
    measure: o.Measure = None,
    split: o.Split = "test",
    data_seed: o.DataSeed = 0,
    n_train: o.NTrain = None,
    n_valid: o.NValid = None,
    n_test: o.NTest = None,
    image_size: o.ImageSize = None,
    workers: o.Workers = None,
    quiet: o.Quiet = False,
) -> None:
    """Make truth: train archs alone, each from scratch; a repeated command does what is missing."""
    from wsx.spaces import load_space
    from wsx.spaces.choice import ArchChoice
    from wsx.studies.truth import make_truth
    from wsx.training import RECIPES, DataSpec, RunConfig

    config = RunConfig(
        load_space(space).name,
        RECIPES[recipe].override(o.parse_settings(set_)),
        DataSpec(data, data_seed, n_train, n_valid, n_test, image_size),
        0,
    )
    with progress_bar(is_quiet=quiet) as start:
        update = start("train alone")
        table = make_truth(
            config,
            ArchChoice(n, seed, measure, archs, all_),
            o.parse_seeds(seeds),
            out,
            split=split,
            n_workers=(os.cpu_count() or 1) if workers is None else workers,
            on_score=update,
        )
    agreement = table.seed_agreement()
    print_rows(
        "truth",
        {
            "table": str(out),
            "archs": len(table),
            "trainings": len(table) * len(o.parse_seeds(seeds)),
            "mean accuracy": f"{table.accuracy.mean():.4f}",
            "agreement of seeds": "one seed"
            if agreement is None
            else f"tau {agreement.kendall:.3f}",
        },
    )


def _sharing(groups: str | None, shared: str | None, copies: str | None) -> dict[str, Any]:
    """Return who shares what, as runs keep it.

    Raises:
        OptionError: The options exclude one another, or copies are malformed.
    """
    if copies is not None:
        n, separator, arch = copies.partition(":")
        if not separator or not n.isdecimal() or groups or shared:
            raise OptionError(
                f"--copies {copies!r:.120} must read K:ARCH, without --groups and --shared"
            )
        return {"arch": arch, "copies": int(n)}
    return {name: text for name, text in {"groups": groups, "shared": shared}.items() if text}
