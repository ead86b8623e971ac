"""Searching among the subnets of an exported folder; works where torch is not installed."""

from pathlib import Path

from wsx.data import ImageSet
from wsx.errors import DeviceError, OptionError
from wsx.evaluators.devices import resolve_device
from wsx.evaluators.sources import FolderSource
from wsx.exporters.folder import open_folder
from wsx.search import Candidates, OnProgress
from wsx.studies.evaluate_folder import check_size, folder_data
from wsx.studies.images import ImageChoice
from wsx.studies.scoring import ScoringOptions, onnx_engine, score_key, settled
from wsx.studies.search.report import SearchReport
from wsx.studies.search.scored import Scorer, search_scored
from wsx.studies.search.settings import SearchSettings


def search_folder(
    path: Path,
    out: Path,
    settings: SearchSettings,
    *,
    images: ImageChoice,
    data: str | None = None,
    device: str = "auto",
    options: ScoringOptions | None = None,
    on_progress: OnProgress | None = None,
) -> SearchReport:
    """Search among the subnets of an export folder; draws are uniform over them.

    Args:
        path: The folder.
        out: The score file.
        settings: What to look for, and how.
        images: What is searched on.
        data: Another place for the dataset than the one in the manifest.
        device: ``auto``, ``cpu`` or ``cuda``.
        options: Batch size and workers.
        on_progress: Called as trials end.

    Raises:
        ExportError: The folder is no export.
        DataError: The images are missing, or not those that the supernet was trained beside.
        DeviceError: The device cannot be used.
        OptionError: An option is out of range, or too few archs are allowed.
        StoreError: The score file cannot be used.
        TruthError: The truth cannot be read.
        WsxError: No arch could be scored.
    """
    folder, found, asked = open_folder(path), resolve_device(device), options or ScoringOptions()
    if asked.is_isolated:
        raise OptionError("an exported folder is scored in one process; leave --isolate out")
    source = FolderSource(folder)
    if source.mode.kind == "batch" and not found.has_fused_norm:
        raise DeviceError(
            f"{path} was exported in BatchNorm mode batch, whose fused nodes run on the CPU alone; "
            "use --device cpu, or search the run itself"
        )
    archs = list(folder.rows)
    candidates = Candidates(
        source.space,
        measure=settings.measure,
        only=archs,
        limits=settings.limits,
        cost=source.cost,
    )
    dataset = folder_data(folder, data)

    def open_scorer(images: ImageChoice) -> Scorer:
        image_set = images.images(dataset)
        if isinstance(image_set, ImageSet):
            check_size(image_set, folder)
        work = archs[: settings.algorithm.budget]
        chosen = settled(asked, source, image_set, work, found)
        engine = onnx_engine(source, image_set, found, chosen)
        key = score_key(
            source,
            image_set,
            bn_images_sha256=str(folder.facts.get("bn_images_sha256", "")),
            batch_size=chosen.batch_size_on(found, source.mode),
            provider=engine.provider,
        )
        info = {"source": "folder", "exporter": folder.facts.get("exporter", "wsx")}
        return Scorer(key, source, engine, image_set, chosen.n_workers_on(found), None, info)

    return search_scored(open_scorer, candidates, images, out, settings, on_progress)
