"""Which images a population is scored on."""

from dataclasses import dataclass

from wsx.data import Dataset, ImageSet
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

    def images(self, dataset: Dataset) -> ImageSet:
        """Return the images.

        Raises:
            OptionError: There is no such split.
            DataError: The split has fewer images.
        """
        if self.split not in SPLITS:
            raise OptionError(f"split {self.split!r} is none of: {', '.join(SPLITS)}")
        images: ImageSet = getattr(dataset, self.split)
        return images if self.n is None else images.take(self.n)
