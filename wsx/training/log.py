"""The training log: a CSV file with one row per epoch, cut back to the resumed step on resuming."""

import csv
from collections.abc import Sequence
from pathlib import Path

from wsx.training.loop import Progress

FIELDS = ("epoch", "step", "loss", "accuracy", "lr", "images_per_s")


class TrainingLog:
    """Appends a row per epoch to a CSV file.

    Args:
        path: The file; rows past ``step`` are dropped, since they are about to be written again.
        step: The step that training starts from.
        fields: What of the progress goes into a row.
    """

    def __init__(self, path: Path, *, step: int, fields: Sequence[str] = FIELDS) -> None:
        self._path = path
        self._fields = fields
        rows = [row for row in read_log(path) if int(row["step"]) <= step]
        part = path.with_name(path.name + ".part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, fields)
            writer.writeheader()
            writer.writerows(rows)
        part.replace(path)

    def append(self, progress: Progress) -> None:
        """Write one row."""
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._fields).writerow(
                {name: _format(getattr(progress, name)) for name in self._fields}
            )


def read_log(path: Path) -> list[dict[str, str]]:
    """Return the complete rows of a log; none if there is no file.

    A last row that a crash cut short is left out.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        lines = [line for line in file if line.endswith("\n")]
    return list(csv.DictReader(lines))


def _format(value: float) -> str:
    # Steps are read back as integers: a million must not become 1e+06.
    return str(value) if isinstance(value, int) else f"{value:.6g}"
