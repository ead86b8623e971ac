"""Racing the subnets of a run or of an exported folder; needs no torch."""

from wsx.analysis.race import RaceRules
from wsx.data import ImageSet, TextSet
from wsx.errors import OptionError
from wsx.evaluators.devices import Device
from wsx.evaluators.race_engine import RaceEngine
from wsx.evaluators.sources import SubnetSource, session_factory
from wsx.exporters.batchnorm import BatchNormMode
from wsx.studies.scoring import ScoringOptions


def check_race(
    mode: BatchNormMode, images: ImageSet | TextSet, *, engine: str = "onnx"
) -> ImageSet:
    """Return the images of a race; refuse where an outcome is not that of one image alone.

    Raises:
        OptionError: Scores are of text, depend on their batch, or come from the eager oracle.
    """
    if isinstance(images, TextSet):
        raise OptionError("--race is for images: the words of a text cannot be scored in any order")
    if mode.kind == "batch":
        raise OptionError(
            "--race scores images in another order, and in BatchNorm mode 'batch' an outcome depends on the "
            "images beside it; use --bn calibrated:4x256 or running"
        )
    if engine != "onnx":
        raise OptionError(f"--race runs in ONNX Runtime, not on engine {engine!r}; use onnx")
    return images


def race_engine(
    source: SubnetSource,
    images: ImageSet | TextSet,
    device: Device,
    options: ScoringOptions,
    rules: RaceRules,
    *,
    n_calibration_images: int,
) -> RaceEngine:
    """Return the engine that races a source's subnets.

    Raises:
        OptionError: See ``check_race``.
    """
    raced = check_race(source.mode, images)
    batch_size = options.batch_size_on(device, source.mode)
    factory = session_factory(source, device, n_threads=options.n_threads)
    return RaceEngine(source, factory, raced, batch_size, rules, n_calibration_images)
