"""Truth from a table, or, at scales for which there is none, from archs that the study trains alone."""

from dataclasses import dataclass
from pathlib import Path

from wsx.spaces.choice import ArchChoice
from wsx.studies.papers._base import Step
from wsx.studies.papers.steps import TRUTH, TrainAlone
from wsx.studies.papers.variants import RankedSettings
from wsx.truth import TruthTable, load_truth


@dataclass(frozen=True)
class OwnTruthSettings(RankedSettings):
    """Numbers of a study that trains archs alone where no truth is given.

    Attributes:
        n_truth_seeds: Stand-alone trainings of each arch; 0 where a table has to be given.
    """

    n_truth_seeds: int = 0

    @property
    def trains_truth(self) -> bool:
        """Whether the study makes its own truth."""
        return not self.truth and self.n_truth_seeds > 0

    def truth_steps(self, texts: tuple[str, ...]) -> list[Step]:
        """Return the step that trains archs alone, if the study makes its own truth."""
        if not self.trains_truth:
            return []
        config = self.run_config(self.recipe, 0)
        return [TrainAlone("alone", config, ArchChoice(texts=texts), range(self.n_truth_seeds))]

    def truth_in(self, folder: Path) -> TruthTable:
        """Return the truth, given or made.

        Raises:
            StudyError: None is given, and the study makes none.
            TruthError: It cannot be read.
        """
        return load_truth(folder / TRUTH) if self.trains_truth else self.load_truth()
