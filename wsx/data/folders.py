"""Images in folders: ``train/<class>/*.jpg`` and so on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.data.decode import decode_images
from wsx.data.source import SPLIT_WORDS, Source, SourceSplit, by_split
from wsx.errors import DataError

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


def folder_source(root: Path) -> Source:
    """Return the source whose splits are folders with one folder of images per class.

    Classes are the sorted folder names of ``train``; rows count the image files class by class,
    sorted by name. Hidden files and other suffixes are passed over.

    Raises:
        DataError: There is no ``train``, a split has no image, or a class that ``train`` has not.
    """
    words = {
        path.name: path for path in root.iterdir() if path.is_dir() and path.name in SPLIT_WORDS
    }
    folders = by_split(words, str(root))
    if "train" not in folders:
        raise DataError(
            f"{root} holds neither tables named after a split (train.parquet, "
            f"train-00000-of-00001.parquet, train.arrow) nor images in train/<class>/"
        )
    names = tuple(_class_folders(folders["train"]))
    return Source({name: _split(name, folder, names) for name, folder in folders.items()}, names)


def _class_folders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _split(name: str, folder: Path, class_names: tuple[str, ...]) -> SourceSplit:
    foreign = sorted(set(_class_folders(folder)) - set(class_names))
    if foreign:
        raise DataError(f"{folder / foreign[0]}: train has no class {foreign[0]!r}")
    paths: list[Path] = []
    labels: list[int] = []
    for label, class_name in enumerate(class_names):
        files = _images(folder / class_name)
        paths += files
        labels += [label] * len(files)
    if not paths:
        raise DataError(f"{folder} holds no image in folders named after classes")

    def read(
        rows: NDArray[np.int64], image_size: tuple[int, int] | None
    ) -> list[NDArray[np.uint8]]:
        chosen = [paths[row] for row in rows]
        return decode_images(chosen, [str(path) for path in chosen], image_size)

    return SourceSplit(name, np.array(labels, np.int64), read, lambda row: str(paths[row]))


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )
