"""The command that compares the gradients of archs on the weights that they share."""

from pathlib import Path
from typing import Annotated

import typer

from wsx import options as o
from wsx.console import print_json, print_rows, progress_bar

Out = Annotated[
    Path | None,
    typer.Option("--out", help="Table of all pairs to write, .csv or .parquet."),
]


def gradients(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Out = None,
    checkpoint: o.Checkpoint = "last",
    n: o.N = None,
    archs: o.Archs = None,
    all_: o.All = False,
    seed: o.ArchSeed = 0,
    measure: o.Measure = None,
    images: Annotated[
        int | None,
        typer.Option("--images", help="Training images, a multiple of the batch; default one."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", help="Images per batch; default as in the run's training."),
    ] = None,
    image_seed: Annotated[int, typer.Option("--image-seed", help="Seed of the images.")] = 0,
    level: o.Level = 0.95,
    resamples: o.Resamples = 1000,
    data: o.DataNow = None,
    space: o.OwnSpace = None,
    quiet: o.Quiet = False,
    json_: o.Json = False,
) -> None:
    """Compare gradients of archs on shared weights: cosines, and how they go with the operations shared."""
    from wsx.analysis import Resampling
    from wsx.spaces import load_space
    from wsx.spaces.choice import ArchChoice
    from wsx.store.pairs import check_pairs_path, write_pairs
    from wsx.studies.gradients import GradientImages, agreement, compare_gradients
    from wsx.training import open_run

    # Before the work, not after it.
    resampling = Resampling(level=level, n_resamples=resamples)
    if out is not None:
        check_pairs_path(out)
    if space is not None:
        load_space(space)
    with progress_bar(is_quiet=quiet) as start:
        table = compare_gradients(
            open_run(run),
            ArchChoice(n, seed, measure, archs, all_),
            GradientImages(images, batch_size, image_seed),
            checkpoint=checkpoint,
            data=data,
            on_progress=start("gradients"),
        )
    if out is not None:
        write_pairs(table, out)
    found = agreement(table, resampling)
    written = {} if out is None else {"table": str(out)}
    if json_:
        return print_json({**written, **found.as_dict()})
    return print_rows("gradients on shared weights", {**written, **found.facts()})
