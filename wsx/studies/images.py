"""Which images a population is scored on."""

from dataclasses import dataclass
from typing import overload

from wsx.data import Dataset, ImageSet, TextDataset, TextSet
from wsx.errors import OptionError

SPLITS = ("valid", "test")


@dataclass(frozen=True)
class ImageChoice:
    """A split, or its first images.

    Attributes:
        split: ``valid`` or ``test``.
        n: How many images; None takes all.
    """

    split: str = "test"
    n: int | None = None

    @overload
    def images(self, dataset: Dataset) -> ImageSet: ...
    @overload
    def images(self, dataset: Dataset | TextDataset) -> ImageSet | TextSet: ...
    def images(self, dataset: Dataset | TextDataset) -> ImageSet | TextSet:
        """Return the images, or the text, of which ``n`` counts tokens.

        Raises:
            OptionError: There is no such split.
            DataError: The split has fewer images.
        """
        if self.split not in SPLITS:
            raise OptionError(f"split {self.split!r} is none of: {', '.join(SPLITS)}")
        images: ImageSet | TextSet = getattr(dataset, self.split)
        return images if self.n is None else images.take(self.n)
