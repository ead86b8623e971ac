"""A checkpoint of a run, opened to score or export its subnets."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from wsx.data import Dataset, ImageSet, TextDataset, TextSet
from wsx.evaluators.calibration import Calibrator, calibration_images
from wsx.evaluators.devices import Device, SessionFactory
from wsx.evaluators.eager import EagerOracle
from wsx.evaluators.text_eager import TextGate, TextOracle
from wsx.evaluators.verify import EqualityGate
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import Space
from wsx.store import ScoreKey
from wsx.studies.scoring import score_key
from wsx.supernets import Supernet
from wsx.supernets.checkpoint import Checkpoint
from wsx.supernets.text import TextSupernet
from wsx.training.run import Run
from wsx.training.text_data import run_vocabulary

N_GATE_IMAGES = 64


@dataclass(frozen=True)
class RunSubnets:
    """A checkpoint of a run, opened to score or export its subnets in one BatchNorm mode.

    Attributes:
        run: The run.
        bn: BatchNorm mode, in text form.
        checkpoint: Name of the checkpoint.
        data: Another place for the dataset than the one in the run.
    """

    run: Run
    bn: str
    checkpoint: str = "last"
    data: str | None = None

    @cached_property
    def mode(self) -> BatchNormMode:
        """The BatchNorm mode; ``none`` for text, whose supernets have no such layers."""
        mode = BatchNormMode.parse(self.bn)
        return BatchNormMode("none") if self._loaded[0].reads_text else mode

    @cached_property
    def _loaded(self) -> tuple[Supernet, Checkpoint]:
        return self.run.load(self.checkpoint)

    @cached_property
    def recorder(self) -> SubnetRecorder:
        """Records the subnets."""
        return SubnetRecorder(self._loaded[0], self.mode)

    @property
    def supernet(self) -> Supernet:
        """The supernet, in evaluation mode."""
        return self._loaded[0]

    @property
    def found(self) -> Checkpoint:
        """The checkpoint that the name stands for."""
        return self._loaded[1]

    @property
    def space(self) -> Space:
        """The space, with the archs that the run's restriction leaves."""
        return self.supernet.space

    @property
    def checkpoint_sha256(self) -> str:
        """Digest of the checkpoint."""
        return self._loaded[1].sha256

    @property
    def facts(self) -> dict[str, Any]:
        """Which run and which of its checkpoints it is, for provenance."""
        checkpoint, config = self.found, self.run.config
        return {
            "run": self.run.path.name,
            "run_seed": config.seed,
            "run_config": config.as_dict(),
            "checkpoint": checkpoint.path.stem,
            **{name: checkpoint.facts.get(name) for name in ("step", "epoch")},
        }

    def score_key(self, images: ImageSet | TextSet, *, batch_size: int, provider: str) -> ScoreKey:
        """Return the key of the checkpoint's scores."""
        return score_key(
            self,
            images,
            bn_images_sha256=self.bn_images_sha256,
            batch_size=batch_size,
            provider=provider,
        )

    @cached_property
    def dataset(self) -> Dataset | TextDataset:
        """The run's data."""
        spec = self.run.config.data
        spec = spec if self.data is None else replace(spec, spec=self.data)
        if not self._loaded[0].reads_text:
            return spec.load()
        return spec.load_text(run_vocabulary(self.run.path, self._loaded[1].facts))

    @cached_property
    def calibration(self) -> ImageSet | None:
        """The training images that BatchNorm statistics come from; None unless calibrated."""
        if self.mode.kind != "calibrated" or isinstance(self.dataset, TextDataset):
            return None
        return calibration_images(self.dataset.train, self.mode)

    def calibrator(self, device: Device) -> Calibrator | None:
        """Return what measures statistics on a device; None unless calibrated."""
        if self.calibration is None:
            return None
        factory = SessionFactory(self.recorder.weights, device)
        return Calibrator(factory, self.recorder.weights, self.calibration, self.mode)

    def oracle(self) -> EagerOracle | TextOracle:
        """Return the eager oracle of the checkpoint."""
        supernet = self._loaded[0]
        if isinstance(supernet, TextSupernet):
            return TextOracle(supernet)
        return EagerOracle(supernet, self.mode, self.calibration)

    def gate(
        self, factory: SessionFactory, calibrate: Calibrator | None
    ) -> EqualityGate | TextGate:
        """Return what compares exported subnets with PyTorch, on the first test images or test tokens."""
        supernet, dataset, oracle = self._loaded[0], self.dataset, self.oracle()
        if isinstance(supernet, TextSupernet) and isinstance(dataset, TextDataset):
            return TextGate(supernet, factory, dataset.test)
        assert isinstance(dataset, Dataset)
        assert isinstance(oracle, EagerOracle)
        test = dataset.test
        images = test.take(min(N_GATE_IMAGES, len(test)))
        return EqualityGate(oracle, self.recorder, factory, images, calibrate)

    @property
    def bn_images_sha256(self) -> str:
        """Digest of the calibration images; empty where there are none."""
        return "" if self.calibration is None else self.calibration.digest
