"""Options of the command line that several commands share, and how their texts are read."""

from pathlib import Path
from typing import Annotated

import typer

from wsx.errors import OptionError

Space = Annotated[
    str, typer.Option("--space", help="Space, see `wsx spaces`, or FILE.py:NAME of your own.")
]
OwnSpace = Annotated[
    str | None,
    typer.Option("--space", help="FILE.py:NAME, where the run's space is code of your own."),
]
Data = Annotated[
    str, typer.Option("--data", help="digits, NAME=PATH, or a name on the Hugging Face hub.")
]
N = Annotated[int | None, typer.Option("--n", help="How many archs to draw.")]
Archs = Annotated[
    Path | None, typer.Option("--archs", help="File with one arch, or index, a line.")
]
All = Annotated[bool, typer.Option("--all", help="Every arch of the measure.")]
ArchSeed = Annotated[int, typer.Option("--seed", help="Seed of the draw.")]
Measure = Annotated[
    str | None,
    typer.Option(
        "--measure", help="What the draw is uniform over, see `wsx spaces NAME`; or list:FILE."
    ),
]
Bn = Annotated[str, typer.Option("--bn", help="batch, running, or calibrated:STEPSxBATCH.")]
Checkpoint = Annotated[str, typer.Option("--checkpoint", help="Name of a checkpoint, or last.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Override a value, KEY=VALUE; repeatable.")
]
SetSupernet = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Option of the supernet, KEY=VALUE; choose few channels, small images."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, or cuda:0,cuda:1.")]
Truth = Annotated[
    str | None,
    typer.Option("--truth", help="PATH:COLUMN, a NATS-Bench folder, or a packaged table."),
]
By = Annotated[str, typer.Option("--by", help="Rank archs by accuracy or loss.")]
Campaign = Annotated[
    str | None, typer.Option("--campaign", help="Beginning of a campaign's digest.")
]
Panel = Annotated[
    bool,
    typer.Option(
        "--panel",
        help="All campaigns of the file together: variance, stability and ranks over runs and checkpoints.",
    ),
]
Finetuned = Annotated[
    bool, typer.Option("--finetuned", help="With --panel: campaigns of fine-tuned subnets.")
]
Window = Annotated[
    int | None,
    typer.Option(
        "--window", help="With --panel: last checkpoints that are a run's end; default all."
    ),
]
Period = Annotated[
    int | None,
    typer.Option(
        "--period", help="With --panel: period in steps to look for; default the number of archs."
    ),
]
DataSeed = Annotated[int, typer.Option("--data-seed", help="Seed of the splits.")]
NTrain = Annotated[int | None, typer.Option("--n-train", help="Training images kept.")]
NValid = Annotated[int | None, typer.Option("--n-valid", help="Validation images.")]
NTest = Annotated[int | None, typer.Option("--n-test", help="Test images.")]
ImageSize = Annotated[
    int | None, typer.Option("--image-size", help="Resize images to so many pixels a side.")
]
DataNow = Annotated[str | None, typer.Option("--data", help="Where the run's data lies now.")]
RecipeName = Annotated[str, typer.Option("--recipe", help="Recipe, see `wsx recipes`.")]
Scores = Annotated[Path, typer.Argument(help="Score file.")]
Resamples = Annotated[int, typer.Option("--resamples", help="Bootstrap resamples.")]
Exporter = Annotated[str, typer.Option("--exporter", help="wsx, or torch for the official one.")]
Verify = Annotated[
    str, typer.Option("--verify", help="How many subnets to compare with PyTorch, or all.")
]
BnOfRun = Annotated[
    str | None, typer.Option("--bn", help="For runs: batch, running, or calibrated:STEPSxBATCH.")
]
Images = Annotated[
    int | None, typer.Option("--images", help="Score on so many images; default all.")
]
Engine = Annotated[str, typer.Option("--engine", help="onnx, or torch for the eager oracle.")]
Split = Annotated[str, typer.Option("--split", help="Split to measure on: valid or test.")]
Workers = Annotated[
    int | None, typer.Option("--workers", help="How many at once; default suits the machine.")
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Images per batch.")]
Merge = Annotated[
    str | None,
    typer.Option(
        "--merge",
        help="Most subnets of a run that one model scores, or auto, or never; changes no score.",
    ),
]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate", help="Score in worker processes, replaced when they die or grow old."
    ),
]
Level = Annotated[float, typer.Option("--level", help="Level of the intervals.")]
TorchDevice = Annotated[str, typer.Option("--device", help="Torch device, such as cpu or cuda.")]
DemoOut = Annotated[Path, typer.Option("--out", help="Folder for the run, scores and report.")]


def parse_settings(settings: list[str] | None) -> dict[str, str]:
    """Return ``KEY=VALUE`` texts as a mapping.

    Raises:
        OptionError: A text has no ``=``.
    """
    pairs = {}
    for text in settings or []:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise OptionError(f"--set {text!r} must read KEY=VALUE, such as lr=0.05")
        pairs[name] = value
    return pairs


def parse_seeds(text: str) -> list[int]:
    """Return comma-separated seeds.

    Raises:
        OptionError: A part is no integer of at least 0, or one is named twice.
    """
    return parse_numbers("--seeds", text)


def parse_numbers(option: str, text: str) -> list[int]:
    """Return comma-separated numbers, all different.

    Raises:
        OptionError: A part is no integer of at least 0, or one is named twice.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise OptionError(f"{option} {text!r} must be integers separated by commas, such as 0,1,2")
    numbers = [int(part) for part in parts]
    if len(set(numbers)) < len(numbers):
        raise OptionError(
            f"{option} {text!r} names a {'seed' if option == '--seeds' else 'number'} twice"
        )
    return numbers
