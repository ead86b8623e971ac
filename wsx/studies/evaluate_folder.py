"""Scoring an exported folder; works where torch is not installed."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from wsx.analysis.race import RaceRules
from wsx.data import Dataset, ImageSet, TextDataset, load_data, load_text
from wsx.data.vocabulary import VOCABULARY_FILE, read_vocabulary
from wsx.errors import DataError, DeviceError, OptionError
from wsx.evaluators.devices import resolve_device
from wsx.evaluators.engines import Engine
from wsx.evaluators.population import PopulationReport
from wsx.evaluators.race_engine import RaceEngine
from wsx.evaluators.sources import FolderSource
from wsx.exporters.folder import ExportFolder, open_folder
from wsx.spaces.choice import ArchChoice
from wsx.store import ScoreKey
from wsx.studies.images import ImageChoice
from wsx.studies.race import check_race, race_engine
from wsx.studies.scoring import Listener, ScoringOptions, onnx_engine, score_into, settled


def evaluate_folder(
    path: Path,
    out: Path,
    *,
    choice: ArchChoice | None = None,
    images: ImageChoice | None = None,
    data: str | None = None,
    device: str = "auto",
    options: ScoringOptions | None = None,
    race: RaceRules | None = None,
    listener: Listener | None = None,
) -> tuple[ScoreKey, PopulationReport]:
    """Score the subnets of an export folder.

    Args:
        path: The folder.
        out: The score file.
        choice: Which archs; None takes all of the folder.
        images: Which images; None takes the whole test split.
        data: Another place for the dataset than the one in the manifest.
        device: ``auto``, ``cpu`` or ``cuda``.
        options: Batch size and workers.
        race: Find the top archs only, and score those; the report is then a ``RaceReport``.
        listener: Progress callbacks.

    Raises:
        ExportError: The folder is no export.
        DataError: The images are missing, or not those that the supernet was trained beside.
        DeviceError: The device cannot be used.
        OptionError: An option is out of range, or a race is not possible.
        StoreError: The score file cannot be used.
    """
    folder = open_folder(path)
    choice = choice or ArchChoice()
    options, listener = options or ScoringOptions(), listener or Listener()
    archs = list(folder.rows) if choice == ArchChoice() else choice.archs(folder.space)
    absent = [arch for arch in archs if arch not in folder.rows]
    if absent:
        raise OptionError(
            f"{path} lacks {len(absent)} of {len(archs)} archs, first {folder.space.format(absent[0])}; "
            "export them, or leave out --n, --archs and --all to score what is there"
        )
    image_set = (images or ImageChoice()).images(folder_data(folder, data))
    if isinstance(image_set, ImageSet):
        check_size(image_set, folder)
    found = resolve_device(device)
    source = FolderSource(folder)
    if race is not None:
        check_race(source.mode, image_set)
    if source.mode.kind == "batch" and not found.has_fused_norm:
        raise DeviceError(
            f"{path} was exported in BatchNorm mode batch, whose fused nodes run on the CPU alone; "
            "use --device cpu, or evaluate the run itself"
        )
    if options.is_isolated:
        raise OptionError("an exported folder is scored in one process; leave --isolate out")
    options = settled(options, source, image_set, archs, found)
    engine: Engine | RaceEngine = (
        onnx_engine(source, image_set, found, options)
        if race is None
        # What calibration took was paid when the folder was exported.
        else race_engine(source, image_set, found, options, race, n_calibration_images=0)
    )
    return score_into(
        out,
        archs,
        source,
        engine,
        image_set,
        bn_images_sha256=str(folder.facts.get("bn_images_sha256", "")),
        batch_size=options.batch_size_on(found, source.mode),
        n_workers=options.n_workers_on(found),
        info={
            "source": "folder",
            "exporter": folder.facts.get("exporter", "wsx"),
            **({} if race is None else {"race": asdict(race)}),
        },
        listener=listener,
    )


def folder_data(folder: ExportFolder, data: str | None) -> Dataset | TextDataset:
    """Return the dataset that a folder's subnets were trained on, or one that the caller names.

    Raises:
        DataError: It is missing or unusable, or nobody names one.
    """
    arguments = data_arguments(folder, data)
    if "n_tokens" not in folder.facts["supernet"]:
        return load_data(**arguments)
    return load_text(arguments["spec"], vocabulary=read_vocabulary(folder.path / VOCABULARY_FILE))


def check_size(images: ImageSet, folder: ExportFolder) -> None:
    """Refuse images that the subnets of a folder do not take.

    Raises:
        DataError: They have other channels, or another size.
    """
    expected = (folder.facts["supernet"]["in_channels"], folder.facts["supernet"]["image_size"])
    if (images.n_channels, images.image_size[0]) != expected:
        raise DataError(
            f"the images have {images.n_channels} channels and {images.image_size[0]} pixels a side; "
            f"the subnets take {expected[0]} and {expected[1]}"
        )


def data_arguments(folder: ExportFolder, data: str | None) -> dict[str, Any]:
    """Return what ``load_data`` needs for the images of a folder.

    Raises:
        DataError: Neither the manifest nor the caller names a dataset.
    """
    arguments = dict(folder.facts.get("data", {}))
    if data is not None:
        arguments["spec"] = data
    if "spec" not in arguments:
        raise DataError(f"{folder.path} names no dataset; give one with --data")
    return arguments
